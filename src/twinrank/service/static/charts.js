// Charts over time, in SVG, and their arithmetic: days made into bins, shares with their uncertainty.
// An invisible slider lies over each plot, so that mouse, touch and keyboard read its values alike,
// and a screen reader hears them.

import { el, svg } from "./common.js";

const DAY = 86_400_000; // milliseconds
const dateOf = (name) => Date.parse(`${name}T00:00:00Z`);
const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const SHORT = format({ day: "numeric", month: "short" });
export const LONG = format({ weekday: "long", day: "numeric", month: "long" });

const FIELDS = ["requests", "confident", "withheld", "right", "wrong"];

/** Sums of rows, by field. */
export const sums = (rows) => Object.fromEntries(
  FIELDS.map((field) => [field, rows.reduce((sum, row) => sum + row[field], 0)]));

const COLOURS = 6; // of series in a chart

/** The types that have a series of their own, by name: the same ones, whatever days are shown. */
export function charted(known) {
  return known.slice(0, known.length > COLOURS ? COLOURS - 1 : COLOURS).sort();
}

/** Types with the most requests first, in the colour of their place; all others together, if any have one. */
export function byType(rows, own = null) {
  const grouped = Map.groupBy(rows, ({ type }) => (!own || own.includes(type) ? type : null));
  return [...grouped].map(([type, some]) => ({
    name: type === null ? "all other types" : type || "no type",
    colour: own && (type === null ? COLOURS - 1 : own.indexOf(type)),
    rows: some,
    total: sums(some),
  })).sort((a, b) => b.total.requests - a.total.requests);
}

/** Days to the last one, in bins of so many days; those that are not whole, or not over, are a part. */
export function bins(days, width, today = Date.now()) {
  const last = Math.floor(today / DAY) * DAY;
  const length = Math.ceil(days / width);
  return Array.from({ length }, (_, i) => {
    const end = last - (length - 1 - i) * width * DAY;
    const start = Math.max(end - (width - 1) * DAY, last - (days - 1) * DAY);
    const shorter = Math.round((end - start) / DAY) + 1 < width;
    const part = shorter ? `, no whole ${width} days` : end === last ? ", so far" : "";
    const long = (start === end ? LONG.format(end) : `${SHORT.format(start)} to ${SHORT.format(end)}`) + part;
    const within = ({ date }) => dateOf(date) >= start && dateOf(date) <= end;
    return { short: SHORT.format(start), long, part: Boolean(part), pick: (rows) => rows.filter(within) };
  });
}

/** A share, and Wilson's (1927) 95% interval of it; null of nothing. */
export function share(part, whole) {
  if (!whole) return null;
  const z = 1.96;
  const p = part / whole;
  const middle = p + (z * z) / (2 * whole);
  const half = z * Math.sqrt((p * (1 - p)) / whole + (z * z) / (4 * whole * whole));
  const scale = 1 + (z * z) / whole;
  return { value: p, low: (middle - half) / scale, high: (middle + half) / scale };
}

const [LEFT, RIGHT, TOP, BOTTOM] = [42, 8, 8, 22]; // pixels around the plot
const LABEL = 64; // pixels that a date needs

/** Steps of a count's axis: 1, 2 or 5 times a power of ten, at most five. */
function steps(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

function grid(ticks, x, y, width, labels, tick) {
  const every = Math.ceil((labels.length * LABEL) / (width - LEFT - RIGHT));
  return [
    ...ticks.flatMap((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)),
    ]),
    ...labels.map((label, i) => i % every === 0 &&
      svg("text", { x: x(i), y: y(0) + 17, "text-anchor": "middle" }, label)),
  ];
}

/** Bars, a series on top of the other. */
function stacked(series, all, x, y, wide) {
  const below = series[0].values.map(() => 0);
  return series.map(({ values, colour = 0 }) => svg("g", { class: `series-${colour}` }, values.map((value, i) => {
    if (!value) return null;
    const base = below[i];
    below[i] += value;
    const [top, bottom] = [y(below[i]), y(base)];
    return svg("rect", { class: all[i].part ? "bar part" : "bar", x: x(i) - wide / 2, width: wide, y: top, height: bottom - top });
  })));
}

/** Lines with gaps where there is no value, and the interval of each value that has one. */
function lines(series, all, x, y) {
  return series.map(({ values, ranges, colour = 0 }) => {
    let pen = "M";
    const path = values.map((value, i) => {
      const step = value == null ? "" : `${pen}${x(i)} ${y(value)}`;
      pen = value == null ? "M" : "L";
      return step;
    }).join("");
    return svg("g", { class: `series-${colour}` },
      (ranges ?? []).map((range, i) => range &&
        svg("line", { class: "range", x1: x(i), x2: x(i), y1: y(range.low), y2: y(range.high) })),
      svg("path", { class: "line", d: path }),
      values.map((value, i) => value != null &&
        svg("circle", { class: all[i].part ? "dot part" : "dot", cx: x(i), cy: y(value), r: values.length > 20 ? 2.5 : 3.5 })));
  });
}

/**
 * A chart with a slider that reads it: `kind` is bars, which count things, or lines, which are
 * shares from 0 to 1; `read` gives a bin's values in words.
 */
export function chart({ title, hint, kind, bins: all, series, read }) {
  const last = all.length - 1;
  const labels = all.map((bin) => bin.short);
  const totals = labels.map((_, i) => series.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  const ticks = kind === "bars" ? steps(Math.max(1, ...totals)) : [0, 0.25, 0.5, 0.75, 1];
  const tick = kind === "bars" ? (value) => value.toLocaleString("en") : (value) => `${100 * value}%`;
  const slider = el("input", {
    type: "range", min: 0, max: last, value: last, "aria-label": `${title}: read a date`,
    oninput: point,
  });
  const readout = el("p", { class: "readout" });
  const picture = svg("svg", { "aria-hidden": "true" });
  const plot = el("div", { class: "plot" }, picture, slider);
  const cursor = svg("line", { class: "cursor" });
  let x = () => 0;

  function point() {
    const i = Number(slider.value);
    readout.textContent = `${all[i].long}: ${read(all[i], i)}`;
    slider.setAttribute("aria-valuetext", readout.textContent);
    cursor.setAttribute("x1", x(i));
    cursor.setAttribute("x2", x(i));
  }

  function draw() {
    const { width, height } = plot.getBoundingClientRect();
    if (!width) return;
    const bin = (width - LEFT - RIGHT) / labels.length;
    x = (i) => LEFT + (i + 0.5) * bin;
    const y = (value) => height - BOTTOM - (value / ticks.at(-1)) * (height - TOP - BOTTOM);
    cursor.setAttribute("y1", y(ticks.at(-1)));
    cursor.setAttribute("y2", y(0));
    const wide = Math.max(1, bin - Math.min(6, bin / 4));
    const marks = kind === "bars" ? stacked(series, all, x, y, wide) : lines(series, all, x, y);
    picture.replaceChildren(
      ...grid(ticks, x, y, width, labels, tick).filter(Boolean), cursor, ...marks);
    point();
  }

  new ResizeObserver(draw).observe(plot);
  const legend = series.length > 1 && el("ul", { class: "legend", "aria-label": "Colours" },
    series.map(({ name, colour }) => el("li", { class: `series-${colour}` }, el("span", {}, name))));
  return el("figure", { class: "box" },
    el("figcaption", {}, el("h2", {}, title), el("p", { class: "hint" }, hint)), legend, plot, readout);
}
