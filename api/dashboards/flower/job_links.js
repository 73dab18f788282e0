// Makes the ids of jobs in Flower's tables and on its pages of tasks lead to the jobs' own pages.
// Works on text that is there already; what is in a link or being typed is left as it is.

const JOB = /\bjob_[0-9A-HJKMNP-TV-Z]{26}\b/g;
const LEFT_ALONE = "a, script, style, input, textarea, button";

const pages = document.querySelector("meta[name=penstock-pages]").content;

function link(text) {
  const found = [...text.data.matchAll(JOB)].reverse(); // from the end: places before it stay
  for (const { 0: id, index } of found) {
    const rest = text.splitText(index);
    rest.splitText(id.length);
    const anchor = document.createElement("a");
    anchor.href = `${pages}/ui/jobs/${id}`;
    anchor.textContent = id;
    rest.replaceWith(anchor);
  }
}

function linkAll(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    if (!text.parentElement?.closest(LEFT_ALONE)) link(text);
  }
}

linkAll(document.body);
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) if (node.nodeType === Node.ELEMENT_NODE) linkAll(node);
  }
}).observe(document.body, { childList: true, subtree: true });
