// A plot over time: axes, bars or lines, and the values under the pointer or the arrow keys.
// Knows points `{at, ...}` in equal steps and how to write their values, not what they mean.

import { element, fill, shape } from "./dom.js";
import { axisTime, duration } from "./format.js";

const HEIGHT = 190;
const LEFT = 46;
const BOTTOM = 22;
const TOP = 8;
const RIGHT = 10;
const LONGEST_GAP = 6; // points without a value that a line goes across
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200];

export class Plot {
  /**
   * `series` are `{name, of(point), kind, isBars}`; `write` writes a value with its unit, `tick`
   * one beside the axis.
   */
  constructor(parent, series, write, tick) {
    this.parent = parent;
    this.series = series;
    this.write = write;
    this.tick = tick;
    this.points = [];
    this.chosen = null;
    this.empty = element("p", { class: "empty" }, "Nothing has landed yet.");
    this.svg = shape("svg", {
      height: HEIGHT,
      role: "img",
      tabindex: 0,
      pointermove: (event) => this.choose(this.nearest(event)),
      pointerleave: () => this.choose(null),
      blur: () => this.choose(null),
      keydown: (event) => this.onKey(event),
    });
    this.told = element("p", { class: "told", role: "status", hidden: true });
    parent.append(this.svg, this.told, this.empty);
    if (series.length > 1) {
      const names = series.map(({ name, kind }) => element("span", { class: kind }, name));
      parent.after(element("p", { class: "legend" }, names));
    }
    new ResizeObserver(() => this.draw()).observe(parent);
  }

  /** Show other points, each of which stands for `stepS`. */
  show(points, stepS) {
    this.points = points;
    this.stepS = stepS;
    this.draw();
  }

  draw() {
    const width = this.parent.clientWidth;
    this.empty.hidden = this.points.length > 0;
    this.svg.setAttribute("width", width);
    if (!this.points.length) {
      this.svg.replaceChildren();
      return;
    }
    const first = this.points[0].at;
    const span = this.points.length * this.stepS;
    const values = this.points.flatMap((point) => this.series.map((each) => each.of(point)));
    const steps = niceSteps(Math.max(...values.filter((value) => value != null), 0));
    const top = steps.at(-1);
    this.x = (seconds) => LEFT + ((width - LEFT - RIGHT) * (seconds - first)) / span;
    this.y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    this.svg.replaceChildren(
      ...steps.map((value) => this.level(value, width)),
      ...this.times(span, width, first),
      ...this.series.flatMap((each) => (each.isBars ? this.bars(each) : this.line(each))),
    );
    this.svg.setAttribute("aria-label", this.summary(span));
    this.svg.dataset.points = this.points.length;
    if (this.chosen != null) this.choose(Math.min(this.chosen, this.points.length - 1));
  }

  level(value, width) {
    const y = this.y(value);
    return shape(
      "g",
      {},
      shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
      shape("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, this.tick(value)),
    );
  }

  times(span, width, first) {
    const most = Math.max(2, Math.floor((width - LEFT) / 90));
    const step = STEPS_S.find((each) => span / each <= most) ?? Math.ceil(span / most);
    const marks = [];
    for (let seconds = 0; seconds <= span; seconds += span < 1 ? span : step) {
      const x = this.x(first + seconds);
      const anchor = x > width - 30 ? "end" : seconds ? "middle" : "start";
      marks.push(shape("text", { x, y: HEIGHT - 4, "text-anchor": anchor }, axisTime(seconds)));
    }
    return marks;
  }

  bars({ of, kind }) {
    const ground = this.y(0);
    return this.points
      .filter((point) => of(point) > 0)
      .map((point) => {
        const x = this.x(point.at);
        const width = Math.max(this.x(point.at + this.stepS) - x - 1, 0.75);
        const y = this.y(of(point));
        return shape("rect", { class: `column ${kind}`, x, y, width, height: ground - y });
      });
  }

  /** A line breaks where for long there is no value; one that stands alone becomes a dot. */
  line({ of, kind }) {
    const runs = [];
    let missing = Infinity;
    for (const point of this.points) {
      if (of(point) == null) missing += 1;
      else {
        if (missing > LONGEST_GAP) runs.push([]);
        runs.at(-1).push([this.x(this.middle(point)), this.y(of(point))]);
        missing = 0;
      }
    }
    return runs.map((run) => {
      const [[cx, cy]] = run;
      if (run.length === 1) return shape("circle", { class: `dot ${kind}`, cx, cy, r: 2.5 });
      const path = run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      return shape("path", { class: `line ${kind}`, d: `M${path}` });
    });
  }

  middle(point) {
    return point.at + this.stepS / 2;
  }

  summary(span) {
    const words = this.series.map(({ name, of }) => {
      const values = this.points.map(of).filter((value) => value != null);
      return values.length ? `${name} up to ${this.write(Math.max(...values))}` : name;
    });
    return `${words.join(", ")}, over ${duration(span)}. Arrow keys tell single values.`;
  }

  nearest(event) {
    if (!this.points.length) return null;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const far = (point) => Math.abs(this.x(this.middle(point)) - x);
    return this.points.reduce(
      (best, point, place) => (far(point) < far(this.points[best]) ? place : best),
      0,
    );
  }

  onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.points.length) return;
    event.preventDefault();
    const from = this.chosen ?? (by > 0 ? -1 : this.points.length);
    this.choose(Math.min(Math.max(from + by, 0), this.points.length - 1));
  }

  /** Tell the values of one point; null tells none. */
  choose(place) {
    this.chosen = place;
    this.svg.querySelector(".chosen")?.remove();
    this.told.hidden = place == null;
    if (place == null) return;
    const point = this.points[place];
    const x = this.x(this.middle(point));
    const marks = this.series
      .filter(({ of }) => of(point) != null)
      .map(({ of, kind }) =>
        shape("circle", { class: `dot ${kind}`, cx: x, cy: this.y(of(point)), r: 4 }),
      );
    const line = { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM };
    this.svg.append(shape("g", { class: "chosen" }, shape("line", line), marks));
    const values = this.series.map(({ name, of }) => {
      const value = of(point) == null ? "nothing ended" : this.write(of(point));
      return this.series.length > 1 ? `${name} ${value}` : value;
    });
    fill(this.told, [`after ${duration(point.at - this.points[0].at)}`, ...values].join("\n"));
    const room = this.parent.clientWidth - this.told.offsetWidth;
    const left = x + 12 > room ? x - this.told.offsetWidth - 12 : x + 12;
    this.told.style.left = `${Math.max(0, left)}px`; // by script: the policy forbids attributes
  }
}

/** Choose up to five round levels, from 0 to at least `most`. */
function niceSteps(most) {
  if (!(most > 0)) return [0, 1];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.9999);
  const levels = [];
  for (let level = 0; level < Math.ceil(most / step - 1e-9) + 1; level += 1)
    levels.push(level * step);
  return levels;
}
