// Single rows of a job or a step: what went in, what came out, and how. Knows their columns.

import { element } from "./dom.js";
import { count, milliseconds } from "./format.js";

const ABOUT_A_ROW = new Set([
  "row_index",
  "row_id",
  "parent_id",
  "custom_id",
  "sample_index",
  "status",
  "output",
  "output_json",
  "parsed",
  "tool_calls",
  "finish_reason",
  "model",
  "adapter",
  "prompt_tokens",
  "completion_tokens",
  "cached_tokens",
  "error",
  "attempts",
  "worker",
  "queued_at",
  "started_at",
  "finished_at",
  "latency_ms",
  "logprobs",
  "embedding",
]);
const LONGEST = 20_000; // characters of one value

/** Make the element of one landed row of a job. */
export function jobRow(row) {
  const isBad = row.status !== "succeeded";
  const excerpt = isBad ? `${row.error?.code}: ${row.error?.message}` : (row.output ?? vector(row));
  const name = row.custom_id ?? `#${row.row_index}`;
  const inputs = Object.entries(row).filter(([column]) => !ABOUT_A_ROW.has(column));
  const asTold = (value) => value ?? "null"; // which a template refuses, so it may be why
  const told = [
    ...inputs.map(([column, value]) => [`row.${column}`, asTold(value)]),
    ["output", row.output ?? row.embedding],
    ["tool calls", row.tool_calls],
    ["error", row.error],
    ["finish reason", row.finish_reason],
    ["tokens", tokensOf(row)],
    ["latency", row.latency_ms == null ? null : milliseconds(row.latency_ms)],
    ["attempts", row.attempts],
    ["worker", row.worker],
    ["row id", row.row_id],
  ];
  const figures = `${count(row.completion_tokens)} tok · ${milliseconds(row.latency_ms)}`;
  return opening(name, row.status, isBad ? "bad" : "good", excerpt, figures, told);
}

/** Make the element of one row of a step; `onHistory(id)` tells where it came from. */
export function stepRow(row, place, onHistory) {
  const id = row.row_id ?? row.id ?? null;
  const columns = Object.entries(row).filter(
    ([name]) => !name.startsWith("__") && name !== "row_id",
  );
  const told = columns.filter(([name, value]) => value != null && !name.endsWith("__meta"));
  const excerpt = told.length ? asText(told.at(-1)[1]) : "";
  const ask = element("button", { type: "button", click: () => onHistory(id) }, "Its history");
  return opening(id ?? `#${place}`, "", "", excerpt, "", columns, id == null ? null : ask);
}

/** Make a list of names and values; what is missing is left out. */
export function pairs(entries) {
  return entries
    .filter(([, value]) => value != null && value !== "")
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, valueOf(value))]);
}

function opening(name, status, kind, excerpt, figures, told, act = null) {
  const state = status ? element("span", { class: `state ${kind}` }, status) : element("span");
  const node = element(
    "details",
    {},
    element(
      "summary",
      {},
      element("span", { class: "quiet" }, String(name)),
      state,
      element("span", { class: "excerpt", dir: "auto" }, String(excerpt ?? "").slice(0, 300)),
      element("span", { class: "number" }, figures),
    ),
  );
  const open = () => node.append(element("dl", { class: "pairs" }, pairs(told)), act ?? "");
  node.addEventListener("toggle", open, { once: true }); // most are never opened
  return node;
}

function valueOf(value) {
  if (value instanceof Node) return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = asText(value);
  if (text.length < 60 && !text.includes("\n")) return text;
  const told = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
  return element("pre", { tabindex: 0, dir: "auto" }, told);
}

function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function tokensOf(row) {
  const cached = row.cached_tokens ? ` (${count(row.cached_tokens)} from the cache)` : "";
  return `${count(row.prompt_tokens)} in${cached}, ${count(row.completion_tokens)} out`;
}

function vector(row) {
  return row.embedding ? `a vector of ${row.embedding.length} numbers` : "";
}
