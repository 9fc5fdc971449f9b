// Where the ticks of a chart's axes lie.

/** Round ticks, about so many, that lie within [low, high]. */
export function ticks(low, high, about = 5) {
  const raw = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= raw);
  const list = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) list.push(Number((i * step).toPrecision(12)));
  return list;
}

/** Ticks 1, 10, 100 ... within [low, high], for counts; the ends where these are too few. */
export function powers(low, high) {
  const list = [];
  for (let power = 10 ** Math.ceil(Math.log10(low)); power <= high; power *= 10) list.push(power);
  return list.length > 1 ? list : [low, high];
}
