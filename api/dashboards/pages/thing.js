// What the page of a job and that of a run have in common: a title, a state, an end.

import { Refused } from "./api.js";
import { byId, element, fill, reveal } from "./dom.js";
import { ago, hasEnded, state } from "./format.js";
import { patiently } from "./reader.js";
import { showWhenReady, tellEnded } from "./shell.js";

const EVERY_MS = 1000;

/** The id of what the page shows: the last part of its address. */
export function shownId() {
  return decodeURIComponent(location.pathname.split("/").pop());
}

/**
 * Ask for what the page shows. Where it cannot be had, the page says so, and that is all: then this
 * returns nothing, ever.
 */
export async function findThing(api, path, noun) {
  try {
    return await patiently(() => api.get(path));
  } catch (error) {
    const isMissing = error instanceof Refused && error.status === 404;
    fill(byId("name"), isMissing ? `There is no such ${noun}` : "This cannot be shown");
    fill(byId("problem"), error.message);
    for (const part of byId("main").querySelectorAll(":scope > :not(nav, .title, #problem)"))
      reveal(part, false);
    tellEnded("");
    showWhenReady([]);
    return new Promise(() => {});
  }
}

/** Say to whoever listens rather than looks how far a thing is. */
export function announce(words) {
  fill(byId("announced"), words);
}

/** Tell the name of a thing, its state, some words `about` it, and what is wrong with it. */
export function tellTitle(thing, name, about) {
  fill(byId("id"), thing.id);
  fill(byId("name"), name);
  fill(byId("problem"), thing.error ?? thing.status_reason ?? "");
  byId("problem").className = thing.error || thing.status === "failed" ? "wrong" : "why";
  if (byId("state").dataset.told === thing.status) return;
  byId("state").dataset.told = thing.status;
  fill(byId("state"), state(thing.status), thing.is_preview ? trialBadge() : null);
  const told = about.flatMap((part) => ["· ", part, " "]);
  fill(byId("subtitle"), ...told, "· created ", ago(thing.created_at));
}

/** Mark a run that takes only the first rows of its inputs, and goes by itself. */
export function trialBadge() {
  const title = "Of the first rows only, to show or to measure them. It is removed after a day.";
  return element("span", { class: "state idle trial", title }, "trial");
}

/** Do something again and again, once more after a thing has ended, and then no more. */
export function whileAlive(api, thing, work, everyMs = EVERY_MS) {
  let isOver = false;
  return api.repeat(async () => {
    if (isOver) return;
    const hasEndedBefore = hasEnded(thing().status);
    await work();
    isOver = hasEndedBefore;
    if (isOver) tellEnded();
  }, everyMs);
}
