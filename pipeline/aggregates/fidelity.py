"""Insertion and deletion of a saliency run: means of the areas under the curves (RISE's protocol, 5.4)."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.aggregates.pointing import UNIT, ratio
from extremal.storage import Run, kinds

GAMES = ("insertion", "deletion")

FIDELITY = pa.schema(
    [
        ("method", pa.string()),
        *[field for game in GAMES for field in ((game, pa.float64()), (f"{game}_n", pa.int64()))],
    ]
)


def fidelity(run: Run, blocks: Blocks = in_one) -> pa.Table:
    """Mean insertion and deletion of every method that was measured, with the number of pairs: `FIDELITY`.

    Args:
        run: a saliency run; without measurements there are no rows.
        blocks: how to go over the shards; the result is the same, to the bit.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    counts: Counter[tuple[str, str]] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    for more, further in blocks(run, _sum_shards):
        counts.update(more)
        sums.update(further)
    rows = [
        {
            "method": method,
            **{game: ratio(sums[method, game], UNIT * counts[method, game]) for game in GAMES},
            **{f"{game}_n": counts[method, game] for game in GAMES},
        }
        for method in sorted({method for method, _ in counts})
    ]
    return pa.Table.from_pylist(rows, schema=FIDELITY)


def _sum_shards(run: Run, shards: Sequence[int]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Pairs, and sums in whole numbers of 1/UNIT, by method and game."""
    counts: Counter[tuple[str, str]] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    for table in run.tables(kinds.SALIENCY, ["method", *GAMES], shards):
        for game in GAMES:
            for method, value in zip(table["method"].to_pylist(), table[game].to_pylist(), strict=True):
                if value is not None:
                    counts[method, game] += 1
                    sums[method, game] += int(value * UNIT)
    return counts, sums
