"""The small maps of a pair, one below the other in a PNG that pages lay over the picture."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from extremal.jobs.joined_runs import JoinedRun, Region
from extremal.jobs.page_data import Tile
from extremal.jobs.report.pages.page import Part, ShardPage
from extremal.jobs.report.pair_records import PairRecord, PairRecords
from extremal.jobs.report.paths import strip_path
from extremal.jobs.studies.view import Floats, tile
from extremal.workers.pointing.ground_truth import decode_mask

Size = tuple[int, int]

LEVELS = 64  # colours of a map
CLEAR, FULL, OPAQUE = 0.1, 0.5, 0.75  # alpha grows from 0 at the first value to OPAQUE at the second
TRUTH_CELLS = 32  # on the longer side, where ground truth is the only map


class OverlayFiles(ShardPage):
    """A strip for every pair that has a map."""

    pattern = r"strips/\d{3,6}/(\d{6,9})\.png"

    def paths(self, part: Part) -> Iterator[str]:
        for record in self.records.of_shard(part.number):
            if strip_cells(self.records, record):
                yield strip_path(record.pair)

    def content(self, path: str, *groups: str | None) -> bytes:
        pair = int(groups[0] or 0)
        if strip_path(pair) != path or pair >= self.records.plan.num_rows:
            raise KeyError(path)
        return strips(self.records, [pair])[pair]


def tile_list(records: PairRecords, record: PairRecord) -> list[Tile]:
    """What the tiles of a pair show, in the order of its strip; none where the image's size is not known."""
    if record.size is None:
        return []
    tiles = [
        a_tile
        for joined in records.runs
        for row in record.rows.get(joined.number, [])
        for a_tile in joined.view.tiles(row)
    ]
    if record.plan["rle"] is not None:
        tiles.append(tile("ground truth", "truth", "ground truth"))
    return tiles


def strip_cells(records: PairRecords, record: PairRecord) -> Size | None:
    """Rows and columns of a pair's tiles, those of its first map; None without a tile."""
    if record.size is None:
        return None
    for joined in records.runs:
        for row in record.rows.get(joined.number, []):
            shape = joined.view.cells(joined.settings, row)
            if shape:
                return shape[0], shape[1]
    return _truth_shape(records.first.region(record.size)) if record.plan["rle"] is not None else None


# ---- on one grid --------------------------------------------------------------------------------


def strips(records: PairRecords, pairs: Sequence[int]) -> dict[int, bytes]:
    """PNG strips of those of some pairs that have a map, by pair.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    maps: dict[int, list[tuple[Floats, JoinedRun]]] = defaultdict(list)
    for joined in records.runs:
        for pair, drawn in _maps(joined, pairs):
            maps[pair].extend((cells, joined) for cells in drawn)
    pngs = {}
    for pair in pairs:
        record = records.of_pair(pair)
        shape = strip_cells(records, record)
        if shape is not None and record.size is not None:
            region = records.first.region(record.size)
            tiles = [
                resample(cells, joined.region(record.size), region, shape) for cells, joined in maps[pair]
            ]
            if record.plan["rle"] is not None:
                tiles.append(truth(record.plan["rle"], record.size, region, shape))
            pngs[pair] = png(np.array(tiles, np.float32))
    return pngs


def _maps(joined: JoinedRun, pairs: Sequence[int]) -> Iterator[tuple[int, Floats]]:
    """The pair and the maps (T,h,w) in [0,1] of every row of a run that has any."""
    view = joined.view
    if view.map_columns:
        for row_pairs, table in joined.tables(joined.run.kind, view.map_columns, pairs):
            for i, maps in view.maps(joined.settings, table):
                yield row_pairs[i], maps


def _truth_shape(region: Region) -> Size:
    width, height = region[2] - region[0], region[3] - region[1]
    scale = TRUTH_CELLS / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resample(cells: Floats, drawn: Region, wanted: Region, shape: Size) -> Floats:
    """A map (h,w) of one region, in original pixels, over another: bilinear, 0 beyond its own region."""
    if drawn == wanted and cells.shape == shape:
        return cells
    rows = _weights(cells.shape[0], drawn[1], drawn[3], shape[0], wanted[1], wanted[3])
    columns = _weights(cells.shape[1], drawn[0], drawn[2], shape[1], wanted[0], wanted[2])
    return (rows @ cells @ columns.T).astype(np.float32)


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
