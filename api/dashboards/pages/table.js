// A table that follows a list of things. Knows its columns, not what they tell.

import { element, Followed } from "./dom.js";

export class Table extends Followed {
  /**
   * Columns of `texts` come first, those of `numbers` behind them. `line(cells)` sets up the cells
   * of a thing, by their columns' names, and returns what brings them up to date: `update(thing)`.
   */
  constructor(table, { texts, numbers, keyOf, line }) {
    const columns = [
      ...texts.map((name) => [name, "text"]),
      ...numbers.map((name) => [name, "number"]),
    ];
    const heads = columns.map(([name, kind]) => element("th", { scope: "col", class: kind }, name));
    const body = element("tbody");
    table.append(element("thead", {}, element("tr", {}, heads)), body);
    super(body, keyOf, () => {
      const cells = Object.fromEntries(
        columns.map(([name, kind]) => [
          name,
          element("td", { class: kind, "data-label": name }), // which narrow screens show beside it
        ]),
      );
      return { node: element("tr", {}, Object.values(cells)), update: line(cells) };
    });
  }
}
