// Named numbers as horizontal bars, the largest first. Knows no job.

import { element, fill, shape } from "./dom.js";
import { count } from "./format.js";

const MOST = 12; // the rest is told as one

/** Draw `[name, number]` pairs; `nothing` is said where there are none. */
export function drawBars(parent, pairs, nothing, kind = "") {
  const sorted = [...pairs].sort((a, b) => b[1] - a[1]);
  const rest = sorted.splice(MOST).reduce((sum, [, value]) => sum + value, 0);
  if (rest) sorted.push(["all others", rest]);
  const drawn = JSON.stringify(sorted);
  if (parent.dataset.drawn === drawn) return; // or the reader would lose what is selected
  parent.dataset.drawn = drawn;
  if (!sorted.length) {
    fill(parent, element("p", { class: "empty" }, nothing));
    return;
  }
  const most = sorted[0][1];
  fill(
    parent,
    element(
      "dl",
      {},
      sorted.map(([name, value]) =>
        element(
          "div",
          {},
          element("dt", { title: name }, name),
          element(
            "dd",
            {},
            shape(
              "svg",
              { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
              shape("rect", { class: kind, width: Math.max((100 * value) / most, 0.5), height: 1 }),
            ),
            element("span", {}, count(value)),
          ),
        ),
      ),
    ),
  );
}
