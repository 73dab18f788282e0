// The lines of the overview's tables, with their columns: jobs, runs, workers, queues.

import { element, fill, reveal } from "./dom.js";
import { ago, brief, count, duration, hasEnded, NOTHING, percent, state } from "./format.js";
import { progressBar } from "./progress.js";
import { trialBadge } from "./thing.js";

/** How far a job is, and how fast it goes. */
export const JOBS = {
  texts: ["Job", "State", "Progress"],
  numbers: ["Rows/s", "Time left", "Failed", "Created"],
  keyOf: ({ id }) => id,
  line: (cells) => workLine(cells, "Rows done", jobFigures),
};

/** How many steps of a run are done. */
export const RUNS = {
  texts: ["Run", "State", "Steps"],
  numbers: ["Rows in", "Rows out", "Failed", "Created"],
  keyOf: ({ id }) => id,
  line: (cells) => workLine(cells, "Steps done", runFigures),
};

/** How busy a worker is. */
export const WORKERS = {
  texts: ["Worker", "State", "Model", "KV cache"],
  numbers: ["Running", "Waiting", "Tokens/s"],
  keyOf: ({ name }) => name,
  line: workerLine,
};

/** What waits for a model. */
export const QUEUES = {
  texts: ["Model"],
  numbers: ["Workers", "Slots", "Shards queued", "Rows waiting", "Rows running"],
  keyOf: ({ id }) => id,
  line: queueLine,
};

/** A line for a job or a run; `tell(thing)` gives what differs between them. */
function workLine(cells, label, tell) {
  const [title, stage, progress] = Object.values(cells);
  const bar = progressBar(label);
  const link = element("a", { dir: "auto" });
  const trial = trialBadge();
  const [about, share] = [note(), note()];
  fill(title, link, trial, about);
  fill(progress, bar.node, share);
  return (thing) => {
    const told = tell(thing);
    link.href = told.href;
    fill(link, told.name);
    fill(about, told.about);
    reveal(trial, Boolean(thing.is_preview));
    setState(stage, thing);
    bar.set(told.bar);
    fill(share, told.share);
    for (const [name, text] of Object.entries(told.figures)) fill(cells[name], text);
    fill(cells.Failed, count(told.failed));
    cells.Failed.classList.toggle("alarm", told.failed > 0);
    setTime(cells.Created, thing.created_at);
  };
}

function jobFigures(job) {
  const { counts, rate } = job;
  const done = counts.succeeded + counts.failed;
  return {
    href: `/ui/jobs/${encodeURIComponent(job.id)}`,
    name: job.name ?? job.id,
    about: job.model,
    bar: counts,
    share: `${percent(done / Math.max(counts.total, 1))} of ${count(counts.total)}`,
    figures: {
      "Rows/s": brief(rate.rows_per_s),
      "Time left": hasEnded(job.status) ? NOTHING : duration(job.eta_s),
    },
    failed: counts.failed,
  };
}

function runFigures(run) {
  const of = (stage) => run.steps.filter((step) => step.state === stage).length;
  const [total, succeeded] = [run.steps.length, of("completed")];
  return {
    href: `/ui/runs/${encodeURIComponent(run.id)}`,
    name: run.name ?? run.workflow,
    about: run.id,
    bar: { total, succeeded, failed: of("failed"), running: of("running") },
    share: `${succeeded} of ${total} steps`,
    figures: { "Rows in": count(run.counts.input), "Rows out": count(run.counts.output) },
    failed: run.steps.reduce((sum, step) => sum + step.rows.failed, 0),
  };
}

function workerLine(cells) {
  const bar = progressBar("KV cache used");
  const name = element("strong");
  const [since, share] = [note(), note()];
  fill(cells.Worker, name, since);
  fill(cells["KV cache"], bar.node, share);
  return (worker) => {
    fill(name, worker.name);
    if (!since.firstChild) fill(since, "since ", ago(worker.started_at_ms / 1000));
    setState(cells.State, {
      status: worker.not_ready ? "failed" : worker.is_draining ? "paused" : "running",
      words: worker.not_ready ? "not ready" : worker.is_draining ? "stopping" : "serving",
      status_reason: worker.not_ready,
    });
    fill(cells.Model, worker.model);
    bar.set({ total: 1, succeeded: worker.kv_used_fraction, failed: 0, running: 0 });
    fill(share, `${percent(worker.kv_used_fraction)} of the cache`);
    fill(cells.Running, `${count(worker.running_rows)} / ${count(worker.slots)}`);
    fill(cells.Waiting, count(worker.waiting_rows));
    fill(cells["Tokens/s"], brief(worker.tokens_per_s));
  };
}

function queueLine(cells) {
  return (queue) => {
    fill(cells.Model, queue.model);
    fill(cells.Workers, count(queue.workers));
    fill(cells.Slots, count(queue.slots));
    fill(cells["Shards queued"], count(queue.queued_shards));
    fill(cells["Rows waiting"], count(queue.waiting_rows));
    fill(cells["Rows running"], count(queue.running_rows));
  };
}

function note() {
  return element("small", { class: "quiet" });
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
