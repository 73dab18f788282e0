// The page of one run of a workflow: its graph, its steps, their rows, and how to steer it.

import { drawBars } from "./bars.js";
import { byId, fill } from "./dom.js";
import { tellFacts } from "./facts.js";
import { brief, count, countOf, duration, hasEnded, NOTHING } from "./format.js";
import { Graph } from "./graph.js";
import { greet, patiently } from "./reader.js";
import { RowList } from "./row_list.js";
import { stepRow } from "./rows.js";
import { FaultList, REJECTED } from "./run_faults.js";
import { rowHistory } from "./run_history.js";
import { stepTable } from "./run_steps.js";
import { actions, openPage, showWhenReady } from "./shell.js";
import { announce, findThing, shownId, tellTitle, whileAlive } from "./thing.js";

const PAGE_ROWS = 10;
const OUTPUT = "(output)"; // as the graph calls it

const id = shownId();
const path = `/v1/workflows/runs/${encodeURIComponent(id)}`;
const api = openPage();
const { tell: tellHistory, tellKept: tellKeptHistory } = rowHistory(api, path);
const graph = new Graph(byId("graph"), (step) => rowList.choose(step));
const faults = new FaultList(api, path, tellHistory);
const steps = stepTable((step) => rowList.choose(step));
let run = null;
let reader = null;

const post = (verb) => async () => show(await api.post(`${path}/${verb}`));
const offer = actions(byId("acts"), (problem) => fill(byId("refusal"), problem), [
  {
    label: "Pause",
    title: "Pause this run?",
    words: "Nothing more of it is begun. What is running goes on to its end, and is kept.",
    act: post("pause"),
    isOffered: (now) => !hasEnded(now.status) && now.status !== "paused",
  },
  {
    label: "Resume",
    title: "Resume this run?",
    words: "It goes on where it stands.",
    act: post("resume"),
    isOffered: (now) => now.status === "paused",
  },
  {
    label: "Cancel run",
    title: "Cancel this run?",
    words: "What has landed stays. The rest is not done, and this cannot be undone.",
    act: post("cancel"),
    isOffered: (now) => !hasEnded(now.status),
  },
  {
    label: "Retry what failed",
    title: "Run again what failed?",
    words: "It runs as a run of its own, which takes over all that was answered.",
    act: async () => {
      const made = await api.post(`${path}/retry`);
      location.assign(`/ui/runs/${encodeURIComponent(made.id)}`);
    },
    isOffered: (now) =>
      hasEnded(now.status) && (now.status !== "completed" || sum("failed") + sum("defaulted") > 0),
  },
]);

const rowList = new RowList(api, {
  address: (step, cursor) => {
    const place = step === OUTPUT ? "results" : `steps/${encodeURIComponent(step)}/rows`;
    return `${path}/${place}?limit=${PAGE_ROWS}&after=${cursor ?? 0}`;
  },
  make: (row, place) => stepRow(row, place, tellHistory),
  stamp: (chosen) => {
    const step = run.steps.find((each) => each.id === chosen);
    return `${run.status} ${step ? step.rows.out : run.counts.output}`;
  },
  nothing: () => "No rows have landed here yet.",
  hasMore: (rows) => rows.length === PAGE_ROWS,
  onChoice: (step) => graph.mark(step),
});

function show(now) {
  run = now;
  const name = run.name ?? run.workflow;
  document.title = `${name} · ${run.status.replaceAll("_", " ")} · Penstock`;
  tellTitle(run, name, run.name ? [run.workflow] : []);
  tellFacts(byId("facts"), figures());
  announce(`${run.status.replaceAll("_", " ")}, ${stepsDone()} steps are done`);
  steps.show(run.steps);
  for (const step of run.steps) graph.tell(step);
  graph.note(OUTPUT, countOf(run.counts.output, "row"));
  tellErrors();
  if (reader?.may("submit")) offer(run);
}

function sum(outcome) {
  return run.steps.reduce((total, step) => total + step.rows[outcome], 0);
}

function stepsDone() {
  const isDone = (step) => step.state === "completed";
  return `${run.steps.filter(isDone).length} of ${run.steps.length}`;
}

function figures() {
  const end = run.finished_at ?? Date.now() / 1000;
  const { rejected } = run.counts;
  const defaulted = sum("defaulted");
  return [
    ["Steps done", stepsDone()],
    [
      "Rows in",
      count(run.counts.input),
      rejected ? `${countOf(rejected, "line")} refused` : "",
    ],
    ["Rows out", count(run.counts.output)],
    ["Failed", count(sum("failed")), defaulted ? `${count(defaulted)} defaulted` : ""],
    ["Tokens out", brief(run.usage.completion_tokens)],
    [
      hasEnded(run.status) ? "Took" : "Runs for",
      run.started_at ? duration(end - run.started_at) : NOTHING,
    ],
  ];
}

function tellErrors() {
  const errors = new Map();
  for (const [code, number] of run.steps.flatMap((step) => Object.entries(step.errors_by_code))) {
    errors.set(code, (errors.get(code) ?? 0) + number);
  }
  if (run.counts.rejected) errors.set(REJECTED, run.counts.rejected);
  drawBars(byId("errors"), errors, "Nothing has gone wrong.", "failed");
  faults.tell(errors, hasEnded(run.status));
}

const found = await findThing(api, path, "run");
const drawn = await patiently(() => api.get(`${path}/graph`));
const inputs = drawn.nodes.filter(({ kind }) => kind === "input");
graph.draw(drawn);
if (inputs.length === 1) graph.note(inputs[0].id, countOf(found.counts.input, "row"));
show(found);
graph.center(found.steps.find(({ state }) => state === "running")?.id);
rowList.offer([[OUTPUT, "Output"], ...run.steps.map((step) => [step.id, step.id])]);
reader = await greet(api);
show(run);
whileAlive(
  api,
  () => run,
  async () => show(await api.get(path)),
);
showWhenReady([rowList.watch(), faults.watch()]).then(tellKeptHistory);
api.follow(() => `${path}/events`, ({ data }) => {
  if (data.id === id) show(data);
  else if (data.status) show({ ...run, status: data.status });
});
