// The page of one run of a workflow: its graph, its steps, their rows, and how to steer it.

import { Refused } from "./api.js";
import { drawBars } from "./bars.js";
import { byId, element, fill, Followed } from "./dom.js";
import { ago, brief, count, duration, hasEnded, NOTHING, state } from "./format.js";
import { Graph } from "./graph.js";
import { drawChips, Paging } from "./paging.js";
import { progressBar } from "./progress.js";
import { greet, patiently } from "./reader.js";
import { pairs, stepRow } from "./rows.js";
import { actions, openPage, shownId, showWhenReady } from "./shell.js";

const RUN_EVERY_MS = 1000;
const ROWS_EVERY_MS = 2500;
const PAGE = 10;
const OUTPUT = "(output)";

const id = shownId();
const path = `/v1/workflows/runs/${encodeURIComponent(id)}`;
const api = openPage();
const graph = new Graph(byId("graph"), (step) => chooseStep(step));
const steps = new Followed(byId("steps").tBodies[0], (step) => step.id, stepLine);
let run = null;
let chosen = OUTPUT;
let maySteer = false;

fill(byId("id"), id);

const post = (verb) => async () => show(await api.post(`${path}/${verb}`));
const offer = actions(
  byId("acts"),
  [
    { name: "pause", label: "Pause", title: "Pause this run?", act: post("pause"),
      words: "Nothing more of it is begun. What is running goes on to its end, and is kept.",
      isOffered: (now) => !hasEnded(now.status) && now.status !== "paused" },
    { name: "resume", label: "Resume", title: "Resume this run?", act: post("resume"),
      words: "It goes on where it stands.", isOffered: (now) => now.status === "paused" },
    { name: "cancel", label: "Cancel run", title: "Cancel this run?", act: post("cancel"),
      words: "What has landed stays. The rest is not done, and this cannot be undone.",
      isOffered: (now) => !hasEnded(now.status) },
  ],
  (problem) => fill(byId("problem"), problem),
);

function show(now) {
  run = now;
  document.title = `${run.name ?? run.workflow} · ${run.status.replaceAll("_", " ")} · Penstock`;
  fill(byId("name"), run.name ?? run.workflow);
  if (byId("state").dataset.drawn !== run.status) {
    byId("state").dataset.drawn = run.status;
    fill(byId("state"), state(run.status));
    fill(byId("subtitle"), run.name ? `· ${run.workflow} · created ` : "· created ", ago(run.created_at));
  }
  if (maySteer) offer(run);
  fill(byId("problem"), run.error ?? run.status_reason ?? "");
  facts();
  steps.show(run.steps);
  run.steps.forEach((step) => graph.tell(step));
  graph.note(OUTPUT, `${count(run.counts.output)} rows`);
  const errors = new Map();
  for (const step of run.steps) {
    for (const [code, number] of Object.entries(step.errors_by_code)) errors.set(code, (errors.get(code) ?? 0) + number);
  }
  drawBars(byId("errors"), errors, "No row has failed.", "failed");
  const examples = run.steps.flatMap((step) => step.errors.map((error) => [step.id, error])).slice(0, 5);
  const drawn = JSON.stringify(examples);
  if (byId("examples").dataset.drawn !== drawn) {
    byId("examples").dataset.drawn = drawn;
    fill(byId("examples"), ...examples.map(([step, { row_id, code, message }]) =>
      element("li", {}, `${step}: `, historyButton(row_id), ` ${code}: ${message}`)));
  }
}

function facts() {
  const to = run.finished_at ?? Date.now() / 1000;
  const of = (stage) => run.steps.filter((step) => step.state === stage).length;
  const entries = [
    ["Steps done", `${of("completed")} of ${run.steps.length}`],
    ["Rows in", count(run.counts.input)],
    ["Rows out", count(run.counts.output)],
    ["Failed", count(run.steps.reduce((sum, step) => sum + step.rows.failed, 0))],
    ["Tokens out", brief(run.usage.completion_tokens)],
    [hasEnded(run.status) ? "Took" : "Runs for", run.started_at ? duration(to - run.started_at) : NOTHING],
  ];
  const parent = byId("facts");
  while (parent.children.length < entries.length) parent.append(element("div", {}, element("dt"), element("dd")));
  entries.forEach(([name, value], place) => {
    fill(parent.children[place].firstChild, name);
    fill(parent.children[place].lastChild, value);
  });
}

function stepLine() {
  const names = ["Step", "State", "Shards", "Rows in", "Out", "Dropped", "Failed", "From cache", "Tokens"];
  const cells = Object.fromEntries(
    names.map((name, place) => [name, element("td", { "data-label": name, class: place < 3 ? "text" : "number" })]),
  );
  const bar = progressBar("Shards done");
  const share = element("small", { class: "quiet" });
  const link = element("button", { type: "button", class: "link" });
  const type = element("small", { class: "quiet" });
  fill(cells.Step, link, type);
  fill(cells.Shards, bar.node, share);
  return {
    node: element("tr", {}, Object.values(cells)),
    update(step) {
      const { rows, shards, usage } = step;
      fill(link, step.id);
      link.onclick = () => graph.choose(step.id);
      fill(type, [step.type, ...step.models].join(" · "));
      if (cells.State.dataset.drawn !== step.state) {
        cells.State.dataset.drawn = step.state;
        fill(cells.State, state(step.state));
      }
      bar.set({ total: shards.total ?? 1, succeeded: shards.done, failed: 0, running: 0 });
      fill(share, shards.total == null ? `${count(shards.done)} so far` : `${count(shards.done)} of ${count(shards.total)}`);
      fill(cells["Rows in"], count(rows.in));
      fill(cells.Out, count(rows.out));
      fill(cells.Dropped, count(rows.dropped));
      fill(cells.Failed, count(rows.failed));
      cells.Failed.classList.toggle("alarm", rows.failed > 0);
      fill(cells["From cache"], count(rows.cached));
      fill(cells.Tokens, brief(usage.completion_tokens));
    },
  };
}

function historyButton(rowId) {
  return element("button", { type: "button", class: "link", click: () => tellHistory(rowId) }, rowId);
}

async function tellHistory(rowId) {
  byId("row-id").value = rowId;
  const place = byId("history");
  fill(place, element("p", { class: "quiet" }, "Looking …"));
  place.scrollIntoView({ block: "nearest" });
  try {
    const found = await api.get(`${path}/rows?${new URLSearchParams({ row_id: rowId })}`);
    fill(place, ...found.steps.map(traceOf));
  } catch (error) {
    fill(place, element("p", { class: "wrong" }, error.message));
  }
}

function traceOf(trace) {
  const talk = trace.requests.flatMap((request, place) => [
    ["asked", request.messages ?? request.prompt ?? request.input ?? request],
    ["answered", trace.answers[place]],
  ]);
  const entries = [...talk, ["made", trace.value], ["about it", trace.meta], ["made of", trace.parents.join(", ")]];
  return element("section", {}, element("h3", {}, `${trace.step} · ${trace.row_id}`), element("dl", { class: "pairs" }, pairs(entries)));
}

function chooseStep(step) {
  if (step === chosen) return;
  chosen = step;
  drawStepChips();
  paging.restart();
  lookAgainAtRows();
}

function drawStepChips() {
  const choices = [[OUTPUT, "Output"], ...run.steps.map((step) => [step.id, step.id])];
  drawChips(byId("rows-filter"), choices, chosen, (step) => graph.choose(step));
}

async function lookAtRows() {
  const [step, cursor] = [chosen, paging.cursor ?? 0];
  const place = step === OUTPUT ? "results" : `steps/${encodeURIComponent(step)}/rows`;
  const { rows, next } = await api.lines(`${path}/${place}?limit=${PAGE}&after=${cursor}`);
  if (step !== chosen || cursor !== (paging.cursor ?? 0)) return;
  const drawn = `${step} ${cursor} ${rows.length}`;
  if (byId("rows").dataset.drawn !== drawn) {
    byId("rows").dataset.drawn = drawn;
    const lines = rows.map((row, at) => stepRow(row, Number(cursor) + at, tellHistory));
    fill(byId("rows"), ...(lines.length ? lines : [element("p", { class: "empty" }, "No rows have landed here yet.")]));
  }
  paging.found(rows.length === PAGE ? next : null);
}

const paging = new Paging(byId("rows-paging"), () => lookAgainAtRows());
let lookAgainAtRows = () => {};

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  tellHistory(byId("row-id").value.trim());
});

try {
  const now = await patiently(() => api.get(path));
  graph.draw(await patiently(() => api.get(`${path}/graph`)));
  show(now);
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  fill(byId("name"), error.status === 404 ? "There is no such run" : "This cannot be shown");
  fill(byId("problem"), error.message);
  showWhenReady([]);
  throw error;
}
maySteer = (await greet(api)).may("submit");
show(run);
drawStepChips();
let isOver = false;
api.repeat(async () => {
  if (isOver) return;
  const wasOver = hasEnded(run.status);
  show(await api.get(path));
  isOver = wasOver;
}, RUN_EVERY_MS);
let seen = null;
const { again, first } = api.repeat(async () => {
  const now = run.steps.find((step) => step.id === chosen)?.rows.out ?? run.counts.output;
  const place = `${chosen} ${paging.cursor} ${now} ${run.status}`;
  if (place === seen) return;
  await lookAtRows();
  seen = place;
}, ROWS_EVERY_MS);
lookAgainAtRows = again;
showWhenReady([first]);
api.follow(`${path}/events`, ({ data }) => {
  if (data.id === id) show(data);
  else if (data.status) show({ ...run, status: data.status });
});
