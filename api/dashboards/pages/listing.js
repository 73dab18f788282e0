// The cards of the overview: a title, a table, and words where there is nothing to be listed.
// Knows no job: what a line tells, it is told with the columns.

import { keep, keptOf } from "./address.js";
import { element, fill, reveal } from "./dom.js";
import { drawChips, Paging } from "./paging.js";
import { Table } from "./table.js";

const FILTERS = [
  ["", "All", []],
  ["active", "Active", ["queued", "validating", "running", "landing"]],
  ["paused", "Paused", ["paused"]],
  ["completed", "Completed", ["completed"]],
  ["with-errors", "With errors", ["completed_with_errors"]],
  ["failed", "Failed or stopped", ["failed", "cancelled", "expired"]],
];

export class Listing {
  /** `name` is that of what is listed, in the plural; `nothing` is said where there is none. */
  constructor(name, title, nothing, columns) {
    const id = `${name}-title`;
    const table = element("table", { class: "list", id: name, "aria-labelledby": id });
    this.name = name;
    this.nothing = nothing;
    this.header = element("header", {}, element("h2", { id }, title));
    this.empty = element("p", { class: "empty", id: `${name}-empty` }, "Looking …");
    const parts = [this.header, table, this.empty];
    this.card = element("section", { class: "card", "aria-labelledby": id }, parts);
    this.table = new Table(table, columns);
  }

  show({ data }) {
    this.table.show(data);
    reveal(this.empty, !data.length);
    this.say(this.nothing);
  }

  /** Say something where there is nothing to be listed. */
  say(words) {
    fill(this.empty, words);
  }
}

/** One a page at a time, of some states; `ask()` asks for another page. */
export class PagedListing extends Listing {
  constructor(name, title, nothing, columns, ask) {
    super(name, title, nothing, columns);
    const chips = navigation("chips", `${name}-filter`, `${title} by state`);
    const pages = navigation("paging", `${name}-paging`, `Pages of ${name}`);
    this.header.append(chips);
    this.card.append(pages);
    this.ask = ask;
    this.choice = keptOf(FILTERS, name);
    this.paging = new Paging(pages, ask);
    drawChips(chips, FILTERS, this.choice, (choice) => this.choose(choice));
  }

  choose(choice) {
    this.choice = choice;
    keep(this.name, choice);
    this.paging.restart();
    this.ask();
  }

  /** Say in a query which page is wanted. */
  tell(query) {
    const [, , states] = FILTERS.find(([choice]) => choice === this.choice);
    for (const state of states) query.append(`${this.name}_status`, state);
    if (this.paging.cursor) query.set(`${this.name}_after`, this.paging.cursor);
  }

  show(page) {
    super.show(page);
    if (this.choice) this.say(`No ${this.name} in this state.`);
    this.paging.found(page.has_more ? page.last_id : null);
  }

  /** What the page began behind is gone: go back to the first. */
  goBack() {
    if (!this.paging.cursor) return;
    this.paging.restart();
    this.ask();
  }
}

function navigation(kind, id, label) {
  return element("nav", { class: kind, id, "aria-label": label });
}
