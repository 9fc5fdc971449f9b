"""Mean channel masks per class: against numpy, and bit-equal whatever the order and size of the shards."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_run, rows

from extremal.pipeline.aggregates.class_channels import ClassSums, channel_rows, class_channels
from extremal.storage import RunError, kinds
from extremal.storage.scores import write_scores

COUNTS = [1, 5, 20]
CHANNELS = 32


def channel(class_id: int, masks: Any, a_star: int | None, **values: Any) -> dict[str, Any]:
    masks = np.asarray(masks, np.float16)
    return {
        "class_id": class_id,
        "class_name": f"class {class_id}",
        "layer": "inception4d",
        "counts": COUNTS,
        "masks_shape": list(masks.shape),
        "masks": masks.ravel(),
        "a_star": a_star,
        **values,
    }


def random_rows(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        channel(int(rng.integers(3)), rng.random((3, CHANNELS)), [1, 5, 20, None][rng.integers(4)])
        for _ in range(n)
    ]


def test_means_agree_with_numpy(tmp_path: Path) -> None:
    made = random_rows(60)
    run = make_run(
        tmp_path, kinds.CHANNEL, {i: {kinds.CHANNEL: made[20 * i : 20 * i + 20]} for i in range(3)}
    )
    table = class_channels(run, top=4).to_pylist()
    means = {}
    for got in table:
        mine = [r for r in made if r["class_id"] == got["class_id"]]
        found = [r for r in mine if r["a_star"] is not None]
        masks = [r["masks"].reshape(3, -1)[COUNTS.index(r["a_star"])] for r in found]
        mean = np.mean(np.array(masks, np.float64), axis=0)
        means[got["class_id"]] = mean
        np.testing.assert_allclose(got["mean_mask"], mean, rtol=1e-6)
        assert got["n"] == len(mine)
        assert got["n_no_a_star"] == len(mine) - len(found)
        assert got["mean_a_star"] == pytest.approx(np.mean([r["a_star"] for r in found]))
        assert got["a_star_histogram"] == [sum(r["a_star"] == c for r in found) for c in COUNTS]
        assert got["counts"] == COUNTS
        assert got["top_channels"] == np.argsort(-mean)[:4].tolist()
        assert got["top_values"] == pytest.approx(np.sort(mean)[::-1][:4])
    overall = np.mean(list(means.values()), axis=0)
    for got in table:
        specific = means[got["class_id"]] - overall
        assert got["specific_channels"] == np.argsort(-specific)[:4].tolist()
        assert got["specific_values"] == pytest.approx(np.sort(specific)[::-1][:4])


def test_sums_are_exact_whatever_is_in_the_shards(tmp_path: Path) -> None:
    """Against math.fsum, which rounds once: shards of 13 rows with failures, a class of one pair."""
    made = [*random_rows(50), channel(7, np.random.default_rng(1).random((3, CHANNELS)), 20)]
    failed = [{"class_id": 7, "class_name": "class 7", "stage": "decode"}]
    shards = {i: {kinds.CHANNEL: made[13 * i : 13 * i + 13], kinds.FAILURES: failed} for i in range(4)}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    sums = ClassSums()
    for table in run.tables(kinds.CHANNEL):
        sums.merge(ClassSums.of(table))
    assert sorted(sums.classes) == [(i, f"class {i}") for i in (0, 1, 2, 7)]
    means = class_channels(run)["mean_mask"].to_pylist()
    for ((class_id, _), part), mean in zip(sorted(sums.classes.items()), means, strict=True):
        found = [r for r in made if r["class_id"] == class_id and r["a_star"] is not None]
        masks = [r["masks"].reshape(3, -1)[COUNTS.index(r["a_star"])].tolist() for r in found]
        exact = [math.fsum(values) for values in zip(*masks, strict=True)]
        assert part.mask_sum.dtype == np.float64
        assert part.mask_sum.tolist() == exact
        assert part.histogram.sum() == len(found)
        assert mean == [np.float32(total / len(found)) for total in exact]
    assert sums.classes[7, "class 7"].histogram.tolist() == [0, 0, 1]


@pytest.mark.parametrize("size", [1, 7, 60])
def test_bit_equal_whatever_the_shards(tmp_path: Path, size: int) -> None:
    made = random_rows(60)
    whole = make_run(tmp_path / "whole", kinds.CHANNEL, {0: {kinds.CHANNEL: made}})
    shards = {i: {kinds.CHANNEL: made[i * size : (i + 1) * size]} for i in range(-(-60 // size))}
    backwards = make_run(tmp_path / "parts", kinds.CHANNEL, dict(reversed(shards.items())))
    files = []
    for run in (whole, backwards):
        write_scores(run, "class_channels", class_channels(run))
        files.append((Path(run.root) / "scores/class_channels.parquet").read_bytes())
    assert files[0] == files[1]


def test_partial_sums_merge_in_any_grouping() -> None:
    made = random_rows(30)
    parts = [ClassSums.of(rows(kinds.CHANNEL, *made[i : i + 10])) for i in (0, 10, 20)]
    left, right = ClassSums(), ClassSums()
    left.merge(parts[0])
    left.merge(parts[1])
    before = channel_rows(ClassSums.of(rows(kinds.CHANNEL, *made[:10])), 10)
    right.merge(parts[2])
    right.merge(left)
    assert channel_rows(right, 10).equals(channel_rows(ClassSums.of(rows(kinds.CHANNEL, *made)), 10))
    assert channel_rows(parts[0], 10).equals(before)


def test_ties_go_to_the_lowest_channel_and_one_class_is_not_specific(tmp_path: Path) -> None:
    masks = np.zeros((3, 6))
    masks[1] = [0, 1, 0.5, 1, 0, 1]
    run = make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: [channel(0, masks, 5)]}})
    (got,) = class_channels(run, top=5).to_pylist()
    assert got["top_channels"] == [1, 3, 5, 2, 0]
    assert got["specific_channels"] is None
    assert len(class_channels(run, top=100)["top_channels"][0]) == 6


def test_a_class_without_any_a_star_has_no_mean(tmp_path: Path) -> None:
    made = [channel(0, np.ones((3, 4)), None), channel(1, np.ones((3, 4)), 1)]
    first, second = class_channels(make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: made}})).to_pylist()
    assert (first["n"], first["n_no_a_star"]) == (1, 1)
    assert first["mean_mask"] is None
    assert first["top_channels"] is None
    assert first["mean_a_star"] is None
    assert second["specific_channels"] is None


def test_without_classes_rows_are_grouped_by_target(tmp_path: Path) -> None:
    made = [
        channel(-1, np.ones((3, 4)), 1, class_name="", target=t, target_name=name)
        for t, name in [(9, "b"), (2, None), (9, "b")]
    ]
    table = class_channels(make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: made}}))
    assert table.select(["class_id", "class_name", "n"]).to_pylist() == [
        {"class_id": 2, "class_name": "", "n": 1},
        {"class_id": 9, "class_name": "b", "n": 2},
    ]


def test_shards_without_rows_change_nothing(tmp_path: Path) -> None:
    made = [channel(0, np.ones((3, 4)), 1)]
    run = make_run(tmp_path, kinds.CHANNEL, {0: {}, 1: {kinds.CHANNEL: made}, 2: {}})
    assert class_channels(run)["n"].to_pylist() == [1]
    assert class_channels(make_run(tmp_path / "empty", kinds.CHANNEL, {0: {}})).num_rows == 0


def test_a_spatial_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="need a channel run"):
        class_channels(make_run(tmp_path, kinds.SPATIAL, {}))


def test_shards_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    one, other = channel(0, np.ones((3, 4)), 1), channel(0, np.ones((3, 5)), 1)
    run = make_run(tmp_path / "a", kinds.CHANNEL, {0: {kinds.CHANNEL: [one]}, 1: {kinds.CHANNEL: [other]}})
    with pytest.raises(RunError, match="do not fit together"):
        class_channels(run)
    for value in ({"layer": "other"}, {"counts": [1, 5, 21]}, {"masks_shape": [3, 5]}):
        with pytest.raises(ValueError, match="rows differ"):
            ClassSums.of(rows(kinds.CHANNEL, one, {**one, **value}))
    run = make_run(tmp_path / "b", kinds.CHANNEL, {0: {kinds.CHANNEL: [{**one, "a_star": 3}]}})
    with pytest.raises(RunError, match="none of the counts"):
        class_channels(run)


def test_top_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top"):
        class_channels(make_run(tmp_path, kinds.CHANNEL, {}), top=0)
