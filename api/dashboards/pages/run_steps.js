// The table of a run's steps.

import { byId, element, fill, Followed } from "./dom.js";
import { brief, count, state } from "./format.js";
import { progressBar } from "./progress.js";

const NAMES = [
  "Step",
  "State",
  "Shards",
  "Rows in",
  "Out",
  "Dropped",
  "Failed",
  "Defaulted",
  "From cache",
  "Tokens",
];
const TEXTUAL = 3; // of them

/** The table: `show(steps)` brings it up to date, `onChoice(id)` hears of a click. */
export function stepTable(onChoice) {
  return new Followed(
    byId("steps").tBodies[0],
    (step) => step.id,
    () => line(onChoice),
  );
}

function line(onChoice) {
  const cells = NAMES.map((name, place) =>
    element("td", { "data-label": name, class: place < TEXTUAL ? "text" : "number" }),
  );
  const [step, stage, shards, ...figures] = cells;
  const bar = progressBar("Shards done");
  const share = element("small", { class: "quiet" });
  const link = element("button", { type: "button", class: "link" });
  const kind = element("small", { class: "quiet" });
  link.addEventListener("click", () => onChoice(link.textContent));
  fill(step, link, kind);
  fill(shards, bar.node, share);
  return {
    node: element("tr", {}, cells),
    update(now) {
      fill(link, now.id);
      fill(kind, [now.type, ...now.models].join(" · "));
      if (stage.textContent !== now.state) fill(stage, state(now.state));
      const { done, total } = now.shards;
      bar.set({ total: total ?? 1, succeeded: total == null ? 0 : done, failed: 0, running: 0 });
      fill(share, total == null ? `${count(done)} so far` : `${count(done)} of ${count(total)}`);
      const { rows } = now;
      const told = [rows.in, rows.out, rows.dropped, rows.failed, rows.defaulted, rows.cached];
      [...told.map(count), brief(now.usage.completion_tokens)].forEach((text, at) => {
        fill(figures[at], text);
        figures[at].classList.toggle("none", text === "0"); // which narrow screens leave out
      });
      figures[3].classList.toggle("alarm", rows.failed > 0);
    },
  };
}
