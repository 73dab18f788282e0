// What every page has around it: the bar at the top, the banner of a lost connection, the dialogs.
// Knows no job.

import { Api, pause } from "./api.js";
import { byId, element, fill, reveal } from "./dom.js";
import { keepTimesTrue } from "./format.js";

const LONGEST_WAIT_MS = 2000;
const KEY = /^[\x21-\x7e]+$/; // what a header can carry

/** Set the page up; returns the API as this page speaks to it. */
export function openPage() {
  const banner = element("p", { class: "banner", role: "status", hidden: true });
  document.body.append(banner);
  const asked = (problem) => {
    tellLive("idle", "waiting for a key");
    return askForKey(problem);
  };
  const api = new Api(asked, (isThere, why) => {
    const { ended } = byId("live").dataset;
    if (!isThere) tellLive("lost", "disconnected");
    else if (ended == null) tellLive("live", "live");
    else tellLive("idle", ended);
    fill(banner, isThere ? (why ?? "") : `Disconnected, trying again: ${why}`);
    banner.className = isThere ? "banner problem" : "banner";
    reveal(banner, !isThere || Boolean(why));
    reveal(byId("forget-key"), Boolean(api.key));
  });
  byId("forget-key").addEventListener("click", () => {
    api.forgetKey();
    location.reload();
  });
  keepTimesTrue();
  return api;
}

/** Say from now on that what is shown is final, rather than that it is live. */
export function tellEnded(words = "ended") {
  byId("live").dataset.ended = words;
  tellLive("idle", words);
}

function tellLive(state, words) {
  byId("live").dataset.state = state;
  fill(byId("live"), words);
}

/** Show the page when all of it has come, or most of it: what is read should not move away. */
export async function showWhenReady(parts) {
  await Promise.race([Promise.allSettled(parts), pause(LONGEST_WAIT_MS)]);
  byId("main").removeAttribute("aria-busy");
}

/** Ask the reader for a key, until there is one. */
function askForKey(problem) {
  const input = element("input", {
    type: "password",
    id: "key",
    autocomplete: "current-password",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-problem",
  });
  const form = element(
    "form",
    { method: "dialog" },
    element("h2", {}, "This server asks for a key"),
    element("p", { class: "quiet" }, "It is kept in this tab only, until you close it."),
    element("label", { for: "key" }, "API key"),
    input,
    element("p", { class: "wrong", id: "key-problem", role: "alert" }, problem ?? ""),
    element("menu", {}, element("button", { class: "primary" }, "Continue")),
  );
  const dialog = element("dialog", { class: "ask", "aria-label": "API key" }, form);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      const key = input.value.trim();
      if (!KEY.test(key)) {
        event.preventDefault();
        fill(byId("key-problem"), "A key has letters, digits and signs of ASCII, and no blanks.");
        return;
      }
      dialog.remove();
      resolve(key);
    });
  });
}

/** Ask the reader whether something is meant; resolves to true or false. */
function confirmed(title, words, verb) {
  const dialog = element(
    "dialog",
    { class: "ask", "aria-label": title },
    element(
      "form",
      { method: "dialog" },
      element("h2", {}, title),
      element("p", {}, words),
      element(
        "menu",
        {},
        element("button", { value: "no", autofocus: true }, "Leave it"),
        element("button", { value: "yes", class: "primary" }, verb),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

/**
 * Make the buttons of what can be done, each of which asks first: `{label, title, words, act}`.
 * Returns a function that shows those of which `isOffered(thing)` is true.
 */
export function actions(parent, onProblem, offers) {
  const buttons = offers.map((offer) => {
    const button = element("button", { type: "button", hidden: true }, offer.label);
    button.addEventListener("click", async () => {
      if (!(await confirmed(offer.title, offer.words, offer.label))) return;
      button.disabled = true;
      try {
        await offer.act();
        onProblem("");
      } catch (error) {
        onProblem(error.message);
      } finally {
        button.disabled = false;
      }
    });
    parent.append(button);
    return button;
  });
  return (thing) =>
    buttons.forEach((button, place) => reveal(button, offers[place].isOffered(thing)));
}
