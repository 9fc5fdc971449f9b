// pair.html?i=ID: one pair with its tiles, points, curves and numbers.
// Shapes in a box of -7..7; with the colours no two of the first 56 methods look alike.
import { chartWidth, curveFigure } from "./charts.js";
import { count, link, num, OUTCOMES, outcomeText, percent, tileName } from "./format.js";
import { Index, PAGE, readQuery, shortQuery } from "./selection.js";
import { facts, field, h, heading, page, s, say, section, tableSection, typing } from "./site.js";
import { aspectOf, frame, loadChunk, loadPair, place, tileNode } from "./tiles.js";

const SHAPES = [
  "M0-6A6 6 0 1 1 0 6A6 6 0 1 1 0-6Z",
  "M-5-5H5V5H-5Z",
  "M0-7L6 5H-6Z",
  "M0-7L6 0L0 7L-6 0Z",
  "M0 7L6-5H-6Z",
  "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
  "M0-7L2-2L7-2L3 1L4.5 6.5L0 3.2L-4.5 6.5L-3 1L-7-2L-2-2Z",
  "M-6-3.5L0-7L6-3.5V3.5L0 7L-6 3.5Z",
];
const COLOURS = 7; // classes c0 .. c6 of site.css

function pointMark(number) {
  const path = s("path", { d: SHAPES[number % SHAPES.length], class: `c${number % COLOURS}` });
  return s("svg", { class: "point", viewBox: "-9 -9 18 18", "aria-hidden": "true" }, path);
}

const methodNumber = (overview, method) => Math.max(0, overview.methods.indexOf(method));

/** Whether the network saw a part of the picture only. */
function partial({ region, width, height }) {
  return width && height && (region[0] > 0.5 || region[1] > 0.5 || region[2] < width - 0.5 || region[3] < height - 0.5);
}

/** Boxes of the ground truth and the region, as outlines over the picture. */
function outlines(pair) {
  if (!pair.width || !pair.height) return [];
  const box = ([x0, y0, x1, y1]) => place(h("div", { class: "box" }), [x0, y0, x1 + 1, y1 + 1], pair);
  const region = partial(pair) ? [place(h("div", { class: "region" }), pair.region, pair)] : [];
  return [...region, ...pair.boxes.map(box)];
}

function points(pair, overview) {
  if (!pair.width || !pair.height) return [];
  return pair.points.map((point) => {
    const mark = pointMark(methodNumber(overview, point.method));
    mark.style.left = percent(point.x + 0.5, pair.width); // the middle of the pixel
    mark.style.top = percent(point.y + 0.5, pair.height);
    return mark;
  });
}

function pictureText(pair) {
  const boxes = pair.boxes.length ? `, ${count(pair.boxes.length, "box", "boxes")} of ground truth` : "";
  return `${pair.class_name}, image ${pair.image_id}${boxes}`;
}

/** The large picture and the small ones that choose its tile. */
function viewer(pair, overview, wanted, opacity) {
  const big = frame(pair.picture, aspectOf(pair), pictureText(pair));
  big.append(...outlines(pair), ...points(pair, overview));
  const caption = h("figcaption", {}, "");
  const slider = h("input", { type: "range", min: "0", max: "100", step: "5", value: opacity || "80", "aria-label": "Opacity of the overlay, percent" });
  const marks = h("input", { type: "checkbox", checked: true, onchange: () => big.classList.toggle("bare", !marks.checked) });
  const figure = h("figure", { class: "big" }, h("div", { class: "picture" }, big), caption);
  const controls = h("div", { class: "bar" }, field("Opacity", slider), h("label", { class: "check" }, marks, h("span", {}, "points and boxes")));
  const fade = () => figure.parentNode.style.setProperty("--opacity", String(Number(slider.value) / 100));
  slider.addEventListener("input", fade);
  const small = h("ul", { class: "tiles" });
  const choose = (chosen) => {
    big.querySelector(".tile")?.remove();
    if (chosen >= 0) big.append(tileNode(pair, chosen));
    [...small.querySelectorAll("button")].forEach((button, i) => button.setAttribute("aria-pressed", String(i - 1 === chosen)));
    caption.textContent = chosen < 0 ? "the picture" : tileText(pair.strip.tiles[chosen]);
  };
  const tiles = pair.strip ? pair.strip.tiles : [];
  small.append(...[-1, ...tiles.keys()].map((i) => h("li", {}, smallTile(pair, i, () => choose(i)))));
  const node = h("div", { class: "viewer" }, figure, h("div", {}, controls, legend(pair, overview), small));
  const index = wanted === "none" ? -1 : tiles.map(tileName).indexOf(wanted);
  choose(wanted !== "none" && index < 0 && tiles.length ? 0 : index);
  fade();
  return node;
}

function tileText(tile) {
  const scores = [["score", tile.score], ["deleted", tile.deleted]].filter(([, value]) => value !== null && value !== undefined);
  return [tileName(tile), ...scores.map(([name, value]) => `${name} ${num(value, 4)}`)].join(" · ");
}

function smallTile(pair, tile, action) {
  const picture = frame(pair.picture, aspectOf(pair), "");
  const name = tile < 0 ? "picture" : tileName(pair.strip.tiles[tile]);
  const score = tile < 0 ? null : pair.strip.tiles[tile].score;
  if (tile >= 0) {
    const node = tileNode(pair, tile);
    node.removeAttribute("role"); // the button's text names it
    node.removeAttribute("aria-label");
    picture.append(node);
  }
  const text = score === null || score === undefined ? "" : num(score);
  return h("button", { type: "button", onclick: action, "aria-pressed": "false" }, h("span", { class: "picture" }, picture), h("span", {}, name), h("span", { class: "small" }, text));
}

/** Methods with their marks, outcomes and distances. */
function legend(pair, overview) {
  if (!pair.points.length) return null;
  const outlined = [
    pair.boxes.length ? h("li", {}, h("span", { class: "swatch box" }), "ground truth") : null,
    partial(pair) ? h("li", {}, h("span", { class: "swatch region" }), "seen by the network") : null,
  ];
  const entry = ({ method, outcome, distance }) =>
    h("li", {}, pointMark(methodNumber(overview, method)), `${method}: ${outcomeText(outcome, distance)}`);
  return h("ul", { class: "legend", "aria-label": "Points of the methods" }, pair.points.map(entry), outlined);
}

function pointTable(pair) {
  if (!pair.points.length) return null;
  const columns = [["method", false], ["outcome", false], ["distance, px", true], ["x, px", true], ["y, px", true]].map(([label, number]) => ({ label, number }));
  const rows = pair.points.map((p) => [p.method, OUTCOMES[p.outcome], num(p.distance, 4), num(p.x, 5), num(p.y, 5)]);
  const note = "Distance from the point to the nearest object, 0 inside; original pixels.";
  return tableSection({ title: "Points", note, columns, rows });
}

function inversion(pair) {
  if (!pair.inversion) return null;
  const { whole, masked, numbers } = pair.inversion;
  const image = (src, alt) => h("img", { class: "inverted", src, alt, loading: "lazy" });
  const figure = (src, text, alt) => h("figure", {}, image(src, alt), h("figcaption", {}, text));
  const figures = [figure(whole, "whole image", `Inversion of the features of the whole image, ${pair.class_name}`)];
  if (masked) {
    figures.push(figure(masked, "masked channels", `Inversion of the masked features, ${pair.class_name}`));
    // The browser subtracts the one from the other: no file is needed.
    const both = h("div", { class: "difference" }, image(whole, "What differs between the two inversions"), image(masked, ""));
    figures.push(h("figure", {}, both, h("figcaption", {}, "difference")));
  }
  return section("Feature inversion", "", h("div", { class: "beside" }, figures), numbers.length ? facts(numbers) : null);
}

function failure({ failure: told }) {
  if (!told) return null;
  return h("p", { class: "failure" }, h("strong", {}, `Failed at ${told.stage}: ${told.error_type}`), ` ${told.error}`);
}

/** Previous and next pair of the gallery's selection: links once the index is read. */
class Steps {
  constructor(pair, query) {
    this.pair = pair;
    this.query = query;
    this.node = h("nav", { class: "bar steps", "aria-label": "Pairs of the selection" }, h("a", { href: link("gallery.html", shortQuery(query)) }, "Gallery"), h("span", {}, "…"));
  }

  /** Called when the whole index is read. */
  fill(index) {
    const chosen = index.select(this.query);
    const at = chosen.indexOf(this.pair);
    const text = at < 0 ? `not among the ${num(chosen.length)} selected` : `${num(at + 1)} of ${num(chosen.length)} selected`;
    const number = at < 0 ? "" : String(Math.floor(at / PAGE) + 1);
    const to = (id) => link("pair.html", { i: id, ...shortQuery({ ...this.query, page: "" }) });
    const step = (id, name, rel) => (id === undefined ? null : h("a", { href: to(id), rel }, name));
    this.node.replaceChildren(
      ...[
        h("a", { href: link("gallery.html", shortQuery({ ...this.query, page: number })), id: "back" }, "Gallery"),
        at > 0 ? step(chosen[at - 1], "← Previous", "prev") : null,
        h("span", {}, text),
        at >= 0 ? step(chosen[at + 1], "Next →", "next") : null,
      ].filter((part) => part),
    );
  }
}

function onKey(event) {
  if (typing(event)) return;
  const rel = { ArrowLeft: "prev", k: "prev", ArrowRight: "next", j: "next" }[event.key];
  if (rel) document.querySelector(`.steps a[rel=${rel}]`)?.click();
}

function facing(pair) {
  const target = pair.target === null ? [] : [["output explained", pair.target_name === null ? String(pair.target) : `${pair.target}, ${pair.target_name}`]];
  const size = pair.width && pair.height ? [["size", `${pair.width} × ${pair.height} px`]] : [];
  return facts([["image", pair.image_id], ["file", pair.path], ...size, ...target, ...pair.numbers]);
}

page(async (overview) => {
  const id = Number(new URLSearchParams(location.search).get("i") ?? "none");
  if (!Number.isInteger(id) || id < 0 || id >= overview.pairs) {
    throw new Error(`This report has the pairs 0 to ${overview.pairs - 1}: open one from the gallery.`);
  }
  const query = readQuery(overview, location.search);
  const pair = await loadPair(overview, id);
  heading(`${pair.class_name}, pair ${id}`, overview);
  say("");
  const steps = new Steps(id, query);
  const curves = pair.curves.filter(({ sizes }) => sizes.length).map((curve) => curveFigure(curve, chartWidth(560)));
  const to = overview.has.classes ? h("p", {}, h("a", { href: link("class.html", { c: pair.class }) }, `All of ${pair.class_name}`)) : null;
  const parts = [
    steps.node,
    failure(pair),
    viewer(pair, overview, query.tile, query.opacity),
    curves.length ? section("Score against size", "", h("div", { class: "beside" }, curves)) : null,
    section("Numbers", "", facing(pair), to),
    pointTable(pair),
    inversion(pair),
  ];
  document.getElementById("main").append(...parts.filter((part) => part));
  addEventListener("keydown", onKey);
  await new Index(overview).load(loadChunk, (index) => index.read === index.total && steps.fill(index));
});
