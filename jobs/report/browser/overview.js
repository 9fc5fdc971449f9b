// index.html: what was run, how much of it is there, the scores.
import { count, link, num } from "./format.js";
import { facts, h, heading, page, say, section, tableSection } from "./site.js";

function counts(overview) {
  const box = (label, n, query) =>
    h("a", { class: "count", href: link("gallery.html", query) }, h("strong", {}, num(n)), h("span", {}, label));
  const { pairs, results, failed, missing } = overview.counts;
  const of = `of ${count(pairs, "pair")}`;
  return h(
    "div",
    { class: "counts" },
    box(pairs === 1 ? "pair" : "pairs", pairs, {}),
    box(`results ${of}`, results, { state: "r" }),
    box(`failed ${of}`, failed, { state: "f" }),
    box(`missing ${of}`, missing, { state: "m" }),
  );
}

function runs(overview) {
  const rows = overview.runs.map((run) => [run.kind, run.network, run.dataset, run.complete ? "complete" : "incomplete", run.place]);
  const columns = ["kind", "network", "dataset", "state", "place"].map((label) => ({ label, number: false }));
  return tableSection({ title: "Runs", note: "", columns, rows });
}

/** The tables of all runs; those of several runs have the same titles, and the run in their notes. */
function tables({ tables: list }) {
  const alone = ({ title }) => list.filter((other) => other.title === title).length === 1;
  return list.map((data) => tableSection(data, false, alone(data) ? data.title : `${data.title}, ${data.note}`));
}

function links(overview) {
  const list = [["gallery.html", "Gallery", "all pairs, with filters and orders"]];
  if (overview.has.classes) list.push(["classes.html", "Classes", "results of each class, its channels"]);
  return h("ul", { class: "links" }, list.map(([href, name, what]) => h("li", {}, h("a", { href }, name), ` ${what}`)));
}

page(async (overview) => {
  heading(overview.title, overview);
  say(overview.has.pictures ? "" : "The images of the dataset were not at hand: tiles are shown on a plain ground.");
  const config = h("pre", { tabindex: "0", "aria-label": "Configuration" }, JSON.stringify(overview.config, null, 2));
  const parts = [
    counts(overview),
    links(overview),
    section("Facts", "", facts(overview.facts)),
    runs(overview),
    ...tables(overview),
    tableSection(overview.failures),
    section("Configuration", "", h("details", {}, h("summary", {}, "Everything that was set"), config)),
  ];
  document.getElementById("main").append(...parts.filter((part) => part));
});
