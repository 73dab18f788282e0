// What the page of a job and that of a run have in common: a title, a state, an end.

import { Refused } from "./api.js";
import { byId, fill } from "./dom.js";
import { ago, hasEnded, state } from "./format.js";
import { patiently } from "./reader.js";
import { showWhenReady } from "./shell.js";

const EVERY_MS = 1000;

/** The id of what the page shows: the last part of its address. */
export function shownId() {
  return decodeURIComponent(location.pathname.split("/").pop());
}

/** Ask for what the page shows. Where there is no such thing, the page says so, and that is all. */
export async function findThing(api, path, noun) {
  try {
    return await patiently(() => api.get(path));
  } catch (error) {
    if (error instanceof Refused) {
      const isMissing = error.status === 404;
      fill(byId("name"), isMissing ? `There is no such ${noun}` : "This cannot be shown");
      fill(byId("problem"), error.message);
      showWhenReady([]);
    }
    throw error;
  }
}

/** Tell the name of a thing, its state, and what is wrong with it. */
export function tellTitle(thing, name, about) {
  fill(byId("id"), thing.id);
  fill(byId("name"), name);
  fill(byId("problem"), thing.error ?? thing.status_reason ?? "");
  if (byId("state").dataset.told === thing.status) return;
  byId("state").dataset.told = thing.status;
  fill(byId("state"), state(thing.status));
  fill(byId("subtitle"), about ? `· ${about} · created ` : "· created ", ago(thing.created_at));
}

/** Do something again and again, once more after a thing has ended, and then no more. */
export function whileAlive(api, thing, work, everyMs = EVERY_MS) {
  let isOver = false;
  return api.repeat(async () => {
    if (isOver) return;
    const hasEndedBefore = hasEnded(thing().status);
    await work();
    isOver = hasEndedBefore;
  }, everyMs);
}
