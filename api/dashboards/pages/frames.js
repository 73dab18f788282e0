// Takes the text of a stream of server-sent events apart. Knows no event.
// The browser's own EventSource can send no key, hence this one.

export class Frames {
  #rest = "";

  /** Take in more text; yields each event that is complete, its data read as JSON. */
  *read(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    for (const block of blocks) {
      const fields = new Map();
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trimStart());
      }
      if (!fields.has("data")) continue; // a heartbeat, or how long to wait
      yield {
        id: fields.get("id") ?? null,
        kind: fields.get("event") ?? "message",
        data: JSON.parse(fields.get("data")),
      };
    }
  }
}
