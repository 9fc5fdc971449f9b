// Ticks of axes.
import assert from "node:assert/strict";
import { test } from "node:test";

import { powers, ticks } from "../../../../jobs/report/browser/scales.js";

test("ticks are round, even, and within the axis", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(-3, 17), [0, 5, 10, 15]);
  for (const [low, high] of [[0, 0.0007], [-12.3, 98], [1e6, 1e6 + 1], [0, 511]]) {
    const list = ticks(low, high);
    assert.ok(list.length >= 2 && list.length <= 11, String(list));
    assert.ok(list[0] >= low && list.at(-1) <= high * (1 + 1e-9));
  }
  assert.deepEqual(ticks(2, 2), [2]);
});

test("counts have powers of ten, or their ends where these are too few", () => {
  assert.deepEqual(powers(1, 512), [1, 10, 100]);
  assert.deepEqual(powers(2, 50), [2, 50]);
});
