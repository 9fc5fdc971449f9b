// class.html?c=INDEX: one class, its a*, its channels, its pairs.
import { channelBars, chartWidth, histogram, UNITS } from "./charts.js";
import { count, link, num, pad } from "./format.js";
import { extremal, h, heading, page, say, section } from "./site.js";
import { aspectOf, frame, loadPair, tileNode, whenSeen } from "./tiles.js";

function sizes(record) {
  if (!record.a_star) return null;
  const { label, sizes: list, counts, none } = record.a_star;
  const values = [...counts, none];
  const total = values.reduce((sum, n) => sum + n, 0);
  const text = `a* of ${count(total, "pair")}: ${list.map((size, i) => `${counts[i]} at ${num(size)}`).join(", ")}, ${none} without`;
  const chart = histogram({ names: [...list.map((size) => num(size)), "none"], values, width: chartWidth(560), xLabel: `a*, ${UNITS[label] ?? label}`, yLabel: "pairs", label: text });
  return section("a*", `The smallest size that keeps the score, ${count(total, "pair")} with a result.`, chart);
}

function meanMask(record) {
  if (!record.mean_mask || !record.mean_mask.length) return null;
  const marked = [...new Set(record.channels.map((row) => row.channel))];
  const label = `Mean mask of ${count(record.mean_mask.length, "channel")}; marked: ${marked.join(", ") || "none"}`;
  const note = `${record.layer ? `Layer ${record.layer}, ` : ""}${count(record.mean_mask.length, "channel")}; the channels listed below are marked.`;
  return section("Mean mask", note, channelBars({ values: record.mean_mask, marked, width: chartWidth(1100), label }));
}

function example({ pair, class_name: name, image, activation }) {
  const picture = image
    ? h("img", { src: image, alt: `${name}, an image that excites the channel`, loading: "lazy" })
    : h("span", { class: "ground", role: "img", "aria-label": `${name}, no picture` });
  const parts = [picture, h("span", { class: "small" }, `${name} ${num(activation)}`)];
  // An image of the channel run may lie beyond the pairs of the report.
  return h("li", {}, pair === null ? h("span", {}, ...parts) : h("a", { href: link("pair.html", { i: pair }) }, ...parts));
}

const KINDS = { top: "largest mean mask", specific: "class-specific" };

function channel({ channel: k, kind, value, picture, examples }) {
  const inverted = picture ? h("img", { class: "inverted", src: picture, alt: `Feature inversion of channel ${k}`, loading: "lazy" }) : null;
  return h(
    "li",
    { class: "channel" },
    h("h3", {}, `Channel ${k}`, h("span", { class: "note" }, ` ${KINDS[kind] ?? kind}, ${num(value)}`)),
    h("div", { class: "row" }, inverted, examples.length ? h("ul", { class: "examples", "aria-label": `Images that excite channel ${k} most` }, examples.map(example)) : null),
  );
}

function channels(record) {
  if (!record.channels.length) return null;
  const note = "The channel's feature inversion where there is one, then the images of the dataset that excite it most, with the activation.";
  return section("Channels", note, h("ul", { class: "channels" }, record.channels.map(channel)));
}

/** A card of a pair: its picture and tile are read when it comes near the window. */
function thumbnail(overview, record, id) {
  const picture = h("span", { class: "picture" });
  const text = h("span", { class: "small" }, `pair ${id}`);
  const card = h("a", { class: "card", href: link("pair.html", { i: id, class: record.class }) }, picture, text);
  whenSeen(card, async () => {
    try {
      const pair = await loadPair(overview, id);
      const image = frame(pair.picture, aspectOf(pair), `${record.name}, image ${pair.image_id}`);
      if (pair.strip) image.append(tileNode(pair, 0));
      picture.replaceChildren(image);
      text.textContent = pair.failure ? `${pair.image_id}, failed` : pair.image_id;
    } catch (error) {
      say(error.message, true);
    }
  });
  return h("li", {}, card);
}

page(async (overview) => {
  const index = Number(new URLSearchParams(location.search).get("c") ?? "none");
  if (!Number.isInteger(index) || index < 0 || index >= overview.classes.length) {
    throw new Error("This report has no such class: open one from the table of classes.");
  }
  const record = await extremal.load(`class/${pad(index, 5)}`);
  heading(record.name, overview);
  say(count(record.total, "pair"));
  const cards = record.pairs.map((id) => thumbnail(overview, record, id));
  const note = record.pairs.length < record.total ? `The first ${num(record.pairs.length)} of ${num(record.total)}.` : "";
  const all = h("p", {}, h("a", { href: link("gallery.html", { class: index }) }, `All ${count(record.total, "pair")} in the gallery`));
  const parts = [sizes(record), meanMask(record), channels(record), section("Pairs", note, all, h("ul", { class: "cards" }, cards))];
  document.getElementById("main").append(...parts.filter((part) => part));
});
