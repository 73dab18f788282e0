// A few figures with their names, side by side. Knows none of them.

import { element, fill } from "./dom.js";

/** Show `[name, value, note]`, always as many. */
export function tellFacts(parent, entries) {
  while (parent.children.length < entries.length) {
    const value = element("dd", {}, element("span"), element("small"));
    parent.append(element("div", {}, element("dt"), value));
  }
  entries.forEach(([name, value, note = ""], place) => {
    const [dt, dd] = parent.children[place].children;
    fill(dt, name);
    fill(dd.firstChild, value);
    fill(dd.lastChild, note);
  });
}
