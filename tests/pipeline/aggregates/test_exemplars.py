"""The images that excite a channel most: against sorting everything, whatever the shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_run

from extremal.pipeline.aggregates.exemplars import EXEMPLARS, exemplars
from extremal.storage import Run, RunError, kinds

CHANNELS = 7


def made_rows(n: int = 60) -> list[dict[str, Any]]:
    """Pairs of 25 images, whose values are few, so that there are ties, some of them -inf or not a number."""
    rng = np.random.default_rng(0)
    made = []
    for pair in range(n):
        values = rng.integers(-3, 4, CHANNELS).astype(np.float32)
        values[rng.random(CHANNELS) < 0.05] = np.nan
        values[rng.random(CHANNELS) < 0.05] = -np.inf
        image = f"image{rng.integers(25):02d}"
        row = {"pair": pair, "image_id": image, "path": f"{image}.jpg", "class_id": pair % 3}
        made.append({**row, "class_name": f"class {pair % 3}", "activations": values})
    return made


def brute_force(channel: int, top: int) -> list[tuple[float, str, int]]:
    """(activation, image, pair): sort all pairs, keep the first of every image."""
    rows = [(r["activations"][channel], r["image_id"], r["pair"]) for r in made_rows()]
    best: dict[str, tuple[float, str, int]] = {}
    for row in sorted((r for r in rows if not np.isnan(r[0])), key=lambda r: (-r[0], r[2])):
        best.setdefault(row[1], row)
    return sorted(best.values(), key=lambda r: (-r[0], r[1]))[:top]


def run_of(path: Path, size: int, backwards: bool = False) -> Run:
    rows = made_rows()
    shards = {i: {kinds.CHANNEL: rows[i * size : (i + 1) * size]} for i in range(-(-len(rows) // size))}
    return make_run(path, kinds.CHANNEL, dict(reversed(shards.items())) if backwards else shards)


@pytest.mark.parametrize("top", [1, 2, 5, 100])
def test_they_are_the_first_of_everything_sorted(tmp_path: Path, top: int) -> None:
    channels = [5, 0, 3]
    table = exemplars(run_of(tmp_path, 8), channels, top)
    assert table.schema == EXEMPLARS
    found = table.to_pylist()
    expected = [(c, rank, *one) for c in channels for rank, one in enumerate(brute_force(c, top), 1)]
    assert [(r["channel"], r["rank"], r["activation"], r["image_id"], r["pair"]) for r in found] == expected
    for row in found:
        assert row["path"] == f"{row['image_id']}.jpg"
        assert (row["class_id"], row["class_name"]) == (row["pair"] % 3, f"class {row['pair'] % 3}")


@pytest.mark.parametrize("size", [1, 7, 60])
def test_the_same_whatever_the_shards_their_blocks_and_order(tmp_path: Path, size: int) -> None:
    def one_by_one(run: Run, part: Any) -> Iterator[Any]:
        for shard in reversed(run.committed()):
            yield part(run, [shard])

    expected = exemplars(run_of(tmp_path / "whole", 60), range(CHANNELS), 4)
    run = run_of(tmp_path / "parts", size, backwards=True)
    assert exemplars(run, range(CHANNELS), 4).equals(expected)
    assert exemplars(run, range(CHANNELS), 4, one_by_one).equals(expected)


def test_memory_is_bounded_by_channels_and_top(tmp_path: Path) -> None:
    """Rising values, the worst case: every image is the best so far."""
    kept: list[int] = []

    def watched(run: Run, part: Any) -> Iterator[Any]:
        for shard in run.committed():
            found = part(run, [shard])
            kept.append(max(len(images) for images in found.found))
            yield found

    rows = [{"pair": i, "image_id": f"{i}", "activations": [float(i), -float(i)]} for i in range(200)]
    shards = {i: {kinds.CHANNEL: rows[100 * i : 100 * i + 100]} for i in range(2)}
    table = exemplars(make_run(tmp_path, kinds.CHANNEL, shards), [0, 1], 3, watched)
    assert table["pair"].to_pylist() == [199, 198, 197, 0, 1, 2]
    assert max(kept) < 6


def test_nothing_wanted_and_nothing_there(tmp_path: Path) -> None:
    assert exemplars(run_of(tmp_path / "run", 60), [], 4).num_rows == 0
    assert exemplars(make_run(tmp_path / "empty", kinds.CHANNEL, {0: {}}), [1], 4).num_rows == 0


@pytest.mark.parametrize(("channels", "top"), [([0], 0), ([-1], 3), ([1, 1], 3)])
def test_wishes_without_a_meaning_are_refused(tmp_path: Path, channels: Sequence[int], top: int) -> None:
    with pytest.raises(ValueError, match="distinct"):
        exemplars(run_of(tmp_path, 60), channels, top)


def test_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="need a channel run"):
        exemplars(make_run(tmp_path / "spatial", kinds.SPATIAL, {}), [0], 1)
    with pytest.raises(RunError, match="channel 7 is wanted"):
        exemplars(run_of(tmp_path / "few", 60), [CHANNELS], 1)
    shards = {i: {kinds.CHANNEL: [{"pair": i, "activations": [0.0] * (3 + i)}]} for i in range(2)}
    mixed = make_run(tmp_path / "mixed", kinds.CHANNEL, shards)
    with pytest.raises(RunError, match="do not fit"):
        exemplars(mixed, [3], 1)
