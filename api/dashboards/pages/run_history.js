// The history of one row: what each step asked for it, was answered, and made of it.

import { keep, kept } from "./address.js";
import { byId, element, fill } from "./dom.js";
import { pairs } from "./rows.js";

const NAME = "row"; // in the address

/**
 * Let the reader ask for a row by its id. Returns `tell(id)`, which asks for one, and `tellKept()`,
 * which asks for the one that the address names, if it names any.
 */
export function rowHistory(api, path) {
  const place = byId("history");

  async function tell(rowId) {
    byId("row-id").value = rowId;
    keep(NAME, rowId);
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
  return { tell, tellKept: () => kept(NAME) && tell(kept(NAME)) };
}

function passage({ step, row_id: rowId, requests, answers, value, meta, error, parents }) {
  const talk = requests.flatMap((request, place) => [
    ["asked", request.messages ?? request.prompt ?? request.input ?? request],
    ["answered", answers[place]],
  ]);
  const told = pairs([
    ...talk,
    ["made", value],
    ["went wrong", error && `${error.code}: ${error.message}`],
    ["about it", meta],
    ["made of", parents.join(", ")],
  ]);
  return element(
    "section",
    {},
    element("h3", {}, `${step} · ${rowId}`),
    told.length
      ? element("dl", { class: "pairs" }, told)
      : element("p", { class: "quiet" }, "It went through as it was."),
  );
}
