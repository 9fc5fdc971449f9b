"""What pages read of pairs: columns of the index, and all there is to say of one."""

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

from extremal.jobs.report.joined_run import Row, Source, subject_of
from extremal.jobs.report.joined_runs import SIZES, Book, Known, class_label
from extremal.jobs.report.overlays import strip_cells, tile_list
from extremal.storage import kinds

CHUNK = 5000  # pairs of a file of the index
PER_FILE = 20  # pairs of a file of pairs
SHOWN_CHANNELS = 5  # that lost the most energy


# ---- the index ----------------------------------------------------------------------------------

Numbers: TypeAlias = "array[float]"


def _empty() -> Numbers:
    return array("d")


@dataclass
class Entries:
    """Columns of the index of some pairs in order, in few bytes a pair: those of all pairs are kept.

    Numbers are NaN where there is none.

    Attributes:
        state, hits: a letter a pair; see docs/report-data.md.
        swept: 1 where there are masks of several sizes, 0 elsewhere, where a missing a* says nothing.
        sizes: the areas or counts that a* is among, the same for all pairs.
        kept: mean over the sizes of (score - perturbed) / (full - perturbed), none if the two are the same
            or the wrong way round.
        aspect: width over height of the image.
    """

    state: str = ""
    sizes: list[float] = field(default_factory=list)
    a_star: Numbers = field(default_factory=_empty)
    kept: Numbers = field(default_factory=_empty)
    hits: dict[str, str] = field(default_factory=dict)
    distance: dict[str, Numbers] = field(default_factory=dict)
    disagreement: Numbers = field(default_factory=_empty)
    swept: str = ""
    aspect: Numbers = field(default_factory=_empty)


def entries(book: Book, chapter: int) -> Entries:
    """The index of the pairs of a chapter."""
    found = Entries(hits=dict.fromkeys(book.methods, ""), distance={name: _empty() for name in book.methods})
    sweep = book.first(*SIZES)
    for known in book.chapter(chapter):
        row = sweep_row(book, known)
        found.state += known.state
        if row and not found.sizes:
            found.sizes = _rounded(row[SIZES[sweep.run.kind][0]]) if sweep else []
        found.a_star.append(_number(row["a_star"] if row else None))
        found.kept.append(_number(_kept(row, book) if row else None))
        for name in book.methods:
            point = known.points.get(name)
            found.hits[name] += point["outcome"] if point else "n"
            found.distance[name].append(_number(point["distance"] if point else None))
        found.disagreement.append(_number(known.disagreement()))
        found.swept += "1" if row else "0"
        found.aspect.append(_number(known.size[0] / known.size[1] if known.size else None))
    return found


def sweep_row(book: Book, known: Known) -> Row | None:
    """A pair's row of the first run with masks of several sizes: whose a* and curves are shown."""
    source = book.first(*SIZES)
    return next(iter(known.rows.get(source.number, [])), None) if source else None


def size_label(book: Book) -> str | None:
    """What a* counts: area or channels; None without masks of several sizes."""
    source = book.first(*SIZES)
    return SIZES[source.run.kind][2] if source else None


def _kept(row: Row, book: Book) -> float | None:
    source = book.first(*SIZES)
    assert source is not None
    scores = row[SIZES[source.run.kind][1]]
    scale = row["score_full"] - row["score_perturbed"]
    if not scores or not scale > 0:
        return None
    return float(sum(score - row["score_perturbed"] for score in scores) / len(scores) / scale)


def _number(value: float | None) -> float:
    """A number with the digits that a page can use."""
    return math.nan if value is None else float(f"{value:.4g}")


def index(book: Book, start: int, parts: list[tuple[int, Entries]]) -> dict[str, Any]:
    """A file of the index: CHUNK pairs from `start`.

    Args:
        parts: the entries of the chapters over them, with the first pair of each.
    """
    stop = min(start + CHUNK, book.plan.num_rows)
    first = parts[0][0]

    def cut(column: Callable[[Entries], Any], empty: Any) -> Any:
        columns = [column(e) for _, e in parts]
        whole = "".join(columns) if isinstance(empty, str) else [*chain.from_iterable(columns)]
        return whole[start - first : stop - first]

    def cut_each(column: Callable[[Entries], dict[str, Any]], empty: Any) -> dict[str, Any]:
        return {name: cut(partial(_of_method, column, name), empty) for name in book.methods}

    return {
        "start": start,
        "class": book.class_of[start:stop].tolist(),
        "image": book.plan["image_id"].slice(start, stop - start).to_pylist(),
        "state": cut(lambda e: e.state, ""),
        "a_star": cut(lambda e: e.a_star, []),
        "kept": cut(lambda e: e.kept, []),
        "hits": cut_each(lambda e: e.hits, ""),
        "distance": cut_each(lambda e: e.distance, []),
        "disagreement": cut(lambda e: e.disagreement, []),
        "picture": [book.pictures.number(pair) for pair in range(start, stop)],
        "swept": cut(lambda e: e.swept, ""),
        "aspect": cut(lambda e: e.aspect, []),
    }


def _of_method(column: Callable[[Entries], dict[str, Any]], name: str, part: Entries) -> Any:
    return column(part)[name]


# ---- one pair -----------------------------------------------------------------------------------


def pair_file(book: Book, start: int) -> dict[str, Any]:
    """PER_FILE pairs from `start`."""
    stop = min(start + PER_FILE, book.plan.num_rows)
    return {"start": start, "pairs": [pair_record(book, book.known(pair)) for pair in range(start, stop)]}


def pair_record(book: Book, known: Known) -> dict[str, Any]:
    """All that a page shows of a pair; PAIR in docs/report-data.md."""
    plan, size = known.plan, known.size
    rows = [row for of_run in known.rows.values() for row in of_run]
    target = next((row for row in rows), {"target": None, "target_name": None})
    cells = strip_cells(book, known)
    of_class = int(book.class_of[known.pair])
    return {
        "pair": known.pair,
        "image_id": plan["image_id"],
        "path": plan["path"],
        "class": of_class,
        "class_name": class_label(book.classes[of_class]),
        "target": target["target"],
        "target_name": target["target_name"],
        "width": size[0] if size else None,
        "height": size[1] if size else None,
        "picture": book.pictures.number(known.pair),
        "region": list(book.sources[0].region(size)) if size else None,
        "strip": {"cells": list(cells), "tiles": tile_list(book, known)} if cells else None,
        "boxes": plan["boxes"],
        "points": _points(known),
        "curves": _curves(book, known),
        "numbers": _numbers(book, known),
        "inversion": _inversion(book, known),
        "failure": known.failure,
    }


def _points(known: Known) -> list[Row]:
    kept = ("x", "y", "outcome", "distance")
    return [{"method": name, **{key: row[key] for key in kept}} for name, row in known.points.items()]


def _curves(book: Book, known: Known) -> list[Row]:
    found = []
    for source in book.sources:
        for row in known.rows.get(source.number, []):
            if source.run.kind == kinds.SPATIAL:
                series = {"preserve": row["score_preserve"], "delete": row["score_delete"]}
                found.append(_curve("Score over area", row["areas"], "area", series, row))
            elif source.run.kind == kinds.CHANNEL:
                series = {"best channels, exactly": row["score_binary"], "mask as optimized": row["score"]}
                title = f"Score over channels of {row['layer']}"
                found.append(_curve(title, row["counts"], "channels", series, row))
    return found


def _curve(title: str, sizes: list[float], label: str, series: dict[str, list[float]], row: Row) -> Row:
    return {
        "title": title,
        "label": label,
        "sizes": [float(f"{size:.6g}") for size in sizes],
        "series": [{"name": name, "scores": _rounded(scores)} for name, scores in series.items()],
        "full": float(f"{row['score_full']:.6g}"),
        "perturbed": float(f"{row['score_perturbed']:.6g}"),
        "a_star": None if row["a_star"] is None else _number(row["a_star"]),
    }


def _rounded(values: list[float]) -> list[float]:
    """float32 with the digits they have; as float64 they would print nine more."""
    return [float(f"{value:.6g}") for value in values]


_LABELS = {
    "method": "method",
    "layer": "layer",
    "objective": "objective",
    "score_full": "score of the whole image (logit)",
    "score_perturbed": "score of the perturbed image (logit)",
    "a_star": "a*",
    "insertion": "insertion",
    "deletion": "deletion",
    "cosine": "cosine with the activations",
    "cosine_masked": "cosine with the masked activations",
    "cosine_between": "cosine between the two inversions",
    "seconds": "seconds",
}


def _numbers(book: Book, known: Known) -> list[list[str]]:
    """Scalars of every run's rows, and what the points' maps say of energy, as label and text."""
    found = []
    for source in book.sources:
        if source.run.kind != kinds.INVERSION:
            for row in known.rows.get(source.number, []):
                found += _labelled(
                    row, f"{row['method']}: " if "method" in row else f"{source.run.kind.name}: "
                )
    for name, point in known.points.items():
        if point["energy_inside"] is not None:
            found.append([f"{name}: energy on the object", f"{100 * point['energy_inside']:.1f} %"])
    return found


def _labelled(row: Row, prefix: str) -> list[list[str]]:
    return [
        [f"{prefix}{label}", f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name])]
        for name, label in _LABELS.items()
        if name in row and name != "method" and row[name] is not None
    ]


def _inversion(book: Book, known: Known) -> Row | None:
    source = pair_inversions(book)
    row = next(iter(known.rows.get(source.number, [])), None) if source else None
    if row is None:
        return None
    masked = row["cosine_masked"] is not None
    return {
        "whole": inversion_path(known.pair),
        "masked": inversion_path(known.pair, masked=True) if masked else None,
        "numbers": _labelled(row, "") + _energy_removed(row["energy"], row["energy_masked"]),
    }


def _energy_removed(whole: list[float], masked: list[float]) -> list[list[str]]:
    """How much less energy the channels have in the masked inversion than in the whole (CH-5, E8)."""
    if not masked or not sum(whole) > 0:
        return []
    lost = [before - after for before, after in zip(whole, masked, strict=True)]
    share = f"{100 * sum(lost) / sum(whole):.1f} % of the energy of {len(whole)} channels"
    most = sorted(range(len(lost)), key=lambda channel: (-lost[channel], channel))[:SHOWN_CHANNELS]
    names = [f"{channel} ({100 * lost[channel] / sum(whole):.1f} %)" for channel in most]
    return [["removed by the mask", share], ["channels that lost most", ", ".join(names)]]


def pair_inversions(book: Book) -> Source | None:
    """The first run of inversions of the report's pairs, which are channels if the first run says so."""
    of_kind = (source for source in book.sources if source.run.kind == kinds.INVERSION)
    return next((one for one in of_kind if one.number == 0 or subject_of(one.run) == "pairs"), None)


def inversion_path(pair: int, masked: bool = False) -> str:
    """Where the site has the inversion of a pair."""
    return f"inversions/{pair:06d}{'-masked' if masked else ''}.png"
