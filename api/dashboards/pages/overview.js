// The first page: jobs, runs, workers and queues, as they are now.

import { byId, fill, Followed, reveal } from "./dom.js";
import { brief, count } from "./format.js";
import { jobRow, queueRow, runRow, workerRow } from "./overview_rows.js";
import { drawChips, Paging } from "./paging.js";
import { greet } from "./reader.js";
import { openPage, showWhenReady } from "./shell.js";

const PAGE = 12;
const FILTERS = [
  ["", "All"],
  ["queued,validating,running,landing", "Active"],
  ["paused", "Paused"],
  ["completed", "Completed"],
  ["completed_with_errors", "With errors"],
  ["failed,cancelled,expired", "Failed or stopped"],
];

const NONE_YET = {
  jobs: "No jobs yet. One begins with: penstock submit rows.jsonl --prompt '{{ row.text }}'",
  runs: "No runs yet. One begins with: penstock workflow run workflow.yaml",
};

const api = openPage();

class Listing {
  /** A list of jobs or runs, of some states, a page at a time; `ask()` asks for another page. */
  constructor(name, makeRow, ask) {
    this.states = [];
    this.name = name;
    this.ask = ask;
    this.empty = byId(`${name}-empty`);
    this.paging = new Paging(byId(`${name}-paging`), ask);
    this.rows = new Followed(byId(name).tBodies[0], (thing) => thing.id, makeRow);
    drawChips(byId(`${name}-filter`), FILTERS, "", (states) => {
      this.states = states.split(",").filter(Boolean);
      this.paging.restart();
      ask();
    });
  }

  /** Say in a query which page is wanted. */
  tell(query) {
    for (const state of this.states) query.append(`${this.name}_status`, state);
    if (this.paging.cursor) query.set(`${this.name}_after`, this.paging.cursor);
  }

  show(page) {
    this.rows.show(page.data);
    reveal(this.empty, !page.data.length);
    fill(this.empty, this.states.length ? `No ${this.name} in this state.` : NONE_YET[this.name]);
    this.paging.found(page.has_more ? page.last_id : null);
  }

  /** What the page began behind is gone: go back to the first. */
  goBack() {
    if (!this.paging.cursor) return;
    this.paging.restart();
    this.ask();
  }
}

function showWorkers({ data }) {
  workers.show(data);
  reveal(byId("workers-empty"), !data.length);
  fill(byId("workers-empty"), "No worker is here. Jobs wait until one comes.");
  fill(byId("tile-speed"), brief(sum(data, "tokens_per_s")));
  fill(byId("tile-workers"), count(data.length));
}

function showQueues({ data }) {
  queues.show(data);
  reveal(byId("queues-empty"), !data.length);
  fill(byId("queues-empty"), "No model is served or waited for.");
  fill(byId("tile-running"), count(sum(data, "running_rows")));
  fill(byId("tile-waiting"), count(sum(data, "waiting_rows")));
}

function sum(list, name) {
  return list.reduce((total, each) => total + each[name], 0);
}

function address() {
  const query = new URLSearchParams({ limit: PAGE });
  jobs.tell(query);
  runs.tell(query);
  return `/v1/overview/events?${query}`;
}

/** Remember a part that cannot be read: why is told once, and holds until its list comes. */
function refuse({ of, status, error }) {
  problems.set(of, { isAway: status === 503, why: error.message });
  if (status === 400) lists[of]?.goBack();
}

/** Tell of all parts that cannot be read. */
function tellProblems() {
  const told = [...problems.values()];
  const why = [...new Set(told.map((each) => each.why))].join("; ");
  if (told.some((each) => each.isAway)) api.away(why);
  else api.onConnection(true, why);
}

let again = () => {};
const ask = () => again();
const jobs = new Listing("jobs", jobRow, ask);
const runs = new Listing("runs", runRow, ask);
const workers = new Followed(byId("workers").tBodies[0], (each) => each.name, workerRow);
const queues = new Followed(byId("queues").tBodies[0], (each) => each.id, queueRow);
const lists = { jobs, runs };
const show = {
  jobs: (page) => jobs.show(page),
  runs: (page) => runs.show(page),
  workers: showWorkers,
  queues: showQueues,
};
const problems = new Map();
const awaited = new Set(Object.keys(show));
let tellReady;
const ready = new Promise((resolve) => (tellReady = resolve));

function hasCome(part) {
  if (awaited.delete(part) && !awaited.size) tellReady();
}

const reader = await greet(api);
if (!reader.may("admin")) {
  reveal(byId("tiles"), false);
  for (const name of ["workers", "queues"]) {
    fill(byId(`${name}-empty`), "This key may not see these: it takes one with the scope admin.");
    hasCome(name);
  }
}
again = api.follow(address, ({ kind, data }) => {
  if (kind === "refused") {
    refuse(data);
  } else {
    problems.delete(kind);
    show[kind]?.(data);
    hasCome(kind);
  }
  tellProblems();
});
showWhenReady([ready]);
