// Curves and bars as SVG, with their numbers as tables.
import { num } from "./format.js";
import { powers, ticks } from "./scales.js";
import { h, s, table } from "./site.js";

export const UNITS = { area: "area kept, fraction of the image", channels: "channels kept, count" };
const HEIGHT = 260;
const MARGIN = { left: 56, right: 14, top: 22, bottom: 44 };

/** An empty chart: axes, their labels, and the mapping of values to its pixels. */
function axes({ width, x, y, xTicks, yTicks, xLabel, yLabel, label }) {
  const { left, right, top, bottom } = MARGIN;
  const node = s("svg", { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  node.style.maxWidth = `${width}px`; // not larger than drawn, or its text would outgrow the page's
  const X = (value) => left + ((x.scale(value) - x.scale(x.low)) / (x.scale(x.high) - x.scale(x.low) || 1)) * (width - left - right);
  const Y = (value) => HEIGHT - bottom - ((value - y.low) / (y.high - y.low || 1)) * (HEIGHT - top - bottom);
  const text = (attributes, content) => s("text", attributes, content);
  for (const value of yTicks) {
    node.append(s("line", { class: "grid", x1: left, x2: width - right, y1: Y(value), y2: Y(value) }));
    node.append(text({ x: left - 6, y: Y(value) + 4, "text-anchor": "end" }, num(value)));
  }
  for (const value of xTicks) {
    node.append(s("line", { class: "axis", x1: X(value), x2: X(value), y1: HEIGHT - bottom, y2: HEIGHT - bottom + 4 }));
    node.append(text({ x: X(value), y: HEIGHT - bottom + 17, "text-anchor": "middle" }, num(value)));
  }
  node.append(s("line", { class: "axis", x1: left, x2: width - right, y1: HEIGHT - bottom, y2: HEIGHT - bottom }));
  node.append(text({ x: (left + width - right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, xLabel));
  const middle = (top + HEIGHT - bottom) / 2;
  node.append(text({ x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, yLabel));
  return { node, X, Y };
}

const present = (values) => values.filter((value) => value !== null && value !== undefined);

function mark(shape, x, y) {
  if (shape === "circle") return s("circle", { class: "dot", cx: x, cy: y, r: 4 });
  return s("rect", { class: "dot", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
}

const SERIES = [["one", "circle"], ["two", "square"]];

/** Score against size: a line and a mark for each series, levels full and perturbed, a* upright. */
function curveChart(curve, width) {
  const values = present([...curve.series.flatMap(({ scores }) => scores), curve.full, curve.perturbed]);
  if (!values.length) values.push(0, 1); // axes without a curve
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const room = (high - low) * 0.06;
  const y = { low: low - room, high: high + room };
  const counts = curve.label === "channels";
  const least = Math.min(...curve.sizes);
  const x = counts
    ? { low: Math.max(1, least), high: Math.max(...curve.sizes), scale: (v) => Math.log10(Math.max(v, 1)) }
    : { low: 0, high: Math.max(1, ...curve.sizes), scale: (v) => v };
  const { node, X, Y } = axes({
    width, x, y,
    xTicks: counts ? powers(x.low, x.high) : ticks(0, x.high),
    yTicks: ticks(y.low, y.high),
    xLabel: UNITS[curve.label] ?? curve.label,
    yLabel: "score of the class",
    label: `${curve.title}: ${curve.series.map(({ name }) => name).join(" and ")} against ${UNITS[curve.label] ?? curve.label}; the numbers are in the table below`,
  });
  for (const [name, level] of [["full", curve.full], ["perturbed", curve.perturbed]]) {
    if (present([level]).length) node.append(s("line", { class: `level ${name}`, x1: MARGIN.left, x2: width - MARGIN.right, y1: Y(level), y2: Y(level) }));
  }
  if (present([curve.a_star]).length) {
    node.append(s("line", { class: "astar", x1: X(curve.a_star), x2: X(curve.a_star), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
    node.append(s("text", { class: "strong", x: X(curve.a_star), y: MARGIN.top - 7, "text-anchor": "middle" }, "a*"));
  }
  curve.series.forEach(({ scores }, i) => {
    const [style, shape] = SERIES[i % SERIES.length];
    const points = curve.sizes.map((size, k) => [X(size), scores[k]]).filter(([, score]) => present([score]).length);
    const group = s("g", { class: `series ${style}` });
    group.append(s("polyline", { points: points.map(([px, score]) => `${px},${Y(score)}`).join(" ") }));
    for (const [px, score] of points) group.append(mark(shape, px, Y(score)));
    node.append(group);
  });
  return node;
}

function curveLegend(curve) {
  const key = (drawing, text) => h("li", {}, s("svg", { class: "key", viewBox: "0 0 34 12", "aria-hidden": "true" }, drawing), text);
  const line = (attributes) => s("line", { x1: 1, x2: 33, y1: 6, y2: 6, ...attributes });
  const series = curve.series.map(({ name }, i) => {
    const [style, shape] = SERIES[i % SERIES.length];
    return key(s("g", { class: `series ${style}` }, s("polyline", { points: "1,6 33,6" }), mark(shape, 17, 6)), name);
  });
  const levels = ["full", "perturbed"].filter((name) => present([curve[name]]).length);
  return h("ul", { class: "legend" }, series, levels.map((name) => key(line({ class: `level ${name}` }), `${name} (${num(curve[name])})`)));
}

/** The chart, its legend and the table of the same numbers. */
export function curveFigure(curve, width) {
  const columns = [curve.label, ...curve.series.map(({ name }) => name)].map((label) => ({ label, number: true }));
  const rows = curve.sizes.map((size, k) => [num(size), ...curve.series.map(({ scores }) => num(scores[k], 4))]);
  const star = present([curve.a_star]).length ? `a* = ${num(curve.a_star)}` : "no a*: no size keeps the full score";
  return h(
    "figure",
    { class: "curve" },
    h("figcaption", {}, curve.title, h("span", { class: "note" }, ` ${star}`)),
    curveChart(curve, width),
    curveLegend(curve),
    h("details", {}, h("summary", {}, "Numbers"), table({ title: `${curve.title}: numbers`, columns, rows })),
  );
}

/** Bars of counts, one per named category, with the count above each; the last category is no size. */
export function histogram({ names, values, width, xLabel, yLabel, label }) {
  const high = Math.max(1, ...values);
  const slots = { low: -0.5, high: names.length - 0.5, scale: (v) => v };
  const yTicks = ticks(0, high).filter(Number.isInteger);
  const { node, X, Y } = axes({ width, x: slots, y: { low: 0, high: high * 1.08 }, xTicks: [], yTicks, xLabel, yLabel, label });
  const wide = (X(1) - X(0)) * 0.72;
  const half = (i) => 4 * names[i].length + 3;
  const last = names.length - 1;
  let end = -Infinity;
  values.forEach((value, i) => {
    node.append(s("rect", { class: i === last ? "bar pale" : "bar", x: X(i) - wide / 2, y: Y(value), width: wide, height: Y(0) - Y(value) }));
    // Names that would touch are left out; the last, which is no size, never is.
    if (i === last || (X(i) - half(i) > end && X(i) + half(i) < X(last) - half(last))) {
      node.append(s("text", { x: X(i), y: HEIGHT - MARGIN.bottom + 17, "text-anchor": "middle" }, names[i]));
      end = X(i) + half(i);
    }
    if (value) node.append(s("text", { class: "strong", x: X(i), y: Y(value) - 4, "text-anchor": "middle" }, num(value)));
  });
  return node;
}

/** One thin bar per channel: two paths, since there may be thousands; the marked ones in the second colour. */
export function channelBars({ values, marked, width, label }) {
  const high = Math.max(...values, 1e-9);
  const x = { low: 0, high: values.length, scale: (v) => v };
  const y = { low: 0, high: high * 1.12 };
  const { node, X, Y } = axes({
    width, x, y, xTicks: ticks(0, values.length - 1, 8), yTicks: ticks(0, high), xLabel: "channel", yLabel: "mean mask, 0 to 1", label,
  });
  const bars = (list) => list.map((k) => `M${X(k + 0.5).toFixed(2)} ${Y(0)}V${Y(Math.max(values[k], 0)).toFixed(2)}`).join("");
  const stroke = Math.max(0.6, (X(1) - X(0)) * 0.8);
  const all = [...values.keys()];
  node.append(s("path", { class: "bars", d: bars(all.filter((k) => !marked.includes(k))), "stroke-width": stroke }));
  node.append(s("path", { class: "bars marked", d: bars(marked), "stroke-width": Math.max(stroke, 2) }));
  let last = -Infinity;
  for (const k of [...marked].sort((a, b) => a - b)) {
    const at = X(k + 0.5);
    if (at - last < 26) continue; // labels would touch; the list below names all
    node.append(s("text", { class: "strong", x: at, y: Y(Math.max(values[k], 0)) - 4, "text-anchor": "middle" }, String(k)));
    last = at;
  }
  return node;
}

/** Width to draw a chart at: its text keeps its size on phones. */
export const chartWidth = (most) => Math.min(most, Math.max(280, document.getElementById("main").clientWidth - 40));
