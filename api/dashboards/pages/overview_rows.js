// The lines of the overview's tables: a job, a run, a worker, a queue. Each is `{ node, update }`.

import { element, fill, reveal } from "./dom.js";
import { ago, brief, count, duration, hasEnded, NOTHING, percent, state } from "./format.js";
import { progressBar } from "./progress.js";
import { trialBadge } from "./thing.js";

/** A line for a job: how far it is, and how fast it goes. */
export function jobRow() {
  const bar = progressBar("Rows done");
  const cells = cellsOf(["Job", "State", "Progress", "Rows/s", "Time left", "Failed", "Created"]);
  const link = element("a", { dir: "auto" });
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

/** A line for a run: how many of its steps are done. */
export function runRow() {
  const bar = progressBar("Steps done");
  const cells = cellsOf(["Run", "State", "Steps", "Rows in", "Rows out", "Failed", "Created"]);
  const link = element("a", { dir: "auto" });
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

/** A line for a worker: how busy it is. */
export function workerRow() {
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

/** A line for what waits for a model. */
export function queueRow() {
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
