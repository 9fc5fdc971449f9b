// classes.html: all classes in a table to sort; likeness of their channels; ablation.
import { count, link, num } from "./format.js";
import { extremal, h, heading, page, say, section, table, tableSection } from "./site.js";

function classTable(overview, classes) {
  const channels = classes.some((one) => one.top.length || one.specific.length);
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
  const row = (one) => [
    { text: one.name, href: link("class.html", { c: one.class }) },
    ...[one.pairs, one.results, one.failed].map((n) => ({ text: num(n), key: n })),
    ...(overview.size_label ? [{ text: num(one.mean_a_star), key: one.mean_a_star }, { text: num(one.no_a_star), key: one.no_a_star }] : []),
    ...overview.methods.map((method) => rate(one.hits[method])),
    ...(channels ? [one.top.join(", "), one.specific.join(", ")] : []),
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
