// The history of one row: what each step asked for it, was answered, and made of it.

import { byId, element, fill } from "./dom.js";
import { pairs } from "./rows.js";

/** Let the reader ask for a row by its id; returns a function that asks for one. */
export function rowHistory(api, path) {
  const place = byId("history");

  async function tell(rowId) {
    byId("row-id").value = rowId;
    fill(place, element("p", { class: "quiet" }, "Looking …"));
    byId("find").scrollIntoView({ block: "nearest" });
    try {
      const query = new URLSearchParams({ row_id: rowId });
      const { steps } = await api.get(`${path}/rows?${query}`);
      fill(place, ...steps.map(passage));
    } catch (error) {
      fill(place, element("p", { class: "wrong" }, error.message));
    }
  }

  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    tell(byId("row-id").value.trim());
  });
  return tell;
}

function passage({ step, row_id: rowId, requests, answers, value, meta, parents }) {
  const talk = requests.flatMap((request, place) => [
    ["asked", request.messages ?? request.prompt ?? request.input ?? request],
    ["answered", answers[place]],
  ]);
  const entries = [...talk, ["made", value], ["about it", meta], ["made of", parents.join(", ")]];
  return element(
    "section",
    {},
    element("h3", {}, `${step} · ${rowId}`),
    element("dl", { class: "pairs" }, pairs(entries)),
  );
}
