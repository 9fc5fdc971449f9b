// The pairs that a query selects, in its order: shared by the gallery and the pair pages.

export const PAGE = 24;
const [SWEPT, MISS] = ["1".charCodeAt(0), "m".charCodeAt(0)]; // letters are kept as their codes
export const KEYS = ["class", "method", "outcome", "amin", "amax", "anone", "disagree", "state", "sort", "page", "tile", "opacity"];
export const SORTS = {
  plan: { text: "plan order" },
  "kept-up": { text: "score kept, lowest first", column: "kept", sign: 1 },
  "kept-down": { text: "score kept, highest first", column: "kept", sign: -1 },
  "a-up": { text: "a*, smallest first", column: "aStar", sign: 1 },
  "a-down": { text: "a*, largest first", column: "aStar", sign: -1 },
  miss: { text: "farthest miss of the method", column: "miss", sign: -1 },
  apart: { text: "disagreement, largest first", column: "disagreement", sign: -1 },
};

/** The gallery's query as an object of texts with every key; unknown keys are dropped. */
export function readQuery(overview, search) {
  const given = new URLSearchParams(search);
  const query = Object.fromEntries(KEYS.map((key) => [key, given.get(key) ?? ""]));
  if (!Object.hasOwn(SORTS, query.sort)) query.sort = "plan";
  if (!overview.methods.includes(query.method)) query.method = overview.methods.find((m) => m !== "center") ?? overview.methods[0] ?? "";
  return query;
}

/** A link's query: what is left at its default is not written. */
export function shortQuery(query) {
  const short = { ...query };
  if (short.sort === "plan") short.sort = "";
  if (short.page === "1") short.page = "";
  return short;
}

/** Columns over all pairs, filled chunk by chunk; numbers that are unknown are NaN. */
export class Index {
  constructor(overview) {
    const column = () => new Float32Array(overview.pairs).fill(NaN);
    this.total = overview.pairs;
    this.chunk = overview.chunk;
    this.read = 0;
    this.class = new Int32Array(overview.pairs);
    this.picture = new Int32Array(overview.pairs);
    this.state = new Uint8Array(overview.pairs);
    this.swept = new Uint8Array(overview.pairs);
    this.differ = new Uint8Array(overview.pairs);
    for (const name of ["aStar", "kept", "disagreement", "aspect"]) this[name] = column();
    this.image = [];
    this.hits = new Map(overview.methods.map((method) => [method, new Uint8Array(overview.pairs)]));
    this.distance = new Map(overview.methods.map((method) => [method, column()]));
  }

  /** Reads the chunks one after the other; after(index) is called when one is there. read(i): the i-th. */
  async load(read, after) {
    for (let i = 0; this.read < this.total; i += 1) {
      this.add(await read(i));
      after(this);
      await new Promise((resolve) => setTimeout(resolve)); // let the page answer between chunks
    }
    if (this.total === 0) after(this);
  }

  add(chunk) {
    const number = (to, from) => from.forEach((value, i) => (to[chunk.start + i] = value ?? NaN));
    const letter = (to, from) => {
      for (let i = 0; i < from.length; i += 1) to[chunk.start + i] = from.charCodeAt(i);
    };
    this.class.set(chunk.class, chunk.start);
    this.picture.set(chunk.picture, chunk.start);
    number(this.aspect, chunk.aspect);
    number(this.aStar, chunk.a_star);
    number(this.kept, chunk.kept);
    number(this.disagreement, chunk.disagreement);
    letter(this.state, chunk.state);
    letter(this.swept, chunk.swept);
    this.image.push(...chunk.image);
    for (const [method, outcomes] of this.hits) letter(outcomes, chunk.hits[method] ?? "");
    for (const [method, distances] of this.distance) number(distances, chunk.distance[method] ?? []);
    this.read = chunk.start + chunk.class.length;
    this.compare(chunk.start, this.read);
  }

  /** Methods differ on a pair where one hits and another misses; the centre is no method to compare. */
  compare(start, end) {
    const columns = [...this.hits].filter(([method]) => method !== "center").map(([, outcomes]) => outcomes);
    for (let i = start; i < end; i += 1) {
      const letters = columns.map((outcomes) => String.fromCharCode(outcomes[i]));
      this.differ[i] = letters.includes("h") && letters.includes("m") ? 1 : 0;
    }
  }

  /** Ids of the pairs read so far that the query selects, in its order. */
  select(query) {
    const tests = this.tests(query);
    const chosen = [];
    for (let i = 0; i < this.read; i += 1) if (tests.every((test) => test(i))) chosen.push(i);
    return this.sort(chosen, SORTS[query.sort], query.method);
  }

  tests(query) {
    const tests = [];
    const equal = (column, value) => tests.push((i) => column[i] === value);
    if (query.class !== "") equal(this.class, Number(query.class));
    if (query.state !== "") equal(this.state, query.state.charCodeAt(0));
    if (query.disagree !== "") equal(this.differ, 1);
    if (query.outcome !== "" && this.hits.has(query.method)) equal(this.hits.get(query.method), query.outcome.charCodeAt(0));
    if (query.anone !== "") tests.push((i) => this.swept[i] === SWEPT && Number.isNaN(this.aStar[i]));
    if (query.amin !== "") tests.push((i) => this.aStar[i] >= Number(query.amin) - 1e-6);
    if (query.amax !== "") tests.push((i) => this.aStar[i] <= Number(query.amax) + 1e-6);
    return tests;
  }

  sort(chosen, { column, sign }, method) {
    if (!column) return chosen;
    const missed = this.hits.get(method);
    const keys =
      column === "miss" ? this.distance.get(method)?.map((d, i) => (missed[i] === MISS ? d : NaN)) : this[column];
    if (!keys) return chosen;
    const measured = chosen.filter((i) => !Number.isNaN(keys[i]));
    const unmeasured = chosen.filter((i) => Number.isNaN(keys[i]));
    return [...measured.sort((a, b) => sign * (keys[a] - keys[b]) || a - b), ...unmeasured];
  }
}
