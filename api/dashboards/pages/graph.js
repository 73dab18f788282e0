// A graph of steps, drawn in layers from left to right. Knows nodes `{id, kind, label, type}` and
// edges `{from, to}`; how far a step is, it is told again and again.

import { fill, shape } from "./dom.js";
import { count, countOf } from "./format.js";

const BOX = { width: 158, height: 74 };
const ROOM = BOX.width - 24; // for its text
const GAP = { x: 46, y: 22 };
const EDGE = 6; // around all
const SWEEPS = 4;

export class Graph {
  constructor(parent, onChoice) {
    this.parent = parent;
    this.onChoice = onChoice;
    this.views = new Map();
    parent.addEventListener("scroll", () => this.fade());
    new ResizeObserver(() => this.fade()).observe(parent);
  }

  /** Draw the graph; `nodes` come after their sources. */
  draw({ nodes, edges }) {
    const places = layout(nodes, edges);
    const width = Math.max(...[...places.values()].map(({ x }) => x)) + BOX.width + EDGE;
    const height = Math.max(...[...places.values()].map(({ y }) => y)) + BOX.height + EDGE;
    const drawn = nodes.map((node) => this.node(node, places.get(node.id)));
    fill(
      this.parent,
      shape(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}` },
        edges.map(({ from, to }) => edgeBetween(places.get(from), places.get(to))),
        drawn,
      ),
    );
    for (const text of this.parent.querySelectorAll("text.label")) shorten(text, ROOM);
    this.fade();
  }

  /** Bring a step into the middle of what is seen, as far as there is something to be scrolled. */
  center(id) {
    const node = this.views.get(id)?.node.getBoundingClientRect();
    const seen = this.parent.getBoundingClientRect();
    if (!node) return;
    this.parent.scrollLeft += node.x + node.width / 2 - (seen.x + seen.width / 2);
    this.fade();
  }

  /** Show at which edges there is more to be scrolled to. */
  fade() {
    const { scrollLeft, scrollWidth, clientWidth, classList } = this.parent;
    classList.toggle("more-left", scrollLeft > 1);
    classList.toggle("more-right", scrollLeft + clientWidth < scrollWidth - 1);
  }

  node({ id, kind, label, type }, { x, y }) {
    const said = shape("text", { class: "quiet", x: 12, y: 56 });
    const done = shape("rect", { class: "done", x: 12, y: 62, width: 0, height: 4, rx: 2 });
    const isStep = kind === "step";
    const choose = () => isStep && this.onChoice(id);
    const node = shape(
      "g",
      {
        class: `node ${kind}`,
        transform: `translate(${x} ${y})`,
        "data-node": id,
        tabindex: isStep ? 0 : null,
        role: isStep ? "button" : null,
        click: choose,
        keydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          choose();
        },
      },
      shape("rect", { class: "box", ...BOX, rx: 9 }),
      shape("text", { class: "label", x: 12, y: 22 }, label),
      shape("text", { class: "quiet", x: 12, y: 39 }, isStep ? type : label === kind ? "" : kind),
      said,
      isStep
        ? shape("rect", { class: "track", x: 12, y: 62, width: ROOM, height: 4, rx: 2 })
        : null,
      isStep ? done : null,
      shape("title", {}, label),
    );
    this.views.set(id, { node, said, done, label });
    return node;
  }

  /** Say how far a step is. */
  tell(step) {
    const view = this.views.get(step.id);
    if (!view) return;
    const { done, total } = step.shards;
    const share = step.state === "completed" ? 1 : total ? done / total : 0;
    view.node.dataset.state = step.state;
    view.done.setAttribute("width", (ROOM * share).toFixed(1));
    const failed = step.rows.failed ? ` · ${count(step.rows.failed)} failed` : "";
    const rows = `${countOf(step.rows.out, "row")}${failed}`;
    const words = step.state === "waiting" ? "waiting" : rows;
    fill(view.said, words);
    view.node.setAttribute("aria-label", `${view.label}, ${step.state}, ${words}`);
  }

  /** Write something below an input or the output. */
  note(id, words) {
    const view = this.views.get(id);
    if (view) fill(view.said, words);
  }

  /** Mark the step whose rows are shown. */
  mark(id) {
    for (const [each, { node }] of this.views) node.classList.toggle("chosen", each === id);
  }
}

/** Give every node a layer, one behind its last source, and a place where few edges cross. */
function layout(nodes, edges) {
  const into = new Map(nodes.map(({ id }) => [id, []]));
  const out = new Map(nodes.map(({ id }) => [id, []]));
  for (const { from, to } of edges) {
    into.get(to).push(from);
    out.get(from).push(to);
  }
  const depth = new Map();
  for (const { id } of nodes)
    depth.set(id, Math.max(-1, ...into.get(id).map((each) => depth.get(each))) + 1);
  const layers = [];
  for (const { id } of nodes) (layers[depth.get(id)] ??= []).push(id);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const near = sweep % 2 ? out : into;
    const rank = new Map(
      layers.flatMap((layer) => layer.map((id, place) => [id, place - layer.length / 2])),
    );
    for (const layer of layers) {
      const wish = new Map(
        layer.map((id) => [
          id,
          mean(
            near.get(id).map((each) => rank.get(each)),
            rank.get(id),
          ),
        ]),
      );
      layer.sort((a, b) => wish.get(a) - wish.get(b));
    }
  }
  const tallest = Math.max(...layers.map((layer) => layer.length));
  const places = new Map();
  layers.forEach((layer, column) => {
    const from = ((tallest - layer.length) * (BOX.height + GAP.y)) / 2;
    layer.forEach((id, row) => {
      const y = EDGE + from + row * (BOX.height + GAP.y);
      places.set(id, { x: EDGE + column * (BOX.width + GAP.x), y });
    });
  });
  return places;
}

function edgeBetween(from, to) {
  const [x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2];
  const [x2, y2] = [to.x - 5, to.y + BOX.height / 2];
  const bend = Math.max(24, (x2 - x1) / 2);
  const path = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  return shape(
    "g",
    {},
    shape("path", { class: "edge", d: path }),
    shape("path", { class: "tip", d: `M${x2 + 4} ${y2}l-7 -4v8z` }),
  );
}

function mean(values, otherwise) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : otherwise;
}

/** Take letters off the end of a text until it is no wider than that. */
function shorten(text, most) {
  const letters = [...text.textContent];
  while (letters.length && text.getComputedTextLength() > most) {
    letters.pop();
    fill(text, `${letters.join("")}…`);
  }
}
