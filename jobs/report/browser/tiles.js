// Pictures with a tile of a strip laid over the region that the network saw.
import { pad, percent, picturePath, stripPath, tileName } from "./format.js";
import { extremal, h } from "./site.js";

/** Puts a box of original pixels [x0, y0, x1, y1), edges exclusive, over a picture of the pair. */
export function place(node, [x0, y0, x1, y1], pair) {
  Object.assign(node.style, {
    left: percent(x0, pair.width),
    top: percent(y0, pair.height),
    width: percent(x1 - x0, pair.width),
    height: percent(y1 - y0, pair.height),
  });
  return node;
}

/**
 * One tile: the strip as background, so large that only the cells inside the tile's border of one cell show.
 * A percentage p puts p of the background's free space (box - strip) before it; solved for the border.
 */
export function tileNode(pair, index) {
  const [rows, columns] = pair.strip.cells;
  const tiles = pair.strip.tiles.length;
  const tall = tiles * (rows + 2);
  const node = h("div", { class: "tile", role: "img", "aria-label": `${tileName(pair.strip.tiles[index])} of ${pair.class_name}` });
  Object.assign(node.style, {
    backgroundImage: `url("${stripPath(pair.pair)}")`,
    backgroundSize: `${percent(columns + 2, columns)} ${percent(tall, rows)}`,
    backgroundPosition: `50% ${percent(index * (rows + 2) + 1, tall - rows)}`,
  });
  if (pair.width && pair.height) place(node, pair.region, pair);
  return node;
}

/** The frame of a picture, square at most: a neutral ground where the picture is missing. */
export function frame(picture, aspect, alt) {
  const node = h("div", { class: picture < 0 ? "frame ground" : "frame" });
  node.style.aspectRatio = String(aspect || 1);
  node.style.width = `${100 * Math.min(aspect || 1, 1)}%`;
  if (picture >= 0) node.append(h("img", { src: picturePath(picture), alt, loading: "lazy", decoding: "async" }));
  return node;
}

export const aspectOf = (pair) => (pair.width && pair.height ? pair.width / pair.height : 1);

/** The pair's row of data/pairs/*.js. */
export async function loadPair(overview, pair) {
  const file = await extremal.load(`pairs/${pad(Math.floor(pair / overview.per_file), 5)}`);
  return file.pairs[pair - file.start];
}

/** The i-th file of the index. */
export const loadChunk = (i) => extremal.load(`index-${pad(i, 3)}`);

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      target.whenSeen();
    }
  },
  { rootMargin: "400px" },
);

/** Calls action once, when the node comes near the window. */
export function whenSeen(node, action) {
  node.whenSeen = action;
  seen.observe(node);
}
