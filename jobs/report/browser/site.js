// What every page needs: data, elements, tables, the header. Data enters the page as text only.
import { compareCells, textOf } from "./format.js";

export const extremal = (() => {
  const waiting = new Map(); // name -> {promise, resolve}

  function entry(name) {
    if (!waiting.has(name)) {
      const request = {};
      request.promise = new Promise((resolve, reject) => Object.assign(request, { resolve, reject }));
      waiting.set(name, request);
    }
    return waiting.get(name);
  }

  /** Called by data/NAME.js with its value. */
  function put(name, value) {
    entry(name).resolve(value);
  }

  /** The value of data/NAME.js: a script, since fetch does not reach file://. */
  function load(name) {
    const asked = waiting.has(name);
    const request = entry(name);
    if (!asked) {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      const missing = () => request.reject(new Error(`data/${name}.js is missing or damaged: make the report again.`));
      script.onload = missing; // does nothing once put() has resolved
      script.onerror = missing;
      document.head.append(script);
    }
    return request.promise;
  }

  return { put, load };
})();

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; strings among the children become text nodes. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** What a wide thing scrolls in: reachable by keyboard, named for screen readers. */
function scroller(label, child) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, child);
}

function cellNode(cell, column) {
  const node = h("td", column.number ? { class: "number" } : {});
  if (typeof cell === "object" && cell.href) node.append(h("a", { href: cell.href }, cell.text));
  else node.textContent = textOf(cell);
  return node;
}

/**
 * A table that scrolls sideways where it must. Cells: text, or {text, href, key}.
 * sortable: its heads are buttons; cells of number columns need a key, a number or null.
 */
export function table({ title, columns, rows }, sortable = false) {
  const body = h("tbody");
  const draw = (list) =>
    body.replaceChildren(...list.map((row) => h("tr", {}, row.map((cell, i) => cellNode(cell, columns[i])))));
  const heads = columns.map((column, i) => {
    const head = h("th", { scope: "col", class: column.number ? "number" : null });
    if (!sortable) {
      head.textContent = column.label;
      return head;
    }
    const sort = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const compare = compareCells(column, sign);
      draw([...rows].sort((a, b) => compare(a[i], b[i])));
    };
    head.append(h("button", { type: "button", class: "sort", onclick: sort }, column.label));
    return head;
  });
  draw(rows);
  return scroller(title, h("table", {}, h("caption", { class: "hidden" }, title), h("thead", {}, h("tr", {}, heads)), body));
}

/** A section with its heading; a note stands under it. */
export function section(title, note, ...children) {
  return h("section", {}, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, ...children);
}

/** A TABLE of the data as a section, nothing if it has no rows. name: for screen readers, no other's on the page. */
export function tableSection(data, sortable = false, name = data?.title) {
  return data && data.rows.length ? section(data.title, data.note, table({ ...data, title: name }, sortable)) : null;
}

/** A control under its label. */
export const field = (label, control) => h("label", {}, h("span", {}, label), control);

/** Pairs of label and text as a description list. */
export function facts(list) {
  return h("dl", { class: "facts" }, list.map(([label, text]) => h("div", {}, h("dt", {}, label), h("dd", {}, text))));
}

const Theme = {
  NAMES: ["auto", "light", "dark"],
  read() {
    try {
      const name = localStorage.getItem("extremal-theme");
      return Theme.NAMES.includes(name) ? name : "auto";
    } catch {
      return "auto"; // storage is refused in some browsers' file:// pages
    }
  },
  apply(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  },
  next() {
    const name = Theme.NAMES[(Theme.NAMES.indexOf(Theme.read()) + 1) % Theme.NAMES.length];
    try {
      localStorage.setItem("extremal-theme", name);
    } catch {
      // it lasts as long as the page, then
    }
    Theme.apply(name);
    return name;
  },
};
Theme.apply(Theme.read()); // before the body is drawn: no flash of the other theme

function header(overview) {
  const here = location.pathname.split("/").pop() || "index.html";
  const parent = { "pair.html": "gallery.html", "class.html": "classes.html" }[here];
  const pages = [["index.html", "Overview"], ["gallery.html", "Gallery"]];
  if (overview.has.classes) pages.push(["classes.html", "Classes"]);
  const links = pages.map(([target, name]) => {
    const current = target === here ? "page" : target === parent ? "true" : null;
    return h("li", {}, h("a", { href: target, "aria-current": current }, name));
  });
  const theme = h("button", { type: "button", class: "theme", onclick: () => (theme.textContent = `Theme: ${Theme.next()}`) });
  theme.textContent = `Theme: ${Theme.read()}`;
  document.getElementById("top").replaceChildren(
    h("span", { class: "title" }, overview.title),
    h("nav", { "aria-label": "Pages" }, h("ul", {}, links)),
    theme,
  );
  document.body.append(h("footer", {}, `Made ${overview.made}`));
}

/** Text of the status line; an error is read out at once. */
export function say(text, error = false) {
  const status = document.getElementById("status");
  status.textContent = text;
  status.classList.toggle("error", error);
  if (error) status.setAttribute("role", "alert");
}

/** The heading and the tab's title. */
export function heading(text, overview) {
  document.getElementById("heading").textContent = text;
  document.title = `${text} · ${overview.title}`;
}

/** Runs a page: header, then draw(overview), whose errors are shown in place of the page. */
export async function page(draw) {
  try {
    const overview = await extremal.load("overview");
    header(overview);
    await draw(overview);
  } catch (error) {
    say(error.message, true);
    throw error;
  }
}

/** True where a key belongs to a field or to the browser and not to a page's shortcuts. */
export function typing(event) {
  const control = event.target.closest("input, select, textarea, dialog[open]");
  return event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || control !== null;
}
