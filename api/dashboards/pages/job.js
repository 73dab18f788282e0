// The page of one job: how far it is, how fast it goes, what came of it, and how to steer it.

import { drawBars } from "./bars.js";
import { byId, element, fill, reveal } from "./dom.js";
import { tellFacts } from "./facts.js";
import {
  axisTime,
  brief,
  count,
  countOf,
  duration,
  hasEnded,
  milliseconds,
  NOTHING,
  percent,
} from "./format.js";
import { retryOf, tellAbout } from "./job_about.js";
import { offerLinks, tellRejected, tellTask } from "./job_task.js";
import { Plot } from "./plot.js";
import { progressBar } from "./progress.js";
import { greet, patiently } from "./reader.js";
import { RowList } from "./row_list.js";
import { jobRow } from "./rows.js";
import { actions, openPage, showWhenReady } from "./shell.js";
import { announce, findThing, shownId, tellTitle, whileAlive } from "./thing.js";

const HISTORY_EVERY_MS = 2500;
const MODELS_EVERY_MS = 5000;
const POINTS = 40;
const PAGE_ROWS = 15;

const id = shownId();
const path = `/v1/jobs/${encodeURIComponent(id)}`;
const api = openPage();
const bar = progressBar("Rows done");
const plots = [
  new Plot(
    byId("tokens-plot"),
    [{ name: "tokens per second", kind: "", isBars: true, of: (point) => point.tokens_per_s }],
    (value) => `${brief(value)} tokens/s`,
    brief,
  ),
  new Plot(
    byId("rows-plot"),
    [{ name: "rows per second", kind: "", isBars: true, of: (point) => point.rows_per_s }],
    (value) => `${brief(value)} rows/s`,
    brief,
  ),
  new Plot(
    byId("latency-plot"),
    [
      { name: "median", kind: "", of: (point) => point.latency_p50_ms },
      { name: "95 of 100", kind: "second", of: (point) => point.latency_p95_ms },
    ],
    milliseconds,
    (value) => axisTime(value / 1000),
  ),
];
let job = null;
let band = null; // how long the rest may take
let reader = null;
let isServed = true; // until it is known that nobody does
const parts = { landed: null, total: null };

byId("bar").append(bar.node);

const post = (verb) => async () => show(await api.post(`${path}/${verb}`));
const retry = async () => {
  const made = await api.post(`${path}/retry`);
  location.assign(`/ui/jobs/${encodeURIComponent(made.id)}`);
};
// What fails in a retry stays failed in its job, and is retried there.
const isRetried = (now) => hasEnded(now.status) && !now.retry_of;
const offer = actions(byId("acts"), (problem) => fill(byId("refusal"), problem), [
  {
    label: "Pause",
    title: "Pause this job?",
    words: "Nothing more of it is begun. What is running goes on to its end, and lands.",
    act: post("pause"),
    isOffered: (now) => !hasEnded(now.status) && now.status !== "paused",
  },
  {
    label: "Resume",
    title: "Resume this job?",
    words: "It goes on where it stands.",
    act: post("resume"),
    isOffered: (now) => now.status === "paused",
  },
  {
    label: "Cancel job",
    title: "Cancel this job?",
    words: "Rows that have landed stay. The others are not run, and this cannot be undone.",
    act: post("cancel"),
    isOffered: (now) => !hasEnded(now.status),
  },
  {
    label: "Retry failed rows",
    title: "Run the failed rows again?",
    words:
      "They run as a job of their own, and those that were not run. " +
      "When it completes, its rows take their places here.",
    act: retry,
    isOffered: (now) => isRetried(now) && now.counts.failed > 0,
  },
  {
    label: "Run the other rows",
    title: "Run the rows that were not run?",
    words: "They run as a job of their own. When it completes, its rows take their places here.",
    act: retry,
    isOffered: (now) => isRetried(now) && !now.counts.failed && now.counts.not_run > 0,
  },
]);

const rowList = new RowList(api, {
  address: (status, cursor) => {
    const query = new URLSearchParams({ limit: PAGE_ROWS });
    if (status) query.set("status", status);
    if (cursor) query.set("after", cursor);
    return `${path}/results?${query}`;
  },
  make: jobRow,
  stamp: () => `${job.status} ${done(job)}`,
  nothing: (status) => (status ? "No such rows on this page." : "No rows have landed yet."),
  hasMore: (rows, status) => rows.length === PAGE_ROWS || Boolean(status), // those may be rare
});
rowList.offer([
  ["", "All"],
  ["succeeded", "Succeeded"],
  ["failed", "Failed"],
]);

function done({ counts }) {
  return counts.succeeded + counts.failed;
}

/** How much is done, in steps that are worth saying aloud. */
function tenths(now) {
  return 10 * Math.floor((10 * done(now)) / Math.max(now.counts.total, 1));
}

function share(now) {
  return percent(done(now) / Math.max(now.counts.total, 1));
}

function show(now) {
  job = now;
  const { counts } = job;
  document.title = `${share(job)} ${job.name ?? id} · Penstock`;
  tellTitle(job, job.name ?? "Job", job.retry_of ? [job.model, retryOf(job)] : [job.model]);
  announce(`${job.status.replaceAll("_", " ")}, ${tenths(job)} % of the rows are done`);
  bar.set(counts);
  tellFacts(byId("facts"), figures());
  drawBars(byId("errors"), Object.entries(job.errors_by_code), "No row has failed.", "failed");
  tellWait();
  reveal(byId("rejected"), counts.rejected > 0);
  const rejected = `${countOf(counts.rejected, "line")} could not become rows`;
  fill(byId("rejected").querySelector("summary"), rejected);
  if (!reader) return;
  if (reader.may("submit")) offer(job);
  offerLinks(job, reader.flower, save);
  tellAbout(job, reader.tenant, parts);
}

function figures() {
  const { counts, rate, usage } = job;
  const amiss = [
    counts.rejected ? `${countOf(counts.rejected, "line")} refused` : "",
    counts.unparsed ? `${countOf(counts.unparsed, "row")} unparsed` : "",
  ];
  const cached = `${brief(usage.prompt_tokens)} in, ${brief(usage.cached_tokens)} from the cache`;
  return [
    ["Rows", `${count(done(job))} of ${count(counts.total)}`, share(job)],
    ["Failed", count(counts.failed), amiss.filter(Boolean).join(", ")],
    speed(rate),
    hasEnded(job.status) ? timeTaken() : timeLeft(),
    ["Tokens out", brief(usage.completion_tokens), cached],
    hasEnded(job.status)
      ? timeWaited()
      : ["In flight", count(counts.running), `${countOf(counts.pending, "row")} to come`],
  ];
}

function speed({ rows_per_s: rows, tokens_per_s: tokens }) {
  if (rows == null) return ["Speed", NOTHING];
  return ["Speed", `${brief(rows)} rows/s`, `${brief(tokens)} tokens/s`];
}

function timeTaken() {
  const { started_at: from, finished_at: to, counts } = job;
  const left = counts.not_run ? `${count(counts.not_run)} rows not run` : "";
  return ["Took", from ? duration(to - from) : NOTHING, left];
}

function timeWaited() {
  const { created_at: from, started_at: to } = job;
  return ["Waited", to ? duration(to - from) : NOTHING, to ? "before its first row" : ""];
}

/** The estimate and its band are of one reading, where there is a band. */
function timeLeft() {
  if (job.eta_s == null || band?.estimate_s == null) return ["Time left", duration(job.eta_s)];
  const [low, high] = [duration(band.low_s), duration(band.high_s)];
  const words = low === high ? "" : `between ${low} and ${high}`;
  return ["Time left", duration(band.estimate_s), words];
}

async function lookAtHistory() {
  const told = await api.get(`${path}/timeline?points=${POINTS}`);
  const { sample } = told;
  parts.landed = sample.of_parts;
  tellAbout(job, reader.tenant, parts);
  band = told.eta;
  for (const plot of plots) plot.show(told.points, told.step_s);
  const makers = told.workers.map(({ name, rows }) => [name, rows]);
  drawBars(byId("makers"), makers, "Nothing has landed yet.");
  const rows = `${count(sample.rows)} of ${count(sample.of_rows)} rows`;
  const isPart = sample.parts < sample.of_parts;
  fill(byId("sample-note"), isPart ? `Plots and makers are told by ${rows}.` : "");
}

async function lookForWorkers() {
  const { data: models } = await api.get("/v1/models");
  isServed = models.some(({ id: model, workers }) => model === job.model && workers > 0);
  tellWait();
}

/** Say so where the job cannot go on because nobody serves its model. */
function tellWait() {
  const words =
    `No worker serves ${job.model} now, and the job waits until one does. ` +
    `One is started with: penstock worker --model ${job.model}`;
  const isWaiting = !hasEnded(job.status) && job.status !== "paused";
  fill(byId("waits"), isWaiting && !isServed ? words : "");
}

function save(name, filename, option) {
  const tell = (words) => fill(byId("links-problem"), words);
  const command = `penstock results ${id} ${option}-o jsonl > rows.jsonl`;
  const otherwise = `This is too large to go through a page. Take it with: ${command}`;
  return api.download(`${path}/${name}`, filename, otherwise).then(
    () => tell(""),
    (error) => tell(error.message),
  );
}

async function lookAtTask() {
  try {
    const task = await patiently(() => api.get(`${path}/task`));
    parts.total = task.shards.total;
    tellTask(task);
    tellAbout(job, reader.tenant, parts);
  } catch (error) {
    fill(byId("task"), element("dt", { class: "wrong" }, error.message));
  }
}

show(await findThing(api, path, "job"));
tellRejected(api, path);
reader = await greet(api);
show(job);
whileAlive(
  api,
  () => job,
  async () => show(await api.get(path)),
);
whileAlive(api, () => job, lookForWorkers, MODELS_EVERY_MS);
const { first: history } = whileAlive(api, () => job, lookAtHistory, HISTORY_EVERY_MS);
showWhenReady([history, rowList.watch(), lookAtTask()]);
api.follow(() => `${path}/events`, ({ data }) => {
  if (data.id === id) show(data);
  else show(data.status ? { ...job, status: data.status } : job);
});
