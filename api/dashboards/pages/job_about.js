// What there is to know about a job beside its rows and its task.

import { byId, element, fill } from "./dom.js";
import { count, moment, percent } from "./format.js";
import { pairs } from "./rows.js";

/** Tell it; how many parts have landed, and of how many, is null as long as it is not known. */
export function tellAbout(job, tenant, parts) {
  const told = JSON.stringify([
    [job.started_at, job.finished_at, job.deadline, job.priority, job.metadata],
    tenant,
    parts,
  ]);
  if (byId("about").dataset.told === told) return; // or the reader would lose what is selected
  byId("about").dataset.told = told;
  const isKnown = parts.landed != null && parts.total != null;
  const metadata = Object.entries(job.metadata).map(([name, value]) => `${name}: ${value}`);
  fill(
    byId("about"),
    ...pairs([
      ["created", moment(job.created_at)],
      ["started", moment(job.started_at)],
      ["finished", moment(job.finished_at)],
      ["deadline", moment(job.deadline)],
      ["tenant", tenant],
      ["priority", job.priority],
      ["pauses when", job.max_error_rate == null ? null : tooMany(job.max_error_rate)],
      ["retry of", job.retry_of ? linkTo(job.retry_of) : null],
      ["metadata", metadata.join("\n")],
      ["parts", isKnown ? `${count(parts.landed)} of ${count(parts.total)} have landed` : null],
      ["rows lie in", element("code", {}, job.output.path)],
    ]),
  );
}

function tooMany(rate) {
  return `more than ${percent(rate)} of its rows have failed`;
}

/** Name the job whose failed rows this one runs again. */
export function retryOf(job) {
  return element("span", {}, "a retry of ", linkTo(job.retry_of));
}

function linkTo(id) {
  return element("a", { href: `/ui/jobs/${encodeURIComponent(id)}` }, id);
}
