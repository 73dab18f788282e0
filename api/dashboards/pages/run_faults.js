// Everything that went wrong in a run, a page after the other: lines of its inputs that could not
// become rows, and rows that failed in a step, whatever became of them.

import { keep, kept } from "./address.js";
import { byId, element, fill, reveal } from "./dom.js";
import { drawChips } from "./paging.js";

export const REJECTED = "rejected_line"; // the code of a line that could not become a row

const EVERY_MS = 2500;
const PAGE = 10;
const MOST_CODES = 8; // to choose from
const NAME = "errors"; // in the address

export class FaultList {
  constructor(api, path, onHistory) {
    Object.assign(this, { api, path, onHistory });
    this.list = byId("faults");
    this.more = byId("faults-more");
    this.more.addEventListener("click", () => {
      this.look(this.next).catch((error) => fill(byId("refusal"), error.message));
    });
    this.code = kept(NAME);
    this.next = null; // where the next page begins
    this.codes = null; // how many errors of each there are, as it was told last
    this.seen = null;
    this.isLong = false; // the reader has asked for more than a page
    this.again = () => {};
  }

  /** Say how many errors of each code there are, and whether there will be others. */
  tell(errors, hasEnded) {
    const codes = JSON.stringify([[...errors], hasEnded]);
    if (codes === this.codes) return;
    this.codes = codes;
    this.hasEnded = hasEnded;
    const names = [...errors.keys()].sort((a, b) => errors.get(b) - errors.get(a));
    const choices = new Set(["", ...names.slice(0, MOST_CODES), this.code]); // it may be a rare one
    const isChoice = names.length > 1 || this.code !== "";
    const labels = isChoice ? [...choices].map((code) => [code, code || "All"]) : [];
    drawChips(byId("faults-filter"), labels, this.code, (code) => this.choose(code));
  }

  /** Keep what is shown true; returns a promise that there is something to see. */
  watch() {
    const { again, first } = this.api.repeat(async () => {
      const seen = `${this.code} ${this.codes}`;
      if (seen === this.seen || (this.isLong && !this.hasEnded)) return;
      await this.look(null);
      this.seen = seen;
    }, EVERY_MS);
    this.again = again;
    return first;
  }

  choose(code) {
    this.code = code;
    keep(NAME, code);
    this.isLong = false;
    this.again();
  }

  async look(after) {
    const { code } = this;
    const query = new URLSearchParams({ limit: PAGE });
    if (code) query.set("code", code);
    if (after) query.set("after", after);
    const { data, next_cursor: next } = await this.api.get(`${this.path}/errors?${query}`);
    if (code !== this.code || (after && after !== this.next)) return; // another was chosen
    this.next = next;
    this.isLong = after != null;
    const items = data.map((fault) => this.item(fault));
    if (after) this.list.append(...items);
    else fill(this.list, ...items);
    reveal(this.more, next != null);
  }

  item({ step, row_id: rowId, input, line, code, message, outcome }) {
    const click = () => this.onHistory(rowId);
    const place = rowId
      ? [`${step}: `, element("button", { type: "button", class: "link", click }, rowId)]
      : [`${input}, line ${line}`];
    const what = outcome === "defaulted" ? ` (defaulted) ${code}: ` : ` ${code}: `;
    const [words, ...where] = message.split("\n"); // where it is in an expression, say
    const lines = where.length ? element("pre", {}, where.join("\n")) : null;
    return element("li", {}, place, what, words, lines);
  }
}
