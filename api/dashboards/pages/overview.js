// The first page: jobs, runs, workers and queues, as they are now.

import { byId, fill, reveal } from "./dom.js";
import { brief, count } from "./format.js";
import { Listing, PagedListing } from "./listing.js";
import { JOBS, QUEUES, RUNS, WORKERS } from "./overview_lines.js";
import { greet } from "./reader.js";
import { openPage, showWhenReady } from "./shell.js";

const PAGE = 12;
const SUBMIT = "penstock submit rows.jsonl --prompt '{{ row.text }}'";
const NO_JOBS = `No jobs yet. One begins with: ${SUBMIT}`;
const NO_RUNS = "No runs yet. One begins with: penstock workflow run workflow.yaml";
const NO_WORKERS = "No worker is here. Jobs wait until one comes.";
const NO_QUEUES = "No model is served or waited for.";
const ADMINS_ONLY = "This key may not see these: it takes one with the scope admin.";

const api = openPage();
let again = () => {};
const ask = () => again();
const paged = {
  jobs: new PagedListing("jobs", "Jobs", NO_JOBS, JOBS, ask),
  runs: new PagedListing("runs", "Workflow runs", NO_RUNS, RUNS, ask),
};
const lists = {
  ...paged,
  workers: new Listing("workers", "Workers", NO_WORKERS, WORKERS),
  queues: new Listing("queues", "Queues", NO_QUEUES, QUEUES),
};
const tell = { workers: tellWorkers, queues: tellQueues };
const problems = new Map();
const awaited = new Set(Object.keys(lists));
let tellReady;
const ready = new Promise((resolve) => (tellReady = resolve));

byId("lists").append(...Object.values(lists).map(({ card }) => card));

function tellWorkers({ data }) {
  fill(byId("tile-speed"), brief(sum(data, "tokens_per_s")));
  fill(byId("tile-workers"), count(data.length));
}

function tellQueues({ data }) {
  fill(byId("tile-running"), count(sum(data, "running_rows")));
  fill(byId("tile-waiting"), count(sum(data, "waiting_rows")));
}

function sum(list, name) {
  return list.reduce((total, each) => total + each[name], 0);
}

function address() {
  const query = new URLSearchParams({ limit: PAGE });
  for (const list of Object.values(paged)) list.tell(query);
  return `/v1/overview/events?${query}`;
}

/** Remember a part that cannot be read: why is told once, and holds until its list comes. */
function refuse({ of, status, error }) {
  problems.set(of, { isAway: status === 503, why: error.message });
  if (status === 400) paged[of]?.goBack();
}

/** Tell of all parts that cannot be read. */
function tellProblems() {
  const told = [...problems.values()];
  const why = [...new Set(told.map((each) => each.why))].join("; ");
  if (told.some((each) => each.isAway)) api.away(why);
  else api.onConnection(true, why);
}

function hasCome(part) {
  if (awaited.delete(part) && !awaited.size) tellReady();
}

const reader = await greet(api);
if (!reader.may("admin")) {
  reveal(byId("tiles"), false);
  for (const name of ["workers", "queues"]) {
    lists[name].say(ADMINS_ONLY);
    hasCome(name);
  }
}
again = api.follow(address, ({ kind, data }) => {
  if (kind === "refused") {
    refuse(data);
  } else {
    problems.delete(kind);
    lists[kind]?.show(data);
    tell[kind]?.(data);
    hasCome(kind);
  }
  tellProblems();
});
showWhenReady([ready]);
