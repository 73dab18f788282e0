// A bar that fills: what succeeded, what failed, what is under way. Knows no job.

import { element, shape } from "./dom.js";
import { percent } from "./format.js";

/** Make a bar; `set({total, succeeded, failed, running})` moves it. */
export function progressBar(label) {
  const parts = ["succeeded", "failed", "running"].map((name) =>
    shape("rect", { class: name, x: 0, y: 0, width: 0, height: 1 }),
  );
  const node = element(
    "div",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": 0,
    },
    shape(
      "svg",
      { viewBox: "0 0 1000 1", preserveAspectRatio: "none", "aria-hidden": "true" },
      parts,
    ),
  );
  return {
    node,
    set(rows) {
      const total = Math.max(rows.total, 1);
      let from = 0;
      [rows.succeeded, rows.failed, rows.running].forEach((value, place) => {
        const width = Math.min((1000 * (value ?? 0)) / total, 1000 - from);
        parts[place].setAttribute("x", from.toFixed(2));
        parts[place].setAttribute("width", width.toFixed(2));
        from += width;
      });
      const done = (rows.succeeded + rows.failed) / total;
      node.setAttribute("aria-valuenow", Math.floor(done * 100));
      node.setAttribute("aria-valuetext", percent(done));
    },
  };
}
