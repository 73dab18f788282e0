// Makes and changes elements. Knows no job. Whatever is put on a page goes through here as text:
// nothing in these modules takes markup, so no name, output or error can become any.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element. Attributes that are functions listen; false and null leave them out. */
export function element(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** Make an SVG element, in the same way. */
export function shape(name, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, name), attributes, children);
}

/** Give an element new children, unless they are the same text. */
export function fill(parent, ...children) {
  const [only] = children;
  if (children.length === 1 && !(only instanceof Node)) {
    const text = String(only ?? "");
    if (parent.textContent !== text || parent.childElementCount) parent.textContent = text;
    return parent;
  }
  parent.replaceChildren(...children.filter((child) => child != null && child !== false));
  return parent;
}

/** Find the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Show or hide an element. */
export function reveal(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

/**
 * A list on the page that follows a list of things: a thing keeps its element, and with it the
 * reader's focus, for as long as it is there. `make(item)` returns `{ node, update(item) }`.
 */
export class Followed {
  constructor(parent, keyOf, make) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
    this.known = new Map();
  }

  show(items) {
    const kept = new Map();
    items.forEach((item, place) => {
      const key = this.keyOf(item);
      const view = this.known.get(key) ?? this.make(item);
      view.update(item);
      kept.set(key, view);
      const there = this.parent.children[place];
      if (there !== view.node) this.parent.insertBefore(view.node, there ?? null);
    });
    for (const [key, view] of this.known) if (!kept.has(key)) view.node.remove();
    this.known = kept;
  }
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value != null && value !== false) node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}
