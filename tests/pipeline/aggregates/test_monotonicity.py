"""The monotonicity test: which areas are tested, vacuous pairs, rates, and brute force on random rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_run

from extremal.pipeline.aggregates.monotonicity import largest_drop, monotonicity, monotonicity_summary
from extremal.storage import kinds

AREAS = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8]


def spatial(class_id: int, scores: list[float], a_star: float | None, **values: Any) -> dict[str, Any]:
    return {
        "class_id": class_id,
        "class_name": f"class {class_id}",
        "areas": AREAS,
        "score_preserve": scores,
        "a_star": a_star,
        **values,
    }


@pytest.mark.parametrize(
    ("scores", "a_star", "expected"),
    [
        ([1, 2, 3, 4], None, 0),
        ([1, 2, 2, 4], None, 0),
        ([1, 3, 2, 4], None, 1),
        ([5, 4, 4, 3], None, 2),
        ([1, 2, 9, 0], 3, 0),
        ([1, 2, 9, 0], 2, None),
        ([1, 2, 9, 0], 1, None),
        ([1, 3, 2, 0], 4, 1),
        ([1, float("nan"), 2, 3], None, float("inf")),
    ],
)
def test_only_sizes_strictly_below_a_star_count(
    scores: list[float], a_star: float | None, expected: float | None
) -> None:
    assert largest_drop([1, 2, 3, 4], scores, a_star) == expected
    assert largest_drop([4, 3, 2, 1], scores[::-1], a_star) == expected


@pytest.mark.parametrize(("a_star", "pairs"), [(0.05, 0), (0.1, 0), (0.2, 1), (0.4, 3), (0.6, 6), (0.8, 10)])
def test_the_stored_float32_areas_are_compared_exactly(tmp_path: Path, a_star: float, pairs: int) -> None:
    """As many area pairs below a* as seeds EP-10 counts, though 0.1 is no float32."""
    below = [a for a in AREAS if a < a_star]
    assert len(below) * (len(below) - 1) // 2 == pairs
    falling = [float(-i) for i in range(6)]
    run = make_run(tmp_path, kinds.SPATIAL, {0: {kinds.SPATIAL: [spatial(0, falling, a_star)]}})
    (row,) = monotonicity(run).to_pylist()
    assert row["largest_violation"] == (len(below) - 1 if pairs else None)
    assert row["vacuous"] == (pairs == 0)


def test_counts_agree_with_brute_force(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [
        spatial(
            int(rng.integers(3)),
            np.round(np.cumsum(rng.normal(0.7, 1, 6)), 1).tolist(),
            rng.choice(np.array([*AREAS, None], object)),
        )
        for _ in range(120)
    ]
    run = make_run(
        tmp_path, kinds.SPATIAL, {i: {kinds.SPATIAL: made[40 * i : 40 * i + 40]} for i in range(3)}
    )
    table = monotonicity(run)
    for got in table.to_pylist():
        passed = failed = vacuous = 0
        for r in (r for r in made if r["class_id"] == got["class_id"]):
            limit = 2.0 if r["a_star"] is None else r["a_star"]
            s = [np.float32(s) for a, s in zip(AREAS, r["score_preserve"], strict=True) if a < limit]
            good = all(s[i] <= s[j] for i in range(len(s)) for j in range(i, len(s)))
            vacuous += len(s) < 2
            passed += len(s) >= 2 and good
            failed += len(s) >= 2 and not good
        assert (got["passed"], got["failed"], got["vacuous"]) == (passed, failed, vacuous)
        assert got["n"] == passed + failed + vacuous
        assert got["pass_of_tested"] == pytest.approx(passed / (passed + failed))
        assert got["pass_of_all"] == pytest.approx((passed + vacuous) / got["n"])
    (whole,) = monotonicity_summary(table).to_pylist()
    assert whole["classes"] == 3
    assert whole["n"] == 120
    assert whole["no_a_star"] == sum(r["a_star"] is None for r in made)
    assert whole["passed"] == sum(table["passed"].to_pylist())
    assert whole["largest_violation"] == max(table["largest_violation"].to_pylist())


def test_rates_are_null_without_a_denominator(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SPATIAL, {0: {kinds.SPATIAL: [spatial(0, [1.0] * 6, 0.05)]}})
    (row,) = monotonicity(run).to_pylist()
    assert row["pass_of_tested"] is None
    assert row["pass_of_all"] == 1.0
    assert row["largest_violation"] is None


def test_no_rows_give_one_empty_total(tmp_path: Path) -> None:
    table = monotonicity(make_run(tmp_path, kinds.SPATIAL, {0: {}}))
    assert table.num_rows == 0
    (whole,) = monotonicity_summary(table).to_pylist()
    assert whole["n"] == 0
    assert whole["pass_of_all"] is None


def test_channel_runs_compare_the_exact_masks_over_counts(tmp_path: Path) -> None:
    row = {
        "class_id": -1,
        "target": 7,
        "target_name": "boxer",
        "counts": [100, 1, 10],
        "score": [0.0, 9.0, 1.0],
        "score_binary": [3.0, 1.0, 2.0],
    }
    run = make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: [row]}})
    (got,) = monotonicity(run).to_pylist()
    assert (got["class_id"], got["class_name"]) == (7, "boxer")
    assert (got["passed"], got["failed"], got["no_a_star"]) == (1, 0, 1)
    assert got["largest_violation"] == 0
