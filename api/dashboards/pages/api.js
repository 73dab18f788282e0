// Speaks to the API: with the reader's key, and again after the connection was lost.
// Knows paths no better than its callers do.

import { Frames } from "./frames.js";

const PLACE = "penstock.key"; // of this tab, until it is closed
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 4000;
const SILENCE_MS = 15_000; // three heartbeats of whoever tells events
const AWAY = [502, 503, 504];
const MOST_BYTES = 50_000_000; // of a file that goes through the page

/** The API refused; `status` and `code` are as it says. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

/** Nobody answers, or somebody who says that the server is away. */
export class Away extends Error {}

export class Api {
  /**
   * `askForKey(problem)` returns a key when the reader has given one; `problem` says what was wrong
   * with the last. `onConnection(isThere, why)` hears whether the server answers.
   */
  constructor(askForKey, onConnection) {
    this.askForKey = askForKey;
    this.onConnection = onConnection;
    this.asking = null;
  }

  get key() {
    return sessionStorage.getItem(PLACE);
  }

  /** Forget the key; the next call asks for another. */
  forgetKey() {
    sessionStorage.removeItem(PLACE);
  }

  /** Ask for something as JSON. */
  async get(path, options = {}) {
    const answer = await this.fetch(path, options);
    try {
      return await answer.json();
    } catch {
      throw this.away("the answer broke off");
    }
  }

  /** Ask for rows as JSON lines; returns them, and where the next ones begin. */
  async lines(path) {
    const answer = await this.fetch(path);
    const text = await answer.text();
    const rows = text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
    return { rows, next: answer.headers.get("x-next-cursor") };
  }

  /** Have something done. */
  async post(path, body) {
    const headers = { "idempotency-key": crypto.getRandomValues(new Uint32Array(4)).join("-") };
    if (body !== undefined) headers["content-type"] = "application/json";
    const content = body === undefined ? undefined : JSON.stringify(body);
    return (await this.fetch(path, { method: "POST", headers, body: content })).json();
  }

  /** Fetch with the reader's key, which is asked for when it is missing or wrong. */
  async fetch(path, options = {}) {
    for (;;) {
      const used = this.key;
      const headers = new Headers(options.headers);
      if (used) headers.set("authorization", `Bearer ${used}`);
      let answer;
      try {
        answer = await fetch(path, { ...options, headers, cache: "no-store" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw this.away("the server does not answer");
      }
      if (answer.status === 401) {
        await this.newKey(used, await errorOf(answer));
        continue;
      }
      if (AWAY.includes(answer.status)) throw this.away((await errorOf(answer))?.message);
      this.onConnection(true);
      if (!answer.ok) throw new Refused(answer.status, await errorOf(answer));
      return answer;
    }
  }

  /**
   * Do something again and again, `everyMs`, while the page is looked at. Returns `again`, which
   * has it done at once, and `first`, a promise that it has been done.
   */
  repeat(work, everyMs) {
    let wake = () => {};
    let tellFirst;
    const first = new Promise((resolve) => (tellFirst = resolve));
    let isWanted = false;
    const run = async () => {
      let pauseMs = FIRST_PAUSE_MS;
      for (;;) {
        let waitMs = everyMs;
        isWanted = false;
        try {
          await work();
          tellFirst();
          pauseMs = FIRST_PAUSE_MS;
        } catch (error) {
          if (!(error instanceof Away)) this.onConnection(true, error.message);
          waitMs = Math.max(pauseMs, Math.min(everyMs, LONGEST_PAUSE_MS));
          pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
        }
        const woken = new Promise((resolve) => (wake = resolve));
        if (!isWanted) await Promise.race([pause(waitMs), woken]);
        await whenLookedAt();
      }
    };
    run();
    const again = () => {
      isWanted = true; // also while it is at work for an earlier wish
      wake();
    };
    return { again, first };
  }

  /**
   * Follow events to the last, across lost connections: none is missed, none is told twice.
   * `address()` says where they are; the function that is returned goes there anew, at once.
   */
  follow(address, onEvent) {
    let lastId = null;
    let leave = () => {};
    const run = async () => {
      let pauseMs = FIRST_PAUSE_MS;
      for (;;) {
        const controller = new AbortController();
        let hasLeft = false;
        const left = new Promise((resolve) => {
          leave = () => {
            hasLeft = true;
            controller.abort();
            resolve();
          };
        });
        try {
          const headers = lastId ? { "last-event-id": lastId } : {};
          for await (const event of this.events(address(), headers, controller)) {
            if (hasLeft) break;
            if (event.kind === "error") break; // the server stops, or we were slow: come again
            pauseMs = FIRST_PAUSE_MS;
            lastId = event.id ?? lastId;
            onEvent(event);
            if (event.kind === "done") return;
          }
        } catch (error) {
          if (error instanceof Refused) {
            this.onConnection(true, error.message);
            if (error.status === 404 || error.status === 403) return;
          } else if (!(error instanceof Away) && !hasLeft && !document.hidden) {
            this.away(); // who throws Away has told why
          }
        }
        await Promise.race([pause(pauseMs), left]);
        pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
        await whenLookedAt();
      }
    };
    run();
    return () => leave();
  }

  async *events(path, headers, controller) {
    let silence = setTimeout(() => controller.abort(), SILENCE_MS);
    const rest = () => document.hidden && controller.abort(); // a browser has six for all its tabs
    document.addEventListener("visibilitychange", rest);
    try {
      const answer = await this.fetch(path, { headers, signal: controller.signal });
      const frames = new Frames();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => controller.abort(), SILENCE_MS);
        yield* frames.read(value);
      }
    } finally {
      document.removeEventListener("visibilitychange", rest);
      clearTimeout(silence);
      controller.abort();
    }
  }

  /**
   * Save what is at an address as a file of the reader's. With a key, it has to go through the
   * page's memory: of what is too large for that, `otherwise` says how else it is had.
   */
  async download(path, filename, otherwise) {
    let address = path;
    if (this.key) {
      const content = await bounded(await this.fetch(path));
      if (!content) throw new Error(otherwise);
      address = URL.createObjectURL(content);
    }
    const link = Object.assign(document.createElement("a"), { href: address, download: filename });
    link.click();
    if (address !== path) setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  away(why = "the connection was lost") {
    this.onConnection(false, why);
    return new Away(why);
  }

  /** Get another key than the one that was used; all who need one wait for the same. */
  async newKey(used, error) {
    if (this.key !== used) return; // somebody got one meanwhile
    this.asking ??= this.askForKey(used ? (error?.message ?? "this key is not known here") : null);
    const key = await this.asking;
    this.asking = null;
    sessionStorage.setItem(PLACE, key);
  }
}

/** Wait so long. */
export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Wait while the page is hidden: what nobody sees need not be asked for. */
function whenLookedAt() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true });
  });
}

/** Read a body whole; null if it is too large for that. */
async function bounded(answer) {
  const chunks = [];
  let size = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(chunks);
    size += value.length;
    if (size > MOST_BYTES) {
      await reader.cancel();
      return null;
    }
    chunks.push(value);
  }
}

async function errorOf(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return null; // it is no JSON of ours: a proxy's page, say
  }
}
