// What a query of the gallery selects, and in which order.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Index, KEYS, readQuery, shortQuery } from "../../../../jobs/report/browser/selection.js";

const OVERVIEW = { pairs: 6, chunk: 4, methods: ["center", "extremal", "rise"] };
const WHOLE = {
  start: 0,
  class: [0, 1, 0, 1, 0, 1],
  image: ["a", "b", "c", "d", "e", "f"],
  state: "rrrfmr",
  a_star: [0.1, null, 0.3, null, null, 0.05],
  kept: [0.5, 0.2, null, null, null, 0.9],
  hits: { center: "hhhnnm", extremal: "hmmnnm", rise: "mmhnnm" },
  distance: { center: [0, 0, 0, null, null, 9], extremal: [0, 5, 50, null, null, 7], rise: [1, 2, 0, null, null, 3] },
  disagreement: [0.5, 0.25, 0.75, null, null, 0.1],
  picture: [0, 1, 2, -1, -1, 3],
  swept: "111001",
  aspect: [1, 1.5, 1, null, null, 2],
};

function cut(start, end) {
  const slice = (value) => (Array.isArray(value) || typeof value === "string" ? value.slice(start, end) : value);
  const each = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, slice(value)]));
  return { ...each(WHOLE), hits: each(WHOLE.hits), distance: each(WHOLE.distance), start };
}

async function wholeIndex() {
  const index = new Index(OVERVIEW);
  const chunks = [cut(0, 4), cut(4, 6)];
  const read = [];
  await index.load(async (i) => chunks[i], (part) => read.push(part.read));
  assert.deepEqual(read, [4, 6]);
  return index;
}

const query = (changes) => ({ ...readQuery(OVERVIEW, ""), ...changes });

test("every filter selects what the columns say", async () => {
  const index = await wholeIndex();
  const selected = (changes) => index.select(query(changes));
  assert.deepEqual(selected({}), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(selected({ class: "1" }), [1, 3, 5]);
  assert.deepEqual(selected({ state: "f" }), [3]);
  assert.deepEqual(selected({ method: "extremal", outcome: "m" }), [1, 2, 5]);
  assert.deepEqual(selected({ amin: "0.1" }), [0, 2]); // 0.1 as a float32 is a little more or less
  assert.deepEqual(selected({ amax: "0.1" }), [0, 5]);
  assert.deepEqual(selected({ anone: "1" }), [1]); // not those without masks
  assert.deepEqual(selected({ disagree: "1" }), [0, 2]); // the center is no method
  assert.deepEqual(selected({ class: "0", state: "r", amin: "0.2" }), [2]);
});

test("orders put what is unknown last, in plan order", async () => {
  const index = await wholeIndex();
  const ordered = (sort, method = "extremal") => index.select(query({ sort, method }));
  assert.deepEqual(ordered("kept-up"), [1, 0, 5, 2, 3, 4]);
  assert.deepEqual(ordered("kept-down"), [5, 0, 1, 2, 3, 4]);
  assert.deepEqual(ordered("a-up"), [5, 0, 2, 1, 3, 4]);
  assert.deepEqual(ordered("apart"), [2, 0, 1, 5, 3, 4]);
  assert.deepEqual(ordered("miss"), [2, 5, 1, 0, 3, 4]);
  assert.deepEqual(ordered("miss", "rise"), [5, 1, 0, 2, 3, 4]);
});

test("a selection of the first chunk is one of the pairs read so far", () => {
  const index = new Index(OVERVIEW);
  index.add(cut(0, 4));
  assert.deepEqual(index.select(query({ class: "1" })), [1, 3]);
});

test("an index without pairs is read at once", async () => {
  const index = new Index({ ...OVERVIEW, pairs: 0 });
  let calls = 0;
  await index.load(() => assert.fail("there is no file to read"), () => (calls += 1));
  assert.equal(calls, 1);
});

test("the address gives the query, and back; what is unknown or at its default is dropped", () => {
  const given = readQuery(OVERVIEW, "?class=2&sort=kept-up&other=1&page=3");
  assert.deepEqual(Object.keys(given), KEYS);
  assert.deepEqual([given.class, given.sort, given.page, given.method], ["2", "kept-up", "3", "extremal"]);
  assert.equal(readQuery(OVERVIEW, "?sort=constructor&method=none").sort, "plan");
  assert.equal(readQuery({ ...OVERVIEW, methods: ["center"] }, "").method, "center");
  assert.equal(readQuery({ ...OVERVIEW, methods: [] }, "").method, "");
  const short = shortQuery(query({ sort: "plan", page: "1", class: "2" }));
  assert.deepEqual([short.sort, short.page, short.class], ["", "", "2"]);
});
