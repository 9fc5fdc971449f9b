"""The small maps of a pair, one below the other in a PNG that pages lay over the picture."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from extremal.jobs.report.joined_run import Region, Row, Source
from extremal.jobs.report.joined_runs import Book, Known
from extremal.pipeline.stored_masks import cell_shape, draw_cells
from extremal.storage import kinds
from extremal.storage.kinds import Kind
from extremal.workers.pointing.ground_truth import decode_mask

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]

LEVELS = 64  # colours of a map
CLEAR, FULL, OPAQUE = 0.1, 0.5, 0.75  # alpha grows from 0 at the first value to OPAQUE at the second
TRUTH_CELLS = 32  # on the longer side, where ground truth is the only map

_HEAVY: dict[Kind, list[str]] = {
    kinds.SPATIAL: ["params", "params_shape", "input_shape"],
    kinds.CHANNEL: ["saliency", "saliency_shape"],
    kinds.SALIENCY: ["method", "map", "map_shape"],
}


def tile_list(book: Book, known: Known) -> list[Row]:
    """What the tiles of a pair show, in the order of its strip; none where the image's size is not known."""
    if known.size is None:
        return []
    tiles = [
        tile
        for source in book.sources
        for row in known.rows.get(source.number, [])
        for tile in _TILES[source.run.kind](row)
    ]
    if known.plan["rle"] is not None:
        tiles.append(_tile("ground truth", "truth", "ground truth"))
    return tiles


def _tile(label: str, group: str, method: str, **more: float) -> Row:
    return {
        "label": label,
        "group": group,
        "method": method,
        "size": None,
        "score": None,
        "deleted": None,
    } | more


def _spatial_tiles(row: Row) -> list[Row]:
    sweep = zip(row["areas"], row["score_preserve"], row["score_delete"], strict=True)
    return [
        _tile(f"area {a:.3g}", "masks", "extremal", size=_short(a), score=_short(s), deleted=_short(d))
        for a, s, d in sweep
    ]


def _channel_tiles(row: Row) -> list[Row]:
    return [_tile(f"channels of {row['layer']}", "channel", "channel")] if row["saliency_shape"] else []


def _saliency_tiles(row: Row) -> list[Row]:
    return [_tile(row["method"], "maps", row["method"])] if row["map_shape"] else []


_TILES: dict[Kind, Any] = {
    kinds.SPATIAL: _spatial_tiles,
    kinds.CHANNEL: _channel_tiles,
    kinds.SALIENCY: _saliency_tiles,
    kinds.INVERSION: lambda row: [],
}


def _short(value: float) -> float:
    """A float32 of the store with the digits it has."""
    return float(f"{value:.6g}")


def strip_cells(book: Book, known: Known) -> Size | None:
    """Rows and columns of a pair's tiles, those of its first map; None without a tile."""
    if known.size is None:
        return None
    for source in book.sources:
        for row in known.rows.get(source.number, []):
            shape = _CELLS[source.run.kind](source, row)
            if shape:
                return shape[0], shape[1]
    return _truth_shape(book.sources[0].region(known.size)) if known.plan["rle"] is not None else None


_CELLS: dict[Kind, Callable[[Source, Row], Sequence[int]]] = {
    kinds.SPATIAL: lambda source, row: cell_shape(tuple(row["input_shape"]), source.masks),
    kinds.CHANNEL: lambda source, row: row["saliency_shape"],
    kinds.SALIENCY: lambda source, row: row["map_shape"],
    kinds.INVERSION: lambda source, row: (),
}


# ---- on one grid --------------------------------------------------------------------------------


def strips(book: Book, pairs: Sequence[int]) -> dict[int, bytes]:
    """PNG strips of those of some pairs that have a map, by pair.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    maps: dict[int, list[tuple[Floats, Source]]] = defaultdict(list)
    for source in book.sources:
        if source.run.kind in _HEAVY:
            for pair, drawn in _maps(source, pairs):
                maps[pair].extend((one, source) for one in drawn)
    found = {}
    for pair in pairs:
        known = book.known(pair)
        shape = strip_cells(book, known)
        if shape is not None and known.size is not None:
            found[pair] = png(_placed(book, known, known.size, maps[pair], shape))
    return found


def _placed(
    book: Book, known: Known, size: Size, maps: Sequence[tuple[Floats, Source]], shape: Size
) -> Floats:
    """(T,h,w) the maps of a pair on one grid over what the first run's network saw, and its ground truth."""
    region = book.sources[0].region(size)
    tiles = [resample(one, source.region(size), region, shape) for one, source in maps]
    if known.plan["rle"] is not None:
        tiles.append(truth(known.plan["rle"], size, region, shape))
    return np.array(tiles, np.float32)


def _truth_shape(region: Region) -> Size:
    width, height = region[2] - region[0], region[3] - region[1]
    scale = TRUTH_CELLS / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resample(tile: Floats, drawn: Region, wanted: Region, shape: Size) -> Floats:
    """A map (h,w) of one region, in original pixels, over another: bilinear, 0 beyond its own region."""
    if drawn == wanted and tile.shape == shape:
        return tile
    rows = _weights(tile.shape[0], drawn[1], drawn[3], shape[0], wanted[1], wanted[3])
    columns = _weights(tile.shape[1], drawn[0], drawn[2], shape[1], wanted[0], wanted[2])
    return (rows @ tile @ columns.T).astype(np.float32)


@lru_cache(maxsize=64)
def _weights(
    cells: int, start: float, stop: float, n: int, first: float, last: float
) -> npt.NDArray[np.float64]:
    """(n,cells) that read `cells` cells over [start, stop] at the centres of n over [first, last]."""
    centres = first + (np.arange(n) + 0.5) * (last - first) / n
    place = (centres - start) / (stop - start) * cells - 0.5
    inside = (place >= -0.5) & (place <= cells - 0.5)
    place = place.clip(0, cells - 1)
    weights = (1 - np.abs(place[:, None] - np.arange(cells)[None])).clip(0)
    return np.asarray(weights * inside[:, None])


def truth(rle: str, size: Size, region: Region, shape: Size) -> Floats:
    """(h,w) share of each cell of the region that the ground truth covers."""
    x0, y0, x1, y1 = (round(edge) for edge in region)
    seen = decode_mask(rle, *size)[y0:y1, x0:x1].astype(np.float32)
    return np.asarray(_shares(seen.shape[0], shape[0]) @ seen @ _shares(seen.shape[1], shape[1]).T)


@lru_cache(maxsize=64)
def _shares(pixels: int, cells: int) -> Floats:
    """(cells,pixels) the share of each pixel in each of `cells` even cells over them; rows sum to 1."""
    edges = np.arange(cells + 1)[:, None] * (pixels / cells)
    pixel = np.arange(pixels)[None]
    overlap = np.minimum(pixel + 1, edges[1:]) - np.maximum(pixel, edges[:-1])
    return np.asarray(overlap.clip(0) * (cells / pixels), np.float32)


# ---- the stored maps ----------------------------------------------------------------------------


def _maps(source: Source, pairs: Sequence[int]) -> Iterator[tuple[int, Floats]]:
    """The pair and the maps (T,h,w) in [0,1] of every row of a source that has any."""
    kind = source.run.kind
    for owners, table in source.tables(kind, _HEAVY[kind], pairs):
        if kind == kinds.SPATIAL:
            yield from _masks(source, owners, table)
            continue
        name, shape = ("saliency", "saliency_shape") if kind == kinds.CHANNEL else ("map", "map_shape")
        for pair, values, size in zip(owners, table[name], table[shape].to_pylist(), strict=True):
            if size:
                yield pair, _scaled(values.values.to_numpy(zero_copy_only=False).reshape(1, *size))


def _scaled(values: npt.NDArray[Any]) -> Floats:
    """What speaks for the target, 1 where most does; what is against it is 0."""
    positive = np.maximum(values.astype(np.float32), 0)
    largest = float(positive.max(initial=0))
    return np.asarray(positive / largest if largest else positive, np.float32)


def _masks(source: Source, owners: list[int], table: pa.Table) -> Iterator[tuple[int, Floats]]:
    """Small masks of the rows of a spatial shard, those of one shape together."""
    shapes = zip(table["input_shape"].to_pylist(), table["params_shape"].to_pylist(), strict=True)
    groups: dict[tuple[Size, tuple[int, ...]], list[int]] = defaultdict(list)
    for i, (shape, params) in enumerate(shapes):
        groups[(shape[0], shape[1]), tuple(params)].append(i)
    for (shape, params), rows in groups.items():
        values = pc.list_flatten(table["params"].take(rows)).to_numpy().reshape(-1, *params)
        yield from zip((owners[i] for i in rows), draw_cells(values, shape, source.masks), strict=True)


# ---- the file -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _palette() -> tuple[bytes, bytes]:
    """Colours (cividis, which reads for colour-blind eyes too) and their alphas."""
    level = np.linspace(0, 1, LEVELS)
    colours = matplotlib.colormaps["cividis"](level)[:, :3]
    alpha = ((level - CLEAR) / (FULL - CLEAR)).clip(0, 1) * OPAQUE
    return tuple((255 * part).round().astype(np.uint8).tobytes() for part in (colours, alpha))  # type: ignore[return-value]


def png(tiles: Floats) -> bytes:
    """Tiles (T,h,w) in [0,1], each with a border of one replicated cell, one below the other."""
    bordered = np.pad(tiles, ((0, 0), (1, 1), (1, 1)), "edge")
    levels = (bordered * (LEVELS - 1)).round().astype(np.uint8).reshape(-1, bordered.shape[2])
    image = Image.fromarray(levels, "P")
    colours, alpha = _palette()
    image.putpalette(colours)
    sink = BytesIO()
    image.save(sink, "PNG", transparency=alpha)
    return sink.getvalue()
