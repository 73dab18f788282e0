// What a job was told to do, and what can be taken away from it.

import { keep, kept } from "./address.js";
import { byId, element, fill } from "./dom.js";
import { count } from "./format.js";
import { patiently } from "./reader.js";
import { pairs } from "./rows.js";

const LINES = 50; // told of those that could not become rows
const NAME = "lines"; // in the address, where they are unfolded

/** Write down a task as the API tells it. */
export function tellTask(task) {
  const sampling = Object.entries(task.sampling).map(
    ([name, value]) => `${name} ${JSON.stringify(value)}`,
  );
  const columns = Object.entries(task.columns).map(([name, kind]) => `${name} ${kind}`);
  const hasOptions = Object.keys(task.template_options).length > 0;
  fill(
    byId("task"),
    ...pairs([
      ["model", task.model],
      ["endpoint", task.endpoint],
      ["prompt", task.prompt],
      ...(task.messages ?? []).map(({ role, content }) => [role, content]),
      ["sampling", sampling.join("\n") || "the model's own"],
      ["answers", task.response_format],
      ["tools", task.tools],
      ["template options", hasOptions ? task.template_options : null],
      ["id column", task.id_column],
      ["columns", columns.join("\n")],
      ["shards", `${count(task.shards.total)} of up to ${count(task.shards.rows)} rows`],
    ]),
  );
}

/** Offer files to save, and places to go to; `save(path, filename, option)` saves one. */
export function offerLinks(job, flower, save) {
  const { id } = job;
  const told = `${job.status} ${job.counts.failed > 0} ${flower}`;
  if (byId("links").dataset.told === told) return; // or what is being clicked would go away
  byId("links").dataset.told = told;
  const file = (label, path, filename, option = "") => {
    const click = () => save(path, filename, option);
    const button = { type: "button", class: "link", click };
    return element("li", {}, element("button", button, label));
  };
  const place = (address, label) => element("li", {}, element("a", { href: address }, label));
  const shards = `/tasks?name=penstock.generate%20kwargs:${encodeURIComponent(id)}`;
  fill(
    byId("links"),
    file("All rows, as JSON lines", "results", `${id}.jsonl`),
    job.counts.failed
      ? file(
          "Failed rows, as JSON lines",
          "results?status=failed",
          `${id}-failed.jsonl`,
          "--status failed ",
        )
      : null,
    job.status.startsWith("completed")
      ? file("The manifest", "manifest", `${id}_manifest.json`)
      : null,
    flower ? place(flower.replace(/\/$/, "") + shards, "Its shards in Flower") : null,
  );
}

/** Tell, once it is asked for, which lines could not become rows. */
export function tellRejected(api, path) {
  const place = byId("rejected");
  const tell = async () => {
    const { data } = await patiently(() => api.get(`${path}/errors?limit=${LINES}`));
    const lines = data.filter(({ line }) => line != null);
    const items = lines.map(({ line, message }) => element("li", {}, `line ${line}: ${message}`));
    fill(place.querySelector("ul"), ...items);
  };
  place.addEventListener("toggle", tell, { once: true });
  place.addEventListener("toggle", () => keep(NAME, place.open ? "open" : ""));
  place.open = kept(NAME) === "open";
}
