// Texts, addresses and orders of the pages: nothing here touches the document.

/** A number with so many significant digits, its whole part in full; a dash where there is none. */
export function num(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
  return String(Number(value.toPrecision(Math.max(digits, whole))));
}

export const count = (n, noun, plural = `${noun}s`) => `${num(n)} ${n === 1 ? noun : plural}`;
export const OUTCOMES = { h: "hit", m: "miss", s: "skipped", n: "none" };

/** What became of a point, and how far it is from the object. */
export function outcomeText(outcome, distance) {
  const away = distance > 0 ? `${num(Math.round(distance))} px` : "";
  if (!away) return OUTCOMES[outcome];
  return outcome === "h" ? `hit, ${away} away` : `${OUTCOMES[outcome]} by ${away}`;
}
export const pad = (number, digits) => String(number).padStart(digits, "0");
const numbered = (folder, number, ending) =>
  `${folder}/${pad(Math.floor(number / 1000), 3)}/${pad(number, 6)}.${ending}`;
export const picturePath = (number) => numbered("pictures", number, "jpg");
export const stripPath = (pair) => numbered("strips", pair, "png");

/** Link to a page with a query made from an object; empty values are left out. */
export function link(page, query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return text ? `${page}?${text}` : page;
}

export const textOf = (cell) => (typeof cell === "object" ? cell.text : cell);

/** Order of two cells: of numbers by their keys, of words as people sort them. */
export function compareCells(column, sign) {
  return (a, b) => {
    if (!column.number) return sign * textOf(a).localeCompare(textOf(b), "en", { numeric: true });
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // last, either way
    return sign * (a.key - b.key);
  };
}

export const percent = (part, whole) => `${(100 * part) / whole}%`;

/** Label of a tile that is the same for all pairs. */
export function tileName(tile) {
  return tile.method && !tile.label.includes(tile.method) ? `${tile.method}, ${tile.label}` : tile.label;
}
