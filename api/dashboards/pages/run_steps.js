// The table of a run's steps.

import { byId, element, fill } from "./dom.js";
import { brief, count, state } from "./format.js";
import { progressBar } from "./progress.js";
import { Table } from "./table.js";

/** The table: `show(steps)` brings it up to date, `onChoice(id)` hears of a click. */
export function stepTable(onChoice) {
  return new Table(byId("steps"), {
    texts: ["Step", "State", "Shards"],
    numbers: ["Rows in", "Out", "Dropped", "Failed", "Defaulted", "From cache", "Tokens"],
    keyOf: ({ id }) => id,
    line: (cells) => stepLine(cells, onChoice),
  });
}

function stepLine(cells, onChoice) {
  const bar = progressBar("Shards done");
  const share = element("small", { class: "quiet" });
  const link = element("button", { type: "button", class: "link" });
  const kind = element("small", { class: "quiet" });
  link.addEventListener("click", () => onChoice(link.textContent));
  fill(cells.Step, link, kind);
  fill(cells.Shards, bar.node, share);
  return ({ id, type, models, state: stage, shards: { done, total }, rows, usage }) => {
    fill(link, id);
    fill(kind, [type, ...models].join(" · "));
    if (cells.State.textContent !== stage) fill(cells.State, state(stage));
    bar.set({ total: total ?? 1, succeeded: total == null ? 0 : done, failed: 0, running: 0 });
    fill(share, total == null ? `${count(done)} so far` : `${count(done)} of ${count(total)}`);
    const figures = {
      "Rows in": count(rows.in),
      Out: count(rows.out),
      Dropped: count(rows.dropped),
      Failed: count(rows.failed),
      Defaulted: count(rows.defaulted),
      "From cache": count(rows.cached),
      Tokens: brief(usage.completion_tokens),
    };
    for (const [name, text] of Object.entries(figures)) {
      fill(cells[name], text);
      cells[name].classList.toggle("none", text === "0"); // quiet, and on narrow screens left out
    }
    cells.Failed.classList.toggle("alarm", rows.failed > 0);
  };
}
