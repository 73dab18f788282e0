// How numbers, times and states are written for people. Knows no job.

import { element } from "./dom.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const NOTHING = "–";

/** 1204331 -> 1,204,331 */
export function count(value) {
  return value == null ? NOTHING : whole.format(value);
}

/** 1 -> 1 row, 2000 -> 2,000 rows */
export function countOf(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** 61210.4 -> 61.2k; small numbers keep three digits. */
export function brief(value) {
  if (value == null) return NOTHING;
  return Math.abs(value) < 1000 ? plain.format(value) : short.format(value).replace("K", "k");
}

/** 0.0731 -> 7.3 %; what is not quite all is not told as all. */
export function percent(fraction) {
  if (fraction == null || !Number.isFinite(fraction)) return NOTHING;
  const tenths = Math.floor(fraction * 1000) / 10;
  return `${tenths >= 10 ? Math.floor(tenths) : tenths} %`;
}

/** 192 -> 3 min 12 s, which stays on one line. */
export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return NOTHING;
  if (seconds < 0.9995) return measured(Math.round(seconds * 1000), "ms");
  if (seconds < 9.95) return measured(seconds.toFixed(1), "s");
  const [s, min, h] = [1, 60, 3600].map((unit) => Math.round(seconds / unit));
  if (s < 60) return measured(s, "s");
  if (s < 3600) return joined(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86_400) return joined(Math.floor(min / 60), "h", min % 60, "min");
  return joined(Math.floor(h / 24), "d", h % 24, "h");
}

/** 5 -> 5 s: beside an axis, where a fraction that is none says nothing. */
export function axisTime(seconds) {
  return seconds ? duration(seconds).replace(/\.0(?=\s)/, "") : "0";
}

/** 1843 ms -> 1.8 s */
export function milliseconds(value) {
  return value == null ? NOTHING : duration(value / 1000);
}

/** An element that tells a time as "5 min ago", and exactly to whoever points at it. */
export function ago(seconds) {
  if (seconds == null) return element("span", { class: "quiet" }, NOTHING);
  const title = `${clock.format(seconds * 1000)} · ${utc(seconds)}`;
  const datetime = new Date(seconds * 1000).toISOString();
  return element("time", { datetime, title, "data-ago": true }, distance(seconds));
}

/** An element that tells a time as the reader's clock does, and in UTC to whoever points at it. */
export function moment(seconds) {
  if (seconds == null) return null;
  const datetime = new Date(seconds * 1000).toISOString();
  return element("time", { datetime, title: utc(seconds) }, clock.format(seconds * 1000));
}

/** Keep all elements true that tell how long ago something was. */
export function keepTimesTrue() {
  setInterval(() => {
    for (const node of document.querySelectorAll("time[data-ago]")) {
      const text = distance(Date.parse(node.dateTime) / 1000);
      if (node.textContent !== text) node.textContent = text;
    }
  }, 1000);
}

/** completed_with_errors -> completed with errors, in the colour of the state. */
export function state(name) {
  return element("span", { class: `state ${tone(name)}` }, name.replaceAll("_", " "));
}

/** Say in one of five words how good a state is. */
function tone(name) {
  if (name === "completed") return "good";
  if (name === "completed_with_errors" || name === "paused") return "fair";
  if (["failed", "cancelled", "expired"].includes(name)) return "bad";
  return ["running", "landing"].includes(name) ? "busy" : "idle";
}

/** Whether nothing will change any more. */
export function hasEnded(name) {
  return ["completed", "completed_with_errors", "failed", "cancelled", "expired"].includes(name);
}

function joined(large, unit, small, smaller) {
  const rest = small ? `\u00a0${measured(small, smaller)}` : "";
  return `${measured(large, unit)}${rest}`;
}

function measured(value, unit) {
  return `${value}\u00a0${unit}`;
}

function utc(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
}

function distance(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 0) return `in ${coarse(-past)}`;
  return past < 5 ? "just now" : `${coarse(past)} ago`;
}

function coarse(seconds) {
  if (seconds < 60) return `${Math.round(seconds / 5) * 5} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}
