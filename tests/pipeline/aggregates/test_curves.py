"""Scores over areas: against numpy on random rows, denominators that vanish, and shards that do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_run

from extremal.pipeline.aggregates.curves import curves
from extremal.pipeline.aggregates.fidelity import fidelity
from extremal.storage import RunError, kinds

AREAS = [0.05, 0.1, 0.2]


def sweep(preserve: Any, delete: Any, full: float, perturbed: float, areas: Any = AREAS) -> dict[str, Any]:
    return {
        "areas": list(areas),
        "score_preserve": [float(s) for s in preserve],
        "score_delete": [float(s) for s in delete],
        "score_full": float(full),
        "score_perturbed": float(perturbed),
    }


def random_sweeps(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    # Floats that float32 holds, so that numpy below works on what is stored.
    draw = lambda *shape: rng.integers(-80, 80, shape) / 8  # noqa: E731
    return [sweep(draw(3), draw(3), draw() + 4, draw()) for _ in range(n)]


def test_means_and_quartiles_are_numpys(tmp_path: Path) -> None:
    made = random_sweeps(50)
    run = make_run(
        tmp_path, kinds.SPATIAL, {i: {kinds.SPATIAL: made[10 * i : 10 * i + 10]} for i in range(5)}
    )
    table = curves(run).to_pylist()
    assert [(row["kept"], pytest.approx(row["area"])) for row in table] == [
        (kept, area) for kept in ("mask", "rest") for area in AREAS
    ]
    full, perturbed = (np.array([m[name] for m in made]) for name in ("score_full", "score_perturbed"))
    useful = full > perturbed
    assert 0 < useful.sum() < 50
    for i, row in enumerate(table):
        scores = np.array([m["score_preserve" if row["kept"] == "mask" else "score_delete"] for m in made])
        raw = scores[:, i % 3]
        scaled = ((raw - perturbed) / np.where(useful, full - perturbed, np.nan))[useful]
        for prefix, values in (("score", raw), ("normalised", scaled)):
            expected = [values.mean(), *np.quantile(values, [0.25, 0.5, 0.75])]
            got = [row[f"{prefix}_{name}"] for name in ("mean", "q25", "median", "q75")]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        assert (row["n"], row["n_normalised"], row["flat"]) == (50, useful.sum(), 50 - useful.sum())


def test_whole_and_perturbed_image_are_one_and_nought(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, kinds.SPATIAL, {0: {kinds.SPATIAL: [sweep([7, -1, 3], [3, 7, -1], full=7, perturbed=-1)]}}
    )
    table = curves(run).to_pylist()
    assert [row["normalised_mean"] for row in table] == [1, 0, 0.5, 0.5, 1, 0]
    assert [row["normalised_q75"] for row in table] == [1, 0, 0.5, 0.5, 1, 0]


@pytest.mark.parametrize("full", [2.0, 1.0])
def test_denominators_that_vanish_or_are_negative_are_counted_apart(tmp_path: Path, full: float) -> None:
    made = [sweep([1, 2, 3], [3, 2, 1], full, perturbed=2.0)]
    run = make_run(tmp_path, kinds.SPATIAL, {0: {kinds.SPATIAL: made}})
    for row in curves(run).to_pylist():
        assert (row["n"], row["n_normalised"], row["flat"]) == (1, 0, 1)
        assert row["normalised_mean"] is None
        assert row["score_mean"] == row["score_median"]


def test_the_blocks_of_shards_do_not_matter(tmp_path: Path) -> None:
    made = random_sweeps(12)
    run = make_run(tmp_path, kinds.SPATIAL, {i: {kinds.SPATIAL: made[3 * i : 3 * i + 3]} for i in range(4)})
    blocks = curves(run, lambda r, part: (part(r, shards) for shards in ([0], [1, 2], [3])))
    assert blocks.equals(curves(run))


def test_no_rows_give_no_curve(tmp_path: Path) -> None:
    assert curves(make_run(tmp_path, kinds.SPATIAL, {0: {}})).num_rows == 0


@pytest.mark.parametrize("together", [True, False])
def test_other_areas_are_refused(tmp_path: Path, together: bool) -> None:
    rows = [sweep([1, 2, 3], [1, 2, 3], 1, 0), sweep([1, 2], [1, 2], 1, 0, areas=[0.3, 0.4])]
    shards = (
        {0: {kinds.SPATIAL: rows}} if together else {i: {kinds.SPATIAL: [row]} for i, row in enumerate(rows)}
    )
    with pytest.raises(RunError, match="differ in their areas"):
        curves(make_run(tmp_path, kinds.SPATIAL, shards))


def test_insertion_and_deletion_are_averaged_with_their_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = rng.random((40, 2)).astype(np.float32)
    rows = [
        {"method": "rise" if i % 2 else "grad_cam", "insertion": a, "deletion": None if i < 10 else b}
        for i, (a, b) in enumerate(values.tolist())
    ]
    run = make_run(
        tmp_path, kinds.SALIENCY, {i: {kinds.SALIENCY: rows[10 * i : 10 * i + 10]} for i in range(4)}
    )
    table = fidelity(run)
    for row, first in zip(table.to_pylist(), (0, 1), strict=True):
        mine = values[first::2].astype(np.float64)
        assert row["insertion"] == pytest.approx(mine[:, 0].mean(), rel=1e-14)
        assert row["deletion"] == pytest.approx(mine[5:, 1].mean(), rel=1e-14)
        assert (row["insertion_n"], row["deletion_n"]) == (20, 15)
    assert fidelity(run, lambda r, part: (part(r, [s]) for s in (2, 0, 3, 1))).equals(table)


def test_runs_without_measurements_have_no_fidelity(tmp_path: Path) -> None:
    rows = [{"method": "rise"}]
    assert fidelity(make_run(tmp_path, kinds.SALIENCY, {0: {kinds.SALIENCY: rows}})).num_rows == 0
