// The page of one job: how far it is, how fast it goes, what came of it, and how to steer it.

import { Refused } from "./api.js";
import { drawBars } from "./bars.js";
import { byId, element, fill, reveal } from "./dom.js";
import { ago, brief, count, duration, hasEnded, milliseconds, percent, state } from "./format.js";
import { drawChips, Paging } from "./paging.js";
import { Plot } from "./plot.js";
import { progressBar } from "./progress.js";
import { greet, patiently } from "./reader.js";
import { jobRow, pairs } from "./rows.js";
import { actions, openPage, shownId, showWhenReady } from "./shell.js";

const JOB_EVERY_MS = 1000;
const HISTORY_EVERY_MS = 2500;
const PAGE = 15;

const id = shownId();
const path = `/v1/jobs/${encodeURIComponent(id)}`;
const api = openPage();
const bar = progressBar("Rows done");
const flights = new Map(); // worker -> what it has in flight of this job
const plots = {
  tokens: new Plot(byId("tokens-plot"), [{ name: "tokens per second", kind: "", isBars: true,
    of: (point) => point.tokens_per_s }], (value) => `${brief(value)} tokens/s`, brief),
  rows: new Plot(byId("rows-plot"), [{ name: "rows per second", kind: "", isBars: true,
    of: (point) => point.rows_per_s }], (value) => `${brief(value)} rows/s`, brief),
  latency: new Plot(byId("latency-plot"), [
    { name: "median", kind: "", of: (point) => point.latency_p50_ms },
    { name: "95 of 100", kind: "second", of: (point) => point.latency_p95_ms },
  ], milliseconds, milliseconds),
};
let job = null;
let band = null;
let rowsWanted = "";

byId("bar").append(bar.node);
fill(byId("id"), id);

const post = (verb) => async () => show(await api.post(`${path}/${verb}`));
const offer = actions(
  byId("acts"),
  [
    { name: "pause", label: "Pause", title: "Pause this job?", act: post("pause"),
      words: "Nothing more of it is begun. What is running goes on to its end, and lands.",
      isOffered: (now) => !hasEnded(now.status) && now.status !== "paused" },
    { name: "resume", label: "Resume", title: "Resume this job?", act: post("resume"),
      words: "It goes on where it stands.", isOffered: (now) => now.status === "paused" },
    { name: "cancel", label: "Cancel job", title: "Cancel this job?", act: post("cancel"),
      words: "Rows that have landed stay. The others are not run, and this cannot be undone.",
      isOffered: (now) => !hasEnded(now.status) },
    { name: "retry", label: "Retry failed rows", title: "Run the failed rows again?",
      words: "They run as a job of their own. When it completes, its rows take their places here.",
      act: async () => {
        const made = await api.post(`${path}/retry`);
        location.assign(`/ui/jobs/${encodeURIComponent(made.id)}`);
      },
      isOffered: (now) => hasEnded(now.status) && now.counts.failed > 0 },
  ],
  (problem) => fill(byId("problem"), problem),
);
let maySteer = false;

function show(now) {
  job = now;
  const { counts, usage } = job;
  const done = counts.succeeded + counts.failed;
  document.title = `${percent(done / Math.max(counts.total, 1))} ${job.name ?? id} · Penstock`;
  fill(byId("name"), job.name ?? "Job");
  if (byId("state").dataset.drawn !== job.status) {
    byId("state").dataset.drawn = job.status;
    fill(byId("state"), state(job.status));
    fill(byId("subtitle"), `· ${job.model} · created `, ago(job.created_at));
  }
  if (maySteer) offer(job);
  fill(byId("problem"), job.error ?? job.status_reason ?? "");
  const inFlight = [...flights.values()].reduce((sum, each) => sum + each.rows_in_flight, 0);
  bar.set({ ...counts, running: Math.min(inFlight, counts.running) });
  const from = job.started_at ?? job.created_at;
  const to = job.finished_at ?? Date.now() / 1000;
  facts([
    ["Rows", `${count(done)} of ${count(counts.total)}`, percent(done / Math.max(counts.total, 1))],
    ["Failed", count(counts.failed), counts.rejected ? `${count(counts.rejected)} lines refused` : ""],
    ["Speed", `${brief(job.rate.rows_per_s)} rows/s`, `${brief(job.rate.tokens_per_s)} tokens/s`],
    hasEnded(job.status)
      ? ["Took", job.started_at ? duration(to - from) : "–", counts.not_run ? `${count(counts.not_run)} rows not run` : ""]
      : ["Time left", duration(job.eta_s), band ? `between ${duration(band.low_s)} and ${duration(band.high_s)}` : ""],
    ["Tokens out", brief(usage.completion_tokens), `${brief(usage.prompt_tokens)} in, ${brief(usage.cached_tokens)} from the cache`],
    ["In flight", count(inFlight), `${count(counts.pending)} rows wait`],
  ]);
  drawBars(byId("errors"), Object.entries(job.errors_by_code), "No row has failed.", "failed");
  reveal(byId("rejected"), counts.rejected > 0);
  fill(byId("rejected").querySelector("summary"), `${count(counts.rejected)} lines could not become rows`);
}

function facts(entries) {
  const parent = byId("facts");
  while (parent.children.length < entries.length) {
    const value = element("dd", {}, element("span"), element("small"));
    parent.append(element("div", {}, element("dt"), value));
  }
  entries.forEach(([name, value, note], place) => {
    const [dt, dd] = parent.children[place].children;
    fill(dt, name);
    fill(dd.firstChild, value);
    fill(dd.lastChild, note);
  });
}

async function lookAtHistory() {
  const { points, step_s, sample, workers, eta } = await api.get(`${path}/timeline?points=40`);
  band = eta;
  for (const plot of Object.values(plots)) plot.show(points, step_s);
  drawBars(byId("makers"), workers.map(({ name, rows }) => [name, rows]), "Nothing has landed yet.");
  const isPart = sample.parts < sample.of_parts;
  const note = `Plots and makers are told by ${count(sample.rows)} of ${count(sample.of_rows)} rows.`;
  fill(byId("sample-note"), isPart ? note : "");
}

async function lookAtRows() {
  const query = new URLSearchParams({ limit: PAGE });
  if (rowsWanted) query.set("status", rowsWanted);
  if (paging.cursor) query.set("after", paging.cursor);
  const [wanted, cursor] = [rowsWanted, paging.cursor];
  const { rows, next } = await api.lines(`${path}/results?${query}`);
  if (wanted !== rowsWanted || cursor !== paging.cursor) return;
  const drawn = rows.map((row) => row.row_id).join();
  if (byId("rows").dataset.drawn !== drawn || !rows.length) {
    byId("rows").dataset.drawn = drawn;
    const words = wanted === "failed" ? "No failed rows on this page." : "No rows have landed yet.";
    fill(byId("rows"), ...(rows.length ? rows.map(jobRow) : [element("p", { class: "empty" }, words)]));
  }
  const hasMore = next != null && next !== cursor && (rows.length === PAGE || wanted);
  paging.found(hasMore ? next : null);
}

async function lookAtTask() {
  const task = await patiently(() => api.get(`${path}/task`));
  const sampling = Object.entries(task.sampling).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
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
      ["template options", Object.keys(task.template_options).length ? task.template_options : null],
      ["id column", task.id_column],
      ["columns", Object.entries(task.columns).map(([name, kind]) => `${name} ${kind}`).join("\n")],
      ["shards", `${count(task.shards.total)} of up to ${count(task.shards.rows)} rows`],
    ]),
  );
}

function drawLinks(flower) {
  const save = (label, address, filename) =>
    element("li", {}, element("button", { type: "button", class: "link",
      click: () => api.download(address, filename).catch((error) => fill(byId("problem"), error.message)) }, label));
  const hasManifest = job.status.startsWith("completed");
  fill(
    byId("links"),
    save("All rows, as JSON lines", `${path}/results`, `${id}.jsonl`),
    job.counts.failed ? save("Failed rows, as JSON lines", `${path}/results?status=failed`, `${id}-failed.jsonl`) : null,
    hasManifest ? save("The manifest", `${path}/manifest`, `${id}_manifest.json`) : null,
    job.retry_of ? element("li", {}, "A retry of ", element("a", { href: `/ui/jobs/${job.retry_of}` }, job.retry_of)) : null,
    flower ? element("li", {}, element("a", { href: `${flower.replace(/\/$/, "")}/tasks?name=penstock.generate%20kwargs:${id}` }, "Its shards in Flower")) : null,
    element("li", {}, "Parquet lies in ", element("code", {}, job.output.path)),
  );
}

byId("rejected").addEventListener("toggle", async () => {
  const { data } = await api.get(`${path}/errors?limit=50`);
  const lines = data.filter((each) => each.line != null);
  fill(byId("rejected").querySelector("ol"), ...lines.map(({ line, message }) => element("li", { value: line }, message)));
}, { once: true });

const paging = new Paging(byId("rows-paging"), () => lookAgainAtRows());
const statuses = [["", "All"], ["succeeded", "Succeeded"], ["failed", "Failed"]];
drawChips(byId("rows-filter"), statuses, "", (status) => {
  rowsWanted = status;
  paging.restart();
  lookAgainAtRows();
});

/** What may be asked for now, but not more often than every so often; nothing once it has ended. */
function whileAlive(work, everyMs) {
  let isOver = false;
  return api.repeat(async () => {
    if (isOver) return;
    const wasOver = job != null && hasEnded(job.status);
    await work();
    isOver = wasOver;
  }, everyMs);
}

let lookAgainAtRows = () => {};
try {
  show(await patiently(() => api.get(path)));
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  fill(byId("name"), error.status === 404 ? "There is no such job" : "This cannot be shown");
  fill(byId("problem"), error.message);
  showWhenReady([]);
  throw error;
}
const reader = await greet(api);
maySteer = reader.may("submit");
show(job);
whileAlive(async () => show(await api.get(path)), JOB_EVERY_MS);
const { first: history } = whileAlive(lookAtHistory, HISTORY_EVERY_MS);
let rowsSeen = null;
const { again, first: rows } = api.repeat(async () => {
  const place = `${rowsWanted} ${paging.cursor} ${job.status} ${job.counts.succeeded + job.counts.failed}`;
  if (place === rowsSeen) return;
  await lookAtRows();
  rowsSeen = place;
  drawLinks(reader.flower);
}, HISTORY_EVERY_MS);
lookAgainAtRows = again;
const task = lookAtTask().catch((error) => fill(byId("task"), element("dt", { class: "wrong" }, error.message)));
showWhenReady([history, rows, task]);
api.follow(`${path}/events`, ({ kind, data }) => {
  if (kind === "job.progress") flights.set(data.worker, data);
  else if (kind === "done") flights.clear();
  if (data.id === id) show(data);
  else if (job) show(data.status ? { ...job, status: data.status } : job);
});
