// Chips that choose, and buttons that go from page to page. Knows cursors, not what they point at.

import { element, fill } from "./dom.js";

/** Draw chips for `[value, label]`; the chosen one is marked. The focus stays. */
export function drawChips(parent, choices, chosen, onChoice) {
  const hasFocus = parent.contains(document.activeElement);
  const at = document.activeElement?.dataset.choice;
  fill(
    parent,
    ...choices.map(([value, label]) =>
      element(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": String(value === chosen),
          "data-choice": value,
          click: () => {
            if (value === chosen) return;
            drawChips(parent, choices, value, onChoice);
            onChoice(value);
          },
        },
        label,
      ),
    ),
  );
  if (!hasFocus) return;
  const same = [...parent.children].find((chip) => chip.dataset.choice === at);
  (same ?? parent.querySelector("[aria-pressed=true]"))?.focus();
}

/** The way through pages that only tell where the next one begins. */
export class Paging {
  constructor(parent, onTurn) {
    this.parent = parent;
    this.onTurn = onTurn;
    this.way = []; // cursors of the pages before this one, and its own
    this.wanted = this.way; // the way to the page that was asked for, until it comes
    this.next = null;
    this.back = element("button", { type: "button", click: () => this.turn(-1) }, "← Previous");
    this.forth = element("button", { type: "button", click: () => this.turn(1) }, "Next →");
    this.place = element("span", { class: "quiet", role: "status" });
    parent.append(this.back, this.place, this.forth);
    this.found(null);
  }

  /** Where the page begins that is to be shown; null is the first. */
  get cursor() {
    return this.wanted.at(-1) ?? null;
  }

  /** Say that the page has come, and where the next one begins, if there is one. */
  found(next) {
    this.way = this.wanted;
    this.next = next;
    this.back.disabled = !this.way.length;
    this.forth.disabled = next == null;
    fill(this.place, `page ${this.way.length + 1}`);
    this.parent.hidden = !this.way.length && next == null;
  }

  /** Go back to the first page. */
  restart() {
    this.wanted = [];
    this.found(null);
  }

  turn(by) {
    this.wanted = by > 0 ? [...this.way, this.next] : this.way.slice(0, -1);
    this.onTurn(); // the page that is shown stays until the other one is there
  }
}
