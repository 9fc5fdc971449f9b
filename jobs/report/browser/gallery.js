// gallery.html: cards of pairs, page by page; all of its state is the query of its address.
import { count, link, num, outcomeText, tileName } from "./format.js";
import { Index, PAGE, readQuery, shortQuery, SORTS } from "./selection.js";
import { facts, field, h, heading, page, say, typing } from "./site.js";
import { frame, loadChunk, loadPair, tileNode, whenSeen } from "./tiles.js";

const Gallery = {
  overview: null,
  index: null,
  query: null,
  chosen: [], // ids of the selected pairs, in order
  shown: "", // what the cards show, so that a new chunk does not draw them again in vain
  tiles: new Set(), // names of the tiles seen so far
};

function select(name, options) {
  const node = h("select", { name }, options.map(([value, text]) => h("option", { value }, text)));
  node.addEventListener("change", change);
  return node;
}

function numberField(name, label) {
  return field(label, h("input", { type: "number", name, min: "0", step: "any", inputmode: "decimal", onchange: change }));
}

function checkbox(name, label) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", name, onchange: change }), h("span", {}, label));
}

function filters(overview) {
  const { methods, size_label: size } = overview;
  const classes = overview.classes
    .map((name, i) => [String(i), `${name} (${num(overview.class_sizes[i])})`])
    .sort((a, b) => a[1].localeCompare(b[1], "en"));
  const parts = [field("Class", select("class", [["", "all classes"], ...classes]))];
  if (methods.length) {
    parts.push(field("Method", select("method", methods.map((m) => [m, m]))));
    parts.push(field("Its outcome", select("outcome", [["", "any"], ["h", "hit"], ["m", "miss"], ["s", "skipped"], ["n", "none"]])));
  }
  if (size) parts.push(numberField("amin", `a* from (${size})`), numberField("amax", "a* to"), checkbox("anone", "no a*"));
  if (methods.length > 1) parts.push(checkbox("disagree", "methods disagree"));
  parts.push(field("State", select("state", [["", "any"], ["r", "result"], ["f", "failed"], ["m", "missing"]])));
  parts.push(field("Order", select("sort", Object.entries(SORTS).map(([value, { text }]) => [value, text]))));
  parts.push(field("Overlay", select("tile", [["", "first tile"], ["none", "none"]])));
  const slider = h("input", { type: "range", name: "opacity", min: "0", max: "100", step: "5", "aria-label": "Opacity of the overlay, percent" });
  slider.addEventListener("input", () => setOpacity(slider.value));
  slider.addEventListener("change", change);
  parts.push(field("Opacity", slider));
  parts.push(h("button", { type: "button", onclick: () => go({}) }, "Reset"));
  return h("form", { id: "filters", class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() }, parts);
}

const setOpacity = (value) => document.getElementById("cards").style.setProperty("--opacity", String(Number(value || 80) / 100));

/** Reads the form into the query; the page starts anew unless only the look of the cards changed. */
function change(event) {
  const next = { ...Gallery.query };
  for (const control of document.getElementById("filters").elements) {
    if (!control.name) continue;
    next[control.name] = control.type === "checkbox" ? (control.checked ? "1" : "") : control.value;
  }
  if (next.opacity === "80") next.opacity = "";
  if (!["tile", "opacity"].includes(event.target.name)) next.page = "";
  go(next);
}

/** Goes to a query: one step of the browser's history. */
function go(query) {
  history.pushState(null, "", link("gallery.html", shortQuery(query)));
  arrive();
}

/** Shows what the address asks for. */
function arrive() {
  Gallery.query = readQuery(Gallery.overview, location.search);
  for (const control of document.getElementById("filters").elements) {
    if (!control.name) continue;
    const value = Gallery.query[control.name];
    if (control.type === "checkbox") control.checked = value !== "";
    else control.value = control.name === "opacity" ? value || "80" : value;
  }
  offerTile(Gallery.query.tile);
  setOpacity(Gallery.query.opacity);
  update();
}

function update() {
  Gallery.chosen = Gallery.index.select(Gallery.query);
  const { index, chosen, query } = Gallery;
  const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
  const current = Math.min(Math.max(1, Math.trunc(Number(query.page)) || 1), pages);
  const ids = chosen.slice((current - 1) * PAGE, current * PAGE);
  const reading = index.read < index.total ? `; ${num(index.read)} read so far` : "";
  say(`${num(chosen.length)} of ${count(index.total, "pair")}${reading}`);
  drawPager(current, pages);
  const shown = JSON.stringify([ids, shortQuery(query)]);
  if (shown === Gallery.shown) return;
  Gallery.shown = shown;
  document.getElementById("cards").replaceChildren(...ids.map(card));
}

function drawPager(current, pages) {
  const button = (text, target, name) =>
    h("button", { type: "button", disabled: target < 1 || target > pages || target === current, "aria-label": name, onclick: () => turn(target) }, text);
  const row = () => [
    button("«", 1, "First page"),
    button("‹", current - 1, "Previous page"),
    h("span", {}, `page ${num(current)} of ${num(pages)}`),
    button("›", current + 1, "Next page"),
    button("»", pages, "Last page"),
  ];
  for (const pager of document.querySelectorAll(".pager")) {
    const held = [...pager.children].indexOf(document.activeElement);
    pager.replaceChildren(...row());
    const again = pager.children[held];
    if (again) (again.disabled ? pager.querySelector("button:not(:disabled)") : again)?.focus();
    pager.dataset.current = current;
    pager.dataset.pages = pages;
  }
}

function turn(target) {
  go({ ...Gallery.query, page: String(target) });
  document.getElementById("cards").scrollIntoView({ block: "nearest" });
}

function turnBy(by) {
  const { current, pages } = document.querySelector(".pager").dataset;
  const target = Number(current) + by;
  if (target < 1 || target > Number(pages)) return;
  turn(target);
  document.querySelector(".card")?.focus();
}

/** Short facts of a pair as far as the index knows them. */
function cardFacts(id) {
  const { index, query, overview } = Gallery;
  const parts = [];
  if (overview.size_label) parts.push(`a* ${num(index.aStar[id])}`, `kept ${num(index.kept[id], 2)}`);
  const outcomes = index.hits.get(query.method);
  if (outcomes && outcomes[id]) {
    const distance = index.distance.get(query.method)[id];
    parts.push(`${query.method} ${outcomeText(String.fromCharCode(outcomes[id]), distance)}`);
  }
  return parts.join(" · ");
}

function card(id) {
  const { index, query, overview } = Gallery;
  const name = overview.classes[index.class[id]];
  const state = String.fromCharCode(index.state[id]);
  const picture = frame(index.picture[id], index.aspect[id], `${name}, image ${index.image[id]}`);
  const node = h(
    "a",
    { class: "card", href: link("pair.html", { i: id, ...shortQuery({ ...query, page: "" }) }) },
    h("span", { class: "picture" }, picture),
    h("span", { class: "name" }, name),
    h("span", { class: "image" }, index.image[id]),
    h("span", { class: "small" }, cardFacts(id)),
    state === "r" ? null : h("span", { class: `badge ${state}` }, state === "f" ? "failed" : "missing"),
  );
  if (query.tile !== "none") whenSeen(node, () => lay(id, picture, query.tile));
  return h("li", {}, node);
}

/** Lays the chosen tile over a card; a file of pairs that is missing is told in the status line. */
async function lay(id, picture, wanted) {
  try {
    const pair = await loadPair(Gallery.overview, id);
    if (!pair.strip) return;
    const names = pair.strip.tiles.map(tileName);
    names.forEach(offerTile);
    const tile = wanted === "" ? 0 : names.indexOf(wanted);
    if (tile >= 0) picture.append(tileNode(pair, tile));
  } catch (error) {
    say(error.message, true);
  }
}

/** Adds a tile's name to the menu of overlays. */
function offerTile(name) {
  if (name === "" || name === "none" || Gallery.tiles.has(name)) return;
  Gallery.tiles.add(name);
  const menu = document.getElementById("filters").elements.tile;
  menu.append(h("option", { value: name }, name));
  menu.value = Gallery.query.tile;
}

/** Moves the focus by so many cards. */
function step(by) {
  const cards = [...document.querySelectorAll(".card")];
  const now = cards.indexOf(document.activeElement);
  const next = now < 0 ? 0 : Math.min(Math.max(now + by, 0), cards.length - 1);
  cards[next]?.focus();
}

/** Cards in a row, read from where they lie. */
function rowLength() {
  const tops = [...document.querySelectorAll(".card")].map((node) => node.getBoundingClientRect().top);
  return Math.max(1, tops.filter((top) => top === tops[0]).length);
}

const SHORTCUTS = {
  j: ["next card", () => step(1)],
  k: ["previous card", () => step(-1)],
  ArrowRight: ["next card", () => step(1)],
  ArrowLeft: ["previous card", () => step(-1)],
  ArrowDown: ["card below", () => step(rowLength())],
  ArrowUp: ["card above", () => step(-rowLength())],
  n: ["next page", () => turnBy(1)],
  p: ["previous page", () => turnBy(-1)],
  "/": ["filters", () => document.getElementById("filters").elements[0].focus()],
  "?": ["this list", () => document.getElementById("help").showModal()],
};

function onKey(event) {
  if (typing(event) || !Object.hasOwn(SHORTCUTS, event.key)) return;
  // Arrows scroll the page until a card has the focus.
  if (["ArrowUp", "ArrowDown"].includes(event.key) && !document.activeElement.matches(".card")) return;
  event.preventDefault();
  SHORTCUTS[event.key][1]();
}

function help() {
  const rows = [...Object.entries(SHORTCUTS).map(([key, [what]]) => [key, what]), ["Enter", "open the card"]];
  const dialog = h(
    "dialog",
    { id: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keys"),
    facts(rows),
    h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  return dialog;
}

/** What the numbers on the cards mean, where there are masks of several sizes. */
function words({ size_label: size }) {
  if (!size) return [];
  const least = size === "area" ? "area" : "number of channels";
  return [h("p", { class: "note" }, `a*: smallest ${least} that keeps the whole image's score; kept: mean score under the masks, 1 is the whole image's, 0 the perturbed one's.`)];
}

page(async (overview) => {
  heading("Gallery", overview);
  Object.assign(Gallery, { overview, index: new Index(overview), query: readQuery(overview, location.search) });
  const status = document.getElementById("status");
  const pager = (name) => h("nav", { class: "pager", "aria-label": name });
  const keys = h("button", { type: "button", class: "keys", onclick: () => document.getElementById("help").showModal() }, "Keys (?)");
  document.getElementById("main").append(
    filters(overview),
    h("div", { class: "bar" }, status, pager("Pages of cards"), keys),
    ...words(overview),
    h("ul", { id: "cards", class: "cards" }),
    pager("Pages of cards, below"),
    help(),
  );
  addEventListener("popstate", arrive);
  addEventListener("keydown", onKey);
  await Gallery.index.load(loadChunk, (index) => (index.read <= overview.chunk ? arrive() : update()));
});
