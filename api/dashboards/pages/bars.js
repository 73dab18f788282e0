// Named numbers as horizontal bars, the largest first. Knows no job.

import { element, fill, shape } from "./dom.js";
import { count } from "./format.js";

const MOST = 12; // the rest is told as one, until the reader asks for all

/** Draw `[name, number]` pairs; `nothing` is said where there are none. */
export function drawBars(parent, pairs, nothing, kind = "") {
  const all = [...pairs].sort((a, b) => b[1] - a[1]);
  const isWhole = parent.dataset.whole != null || all.length <= MOST + 1;
  const drawn = JSON.stringify([all, isWhole]);
  if (parent.dataset.drawn === drawn) return; // or the reader would lose what is selected
  parent.dataset.drawn = drawn;
  if (!all.length) {
    fill(parent, element("p", { class: "empty" }, nothing));
    return;
  }
  const shown = isWhole ? all : all.slice(0, MOST);
  const rest = all.slice(shown.length).reduce((sum, [, value]) => sum + value, 0);
  if (rest) shown.push([`${all.length - MOST} others`, rest]);
  const most = Math.max(...shown.map(([, value]) => value));
  const showAll = () => {
    parent.dataset.whole = "";
    drawBars(parent, pairs, nothing, kind);
  };
  const lines = shown.map(([name, value]) => bar(name, value, value / most, kind));
  const button = { type: "button", class: "link", click: showAll };
  fill(
    parent,
    element("dl", {}, lines),
    isWhole ? null : element("button", button, `Show all ${all.length}`),
  );
}

function bar(name, value, share, kind) {
  const size = { width: Math.max(100 * share, 0.5), height: 1 };
  return element(
    "div",
    {},
    element("dt", { title: name }, name),
    element(
      "dd",
      {},
      shape(
        "svg",
        { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
        shape("rect", { class: kind, ...size }),
      ),
      element("span", {}, count(value)),
    ),
  );
}
