// Texts, addresses and orders of the report's pages.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  compareCells, count, link, num, outcomeText, pad, percent, picturePath, stripPath, tileName,
} from "../../../../jobs/report/browser/format.js";

test("numbers keep their whole part and so many digits", () => {
  assert.equal(num(0.123456), "0.123");
  assert.equal(num(0.123456, 4), "0.1235");
  assert.equal(num(12345.678), "12346");
  assert.equal(num(-1234.5678, 2), "-1235");
  assert.equal(num(1234567), "1,234,567");
  assert.equal(num(0.00001234), "0.0000123");
  for (const nothing of [null, undefined, NaN]) assert.equal(num(nothing), "–");
});

test("counts have their noun", () => {
  assert.equal(count(1, "pair"), "1 pair");
  assert.equal(count(0, "pair"), "0 pairs");
  assert.equal(count(5000, "class", "classes"), "5,000 classes");
});

test("an outcome says how far the point is, where it is away", () => {
  assert.equal(outcomeText("h", 0), "hit");
  assert.equal(outcomeText("h", 12.4), "hit, 12 px away");
  assert.equal(outcomeText("m", 1234.5), "miss by 1,235 px");
  assert.equal(outcomeText("n", null), "none");
});

test("paths of pictures are those that the site writes", () => {
  assert.equal(picturePath(12), "pictures/000/000012.jpg");
  assert.equal(stripPath(1234567), "strips/1234/1234567.png");
  assert.equal(pad(7, 3), "007");
  assert.equal(percent(1, 8), "12.5%");
});

test("links leave out what is empty and escape what is not", () => {
  assert.equal(link("gallery.html", { class: "", sort: "" }), "gallery.html");
  const address = link("gallery.html", { class: 3, image: "a&b=<c> #?", sort: "" });
  const given = new URLSearchParams(address.split("?")[1]);
  assert.deepEqual([...given], [["class", "3"], ["image", "a&b=<c> #?"]]);
});

test("a tile is named by its method unless its label does", () => {
  assert.equal(tileName({ label: "area 0.1", method: "extremal" }), "extremal, area 0.1");
  assert.equal(tileName({ label: "grad_cam", method: "grad_cam" }), "grad_cam");
});

test("cells sort by number or as words, and what is unknown comes last either way", () => {
  const numbers = [{ text: "10", key: 10 }, { text: "–", key: null }, { text: "9", key: 9 }];
  const sorted = (cells, column, sign) => [...cells].sort(compareCells(column, sign)).map((cell) => cell.text ?? cell);
  assert.deepEqual(sorted(numbers, { number: true }, 1), ["9", "10", "–"]);
  assert.deepEqual(sorted(numbers, { number: true }, -1), ["10", "9", "–"]);
  assert.deepEqual(sorted(["class 10", "class 9", "Äpfel"], { number: false }, 1), ["Äpfel", "class 9", "class 10"]);
});
