// The rows at the end of a page: chosen by chips, a page at a time. Knows the elements they are in,
// not what a row is.

import { keep, keptOf } from "./address.js";
import { byId, element, fill } from "./dom.js";
import { drawChips, Paging } from "./paging.js";

const EVERY_MS = 2500;
const NAME = "rows"; // in the address

export class RowList {
  /**
   * `address(choice, cursor)` is where a page of rows lies, `make(row, place)` draws one, `stamp()`
   * changes when there may be others, and `nothing(choice)` is said where there are none.
   * `onChoice(choice)` hears what was chosen.
   */
  constructor(api, { address, make, stamp, nothing, hasMore, onChoice = () => {} }) {
    Object.assign(this, { api, address, make, stamp, nothing, hasMore, onChoice });
    this.parent = byId("rows");
    this.choices = [];
    this.choice = null;
    this.seen = null;
    this.again = () => {};
    this.paging = new Paging(byId("rows-paging"), () => this.again());
  }

  /** Offer what may be chosen: what the address names is, or the first. */
  offer(choices) {
    this.choices = choices;
    this.take(keptOf(choices, NAME));
  }

  /** Show other rows. */
  choose(choice) {
    if (choice === this.choice) return;
    this.take(choice);
    keep(NAME, choice === this.choices[0][0] ? "" : choice);
    this.paging.restart();
    this.again();
  }

  /** Keep what is shown true; returns a promise that there is something to see. */
  watch() {
    const { again, first } = this.api.repeat(async () => {
      const seen = `${this.choice} ${this.paging.cursor} ${this.stamp(this.choice)}`;
      if (seen === this.seen) return;
      await this.look();
      this.seen = seen;
    }, EVERY_MS);
    this.again = again;
    return first;
  }

  async look() {
    const { choice, paging } = this;
    const { cursor } = paging;
    const { rows, next } = await this.api.lines(this.address(choice, cursor));
    if (choice !== this.choice || cursor !== paging.cursor) return; // another was chosen meanwhile
    const drawn = JSON.stringify([choice, cursor, rows]);
    if (this.drawn !== drawn) {
      this.drawn = drawn; // drawn again, opened rows would close
      const empty = element("p", { class: "empty" }, this.nothing(choice));
      fill(this.parent, ...(rows.length ? rows.map(this.make) : [empty]));
    }
    const isForth = next != null && String(next) !== String(cursor) && this.hasMore(rows, choice);
    paging.found(isForth ? next : null);
  }

  take(choice) {
    this.choice = choice;
    drawChips(byId("rows-filter"), this.choices, choice, (other) => this.choose(other));
    this.onChoice(choice);
  }
}
