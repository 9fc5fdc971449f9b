"""The table of an ablation (pipeline/ablate.py): drops by class, beside those of random channels."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from extremal.pipeline.aggregates.bootstrap import RESAMPLES, draw, interval
from extremal.pipeline.aggregates.class_channels import ClassKey

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]

CHOICES = ("raw", "specific")
NULLS = ("random", "matched")
ALL = "all classes"
TIE = 1e-5  # of the drop, or of a logit of 1

DRAWN = tuple(f"{null}_{drop}" for null in NULLS for drop in ("own", "others"))

ABLATION_PAIRS = pa.schema(
    [
        ("pair", pa.int64()),
        ("image_id", pa.string()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("target", pa.int32()),
        ("choice", pa.string()),
        ("channels", pa.list_(pa.int32())),
        ("score_full", pa.float64()),
        ("n_others", pa.int64()),
        ("drop_own", pa.float64()),
        ("drop_others", pa.float64()),
        *[(name, pa.list_(pa.float64())) for name in DRAWN],
    ]
)


ABLATION = pa.schema(
    [
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("choice", pa.string()),
        ("k", pa.int64()),
        ("draws", pa.int64()),
        ("n", pa.int64()),
        ("n_alone", pa.int64()),
        ("n_failed", pa.int64()),
        ("n_compared", pa.int64()),
        ("drop_own", pa.float64()),
        ("drop_others", pa.float64()),
        *[(f"excess{end}", pa.float64()) for end in ("", "_low", "_high")],
        *[
            (f"{null}_{drop}{part}", pa.int64() if part == "_count" else pa.float64())
            for null in NULLS
            for drop in ("own", "excess")
            for part in ("", "_low", "_high", "_count", "_p")
        ],
    ]
)


# What people are shown of it: the harder null's test alone, the others are in the file.
SHOWN = ("class_name", "choice", "drop_own", "drop_others", "excess", "matched_excess", "matched_excess_p")


@dataclass
class Ablation:
    """What became of the pairs of a run.

    Attributes:
        pairs: rows of `ABLATION_PAIRS`, two (one with a single class) a pair, in the order of the plan.
        alone: pairs by class without another mask of their class to choose channels by.
        failed: pairs by class that could not be computed. errors: why, a line for each.
    """

    pairs: pa.Table
    alone: Counter[ClassKey] = field(default_factory=Counter)
    failed: Counter[ClassKey] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def ablation_table(found: Ablation, k: int, draws: int) -> pa.Table:
    """Rows of `ABLATION`: all pairs together (no class_id), then every class; drops are of logits.

    `n` pairs were ablated; `n_alone` and `n_failed` were not, and are in no other number. `excess` is the
    own drop less that of the others, over the `n_compared` pairs that have others, with the 95 % interval of
    a bootstrap over images. `random_own` is the mean own drop under random sets, between `low` and `high` in
    95 % of the draws of all pairs together, `count` of the `draws` of them at least as large as `drop_own`,
    and `p` = (1 + count) / (1 + draws), the permutation test's. `matched_` is the same under sets of the
    chosen ones' energy. Null where there is no pair.
    """
    counts = Counter(_keys(found.pairs))
    rows: list[Row] = []
    for key in (None, *sorted({*counts, *found.alone, *found.failed})):
        left_out = {
            "n_alone": found.alone.total() if key is None else found.alone[key],
            "n_failed": found.failed.total() if key is None else found.failed[key],
        }
        class_id, class_name = key or (None, ALL)
        of_class = {"class_id": class_id, "class_name": class_name, "k": k, "draws": draws, **left_out}
        rows += [{**of_class, "choice": choice, "n": 0, "n_compared": 0} for choice in CHOICES]
    places = {(row["class_id"], row["class_name"], row["choice"]): row for row in rows}
    for place, pairs in _groups(found.pairs):
        places[place] |= _statistics(pairs)
    return pa.Table.from_pylist(rows, schema=ABLATION)


def _keys(pairs: pa.Table) -> list[ClassKey]:
    return list(zip(pairs["class_id"].to_pylist(), pairs["class_name"].to_pylist(), strict=True))


def _groups(pairs: pa.Table) -> Iterator[tuple[tuple[int | None, str, str], pa.Table]]:
    """The pairs of every choice, then of every class and choice."""
    for choice in CHOICES:
        of_choice = pairs.filter(pc.equal(pairs["choice"], choice))
        if not of_choice.num_rows:
            continue
        yield (None, ALL, choice), of_choice
        members: dict[ClassKey, list[int]] = {}
        for i, key in enumerate(_keys(of_choice)):
            members.setdefault(key, []).append(i)
        for key, indices in members.items():
            yield (*key, choice), of_choice.take(indices)


def _statistics(pairs: pa.Table) -> Row:
    own, others = (
        pairs[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("drop_own", "drop_others")
    )
    drawn = {name: _matrix(pairs[name]) for name in DRAWN}
    excess, compared = own - others, ~np.isnan(others)
    row: Row = {"n": len(own), "n_compared": int(compared.sum()), "drop_own": float(own.mean())}
    if compared.any():
        row |= {"drop_others": float(others[compared].mean()), "excess": float(excess[compared].mean())}
        row["excess_low"], row["excess_high"] = _interval(
            excess[compared], pairs["image_id"].to_numpy()[compared]
        )
    for null in NULLS:
        random_own, random_others = drawn[f"{null}_own"], drawn[f"{null}_others"]
        row |= _against(f"{null}_own", own, random_own)
        if compared.any():
            random_excess = (random_own - random_others)[compared]
            row |= _against(f"{null}_excess", excess[compared], random_excess)
    return row


def _matrix(column: pa.ChunkedArray) -> Floats:
    """Lists of one length (P,R)."""
    values: Floats = pc.list_flatten(column).to_numpy().reshape(len(column), -1)
    return values


def _against(name: str, observed: Floats, drawn: Floats) -> Row:
    """The mean over pairs of observed (P,) among those of R draws (P,R)."""
    mean, means = observed.mean(), drawn.mean(0)
    # A draw of the same channels is a tie: rounding elsewhere in a batch must not decide it.
    count = int((means >= mean - TIE * max(1.0, abs(mean))).sum())
    low, high = interval(means)
    return {
        name: float(means.mean()),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_count": count,
        f"{name}_p": (1 + count) / (1 + len(means)),
    }


def _interval(values: Floats, images: npt.NDArray[Any]) -> tuple[float | None, float | None]:
    """Of the mean of values (P,), by bootstrap over the images of the pairs."""
    _, image = np.unique(images, return_inverse=True)
    weights = (chunk[:, image] for chunk in draw(int(image.max()) + 1, RESAMPLES, seed=0))
    return interval(np.concatenate([chunk @ values / chunk.sum(1) for chunk in weights]))
