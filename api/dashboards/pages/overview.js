// The first page: jobs, runs, workers and queues, as they are now.

import { Refused } from "./api.js";
import { byId, element, fill, Followed, reveal } from "./dom.js";
import { ago, brief, count, duration, hasEnded, NOTHING, percent, state } from "./format.js";
import { drawChips, Paging } from "./paging.js";
import { progressBar } from "./progress.js";
import { greet } from "./reader.js";
import { openPage, showWhenReady } from "./shell.js";
import { trialBadge } from "./thing.js";

const EVERY_MS = 1500;
const PAGE = 12;
const FILTERS = [
  ["", "All"],
  ["queued,validating,running,landing", "Active"],
  ["paused", "Paused"],
  ["completed", "Completed"],
  ["completed_with_errors", "With errors"],
  ["failed,cancelled,expired", "Failed or stopped"],
];

const api = openPage();

class Listing {
  /** A list of jobs or runs, of some states, a page at a time. */
  constructor(name, path, makeRow) {
    this.path = path;
    this.states = "";
    this.name = name;
    this.empty = byId(`${name}-empty`);
    this.paging = new Paging(byId(`${name}-paging`), () => this.again());
    this.rows = new Followed(byId(name).tBodies[0], (thing) => thing.id, makeRow);
    drawChips(byId(`${name}-filter`), FILTERS, "", (states) => {
      this.states = states;
      this.paging.restart();
      this.again();
    });
    const { again, first } = api.repeat(() => this.look(), EVERY_MS);
    this.again = again;
    this.first = first;
  }

  async look() {
    const query = new URLSearchParams({ limit: PAGE });
    for (const each of this.states.split(",").filter(Boolean)) query.append("status", each);
    const {
      states,
      paging: { cursor },
    } = this;
    if (cursor) query.set("after", cursor);
    let page;
    try {
      page = await api.get(`${this.path}?${query}`);
    } catch (error) {
      if (cursor && error instanceof Refused) this.paging.restart(); // what it began behind is gone
      throw error;
    }
    if (states !== this.states || cursor !== this.paging.cursor) return; // for an earlier choice
    this.rows.show(page.data);
    reveal(this.empty, !page.data.length);
    fill(this.empty, this.states ? `No ${this.name} in this state.` : `No ${this.name} yet.`);
    this.paging.found(page.has_more ? page.last_id : null);
  }
}

function jobRow() {
  const bar = progressBar("Rows done");
  const cells = cellsOf(["Job", "State", "Progress", "Rows/s", "Time left", "Failed", "Created"]);
  const link = element("a");
  const model = element("small", { class: "quiet" });
  const share = element("small", { class: "quiet" });
  fill(cells.Job, link, model);
  fill(cells.Progress, bar.node, share);
  return {
    node: element("tr", {}, Object.values(cells)),
    update(job) {
      const { counts } = job;
      link.href = `/ui/jobs/${encodeURIComponent(job.id)}`;
      fill(link, job.name ?? job.id);
      fill(model, job.model);
      setState(cells.State, job);
      bar.set(counts);
      const done = counts.succeeded + counts.failed;
      fill(share, `${percent(done / Math.max(counts.total, 1))} of ${count(counts.total)}`);
      fill(cells["Rows/s"], brief(job.rate.rows_per_s));
      fill(cells["Time left"], hasEnded(job.status) ? NOTHING : duration(job.eta_s));
      fill(cells.Failed, count(counts.failed));
      cells.Failed.classList.toggle("alarm", counts.failed > 0);
      setTime(cells.Created, job.created_at);
    },
  };
}

function runRow() {
  const bar = progressBar("Steps done");
  const cells = cellsOf(["Run", "State", "Steps", "Rows in", "Rows out", "Failed", "Created"]);
  const link = element("a");
  const workflow = element("small", { class: "quiet" });
  const share = element("small", { class: "quiet" });
  const trial = trialBadge();
  fill(cells.Run, link, trial, workflow);
  fill(cells.Steps, bar.node, share);
  return {
    node: element("tr", {}, Object.values(cells)),
    update(run) {
      const of = (stage) => run.steps.filter((step) => step.state === stage).length;
      const failed = run.steps.reduce((sum, step) => sum + step.rows.failed, 0);
      link.href = `/ui/runs/${encodeURIComponent(run.id)}`;
      fill(link, run.name ?? run.workflow);
      fill(workflow, run.id);
      reveal(trial, run.is_preview);
      setState(cells.State, run);
      bar.set({
        total: run.steps.length,
        succeeded: of("completed"),
        failed: of("failed"),
        running: of("running"),
      });
      fill(share, `${of("completed")} of ${run.steps.length} steps`);
      fill(cells["Rows in"], count(run.counts.input));
      fill(cells["Rows out"], count(run.counts.output));
      fill(cells.Failed, count(failed));
      cells.Failed.classList.toggle("alarm", failed > 0);
      setTime(cells.Created, run.created_at);
    },
  };
}

function workerRow() {
  const names = ["Worker", "State", "Model", "Running", "Waiting", "KV cache", "Tokens/s"];
  const cells = cellsOf(names);
  const bar = progressBar("KV cache used");
  const share = element("small", { class: "quiet" });
  const name = element("strong");
  const since = element("small", { class: "quiet" });
  fill(cells.Worker, name, since);
  fill(cells["KV cache"], bar.node, share);
  return {
    node: element("tr", {}, Object.values(cells)),
    update(worker) {
      fill(name, worker.name);
      const began = worker.started_at_ms / 1000;
      if (!since.firstChild) fill(since, "since ", ago(began));
      setState(cells.State, {
        status: worker.not_ready ? "failed" : worker.is_draining ? "paused" : "running",
        words: worker.not_ready ? "not ready" : worker.is_draining ? "stopping" : "serving",
        status_reason: worker.not_ready,
      });
      fill(cells.Model, worker.model);
      fill(cells.Running, `${count(worker.running_rows)} / ${count(worker.slots)}`);
      fill(cells.Waiting, count(worker.waiting_rows));
      bar.set({ total: 1, succeeded: worker.kv_used_fraction, failed: 0, running: 0 });
      fill(share, `${percent(worker.kv_used_fraction)} of the cache`);
      fill(cells["Tokens/s"], brief(worker.tokens_per_s));
    },
  };
}

function queueRow() {
  const names = ["Model", "Workers", "Slots", "Shards queued", "Rows waiting", "Rows running"];
  const cells = cellsOf(names, 1);
  return {
    node: element("tr", {}, Object.values(cells)),
    update(queue) {
      fill(cells.Model, queue.model);
      fill(cells.Workers, count(queue.workers));
      fill(cells.Slots, count(queue.slots));
      fill(cells["Shards queued"], count(queue.queued_shards));
      fill(cells["Rows waiting"], count(queue.waiting_rows));
      fill(cells["Rows running"], count(queue.running_rows));
    },
  };
}

/** Make the cells of a row; narrow screens show the columns' names beside them. */
function cellsOf(names, textual = 3) {
  const isText = (place, name) => place < textual || name === "KV cache";
  return Object.fromEntries(
    names.map((name, place) => [
      name,
      element("td", { "data-label": name, class: isText(place, name) ? "text" : "number" }),
    ]),
  );
}

function setState(cell, thing) {
  const drawn = `${thing.status} ${thing.status_reason ?? ""}`;
  if (cell.dataset.drawn === drawn) return;
  cell.dataset.drawn = drawn;
  const badge = state(thing.status);
  if (thing.words) fill(badge, thing.words);
  if (thing.status_reason) badge.title = thing.status_reason;
  fill(cell, badge);
}

function setTime(cell, seconds) {
  if (!cell.firstChild) fill(cell, ago(seconds));
}

async function lookAtMachines(workers, queues) {
  const [there, waiting] = await Promise.all([api.get("/v1/workers"), api.get("/v1/queues")]);
  workers.show(there.data);
  queues.show(waiting.data);
  reveal(byId("workers-empty"), !there.data.length);
  fill(byId("workers-empty"), "No worker is here. Jobs wait until one comes.");
  reveal(byId("queues-empty"), !waiting.data.length);
  fill(byId("queues-empty"), "No model is served or waited for.");
  const sum = (list, name) => list.reduce((total, each) => total + each[name], 0);
  fill(byId("tile-speed"), brief(sum(there.data, "tokens_per_s")));
  fill(byId("tile-running"), count(sum(waiting.data, "running_rows")));
  fill(byId("tile-waiting"), count(sum(waiting.data, "waiting_rows")));
  fill(byId("tile-workers"), count(there.data.length));
}

const jobs = new Listing("jobs", "/v1/jobs", jobRow);
const runs = new Listing("runs", "/v1/workflows/runs", runRow);
const parts = [jobs.first, runs.first];
const reader = await greet(api);
if (reader.may("admin")) {
  const workers = new Followed(byId("workers").tBodies[0], (each) => each.name, workerRow);
  const queues = new Followed(byId("queues").tBodies[0], (each) => each.id, queueRow);
  parts.push(api.repeat(() => lookAtMachines(workers, queues), EVERY_MS).first);
} else {
  for (const name of ["workers", "queues"]) {
    fill(byId(`${name}-empty`), "This key may not see these: it takes one with the scope admin.");
  }
}
showWhenReady(parts);
