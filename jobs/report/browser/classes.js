// classes.html: all classes in a table to sort; likeness of their channels; ablation.
import { count, link, num } from "./format.js";
import { extremal, h, heading, page, say, section, table, tableSection } from "./site.js";

function classTable(overview, classes) {
  const channels = classes.some((record) => record.top.length || record.specific.length);
  const columns = [["class", false], ["pairs", true], ["results", true], ["failed", true]].map(([label, number]) => ({ label, number }));
  const add = (label, number = true) => columns.push({ label, number });
  if (overview.size_label) {
    add(`mean a*, ${overview.size_label}`);
    add("no a*");
  }
  overview.methods.forEach((method) => add(`${method} hits`));
  if (channels) ["top channels", "specific channels"].forEach((label) => add(label, false));
  const rate = (hits) => {
    const [hit, miss] = hits ?? [0, 0];
    return hit + miss ? { text: `${num((100 * hit) / (hit + miss))}% of ${num(hit + miss)}`, key: hit / (hit + miss) } : { text: "–", key: null };
  };
  const row = (record) => [
    { text: record.name, href: link("class.html", { c: record.class }) },
    ...[record.pairs, record.results, record.failed].map((n) => ({ text: num(n), key: n })),
    ...(overview.size_label ? [{ text: num(record.mean_a_star), key: record.mean_a_star }, { text: num(record.no_a_star), key: record.no_a_star }] : []),
    ...overview.methods.map((method) => rate(record.hits[method])),
    ...(channels ? [record.top.join(", "), record.specific.join(", ")] : []),
  ];
  return { title: "All classes", note: "A click on a head sorts by it. Rates: hits of hits and misses.", columns, rows: classes.map(row) };
}

function similarity(overview, given) {
  if (!given) return null;
  const names = given.order.map((i) => overview.classes[i]);
  const alt = `Likeness of the channel masks of ${count(names.length, "class", "classes")}, similar classes beside each other; the table below names the closest`;
  const order = h("details", {}, h("summary", {}, "Order of the rows"), h("ol", { class: "columns" }, names.map((name) => h("li", {}, name))));
  const picture = h("figure", {}, h("img", { class: "wide", src: given.image, alt }));
  return section("Similarity of classes", given.note, picture, order, given.closest.rows.length ? [h("h3", {}, given.closest.title), table(given.closest)] : null);
}

page(async (overview) => {
  heading("Classes", overview);
  const { classes, similarity: map, ablation } = await extremal.load("classes");
  say(count(classes.length, "class", "classes"));
  const parts = [tableSection(classTable(overview, classes), true), similarity(overview, map), tableSection(ablation)];
  document.getElementById("main").append(...parts.filter((part) => part));
});
