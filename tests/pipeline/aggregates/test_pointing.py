"""The pointing game from the store: hit rule, skips, denominators, and brute force on random rows."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import make_run
from rich.console import Console

from extremal.jobs.tables.printed import print_table
from extremal.pipeline.aggregates.pointing import Rule, outcome, pointing, pointing_summary
from extremal.storage import Run, kinds


def point(class_id: int, distance2: int | None, **values: Any) -> dict[str, Any]:
    return {
        "method": "spatial",
        "class_id": class_id,
        "class_name": f"class {class_id}",
        "distance2": distance2,
        **values,
    }


def run_of(path: Path, *shards: Sequence[dict[str, Any]]) -> Run:
    return make_run(path, kinds.SPATIAL, {i: {kinds.POINTS: points} for i, points in enumerate(shards)})


def random_points(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    return [
        point(
            int(rng.integers(5)),
            None if rng.random() < 0.1 else int(rng.integers(0, 500)),
            method=str(rng.choice(["spatial", "center"])),
            difficult=bool(rng.random() < 0.3),
            all_difficult=bool(rng.random() < 0.1),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize(
    ("distance2", "tolerance", "expected"),
    [
        (0, 15, "hits"),
        (224, 15, "hits"),
        (225, 15, "misses"),
        (0, 0, "hits"),
        (1, 0, "misses"),
        (2, 1.5, "hits"),
        (None, 15, "no_ground_truth"),
    ],
)
def test_the_distance_must_be_smaller_than_the_tolerance(
    distance2: int | None, tolerance: float, expected: str
) -> None:
    assert outcome(distance2, False, tolerance) == expected


def test_any_tolerance_is_a_number() -> None:
    assert outcome(10, False, 1e200) == "hits"


@pytest.mark.parametrize("distance2", [0, 1000, None])
def test_pairs_with_only_difficult_objects_are_skipped(distance2: int | None) -> None:
    assert outcome(distance2, True, 15) == "skipped"


@pytest.mark.parametrize("tolerance", [0.0, 7.5, 15.0])
def test_counts_agree_with_brute_force(tmp_path: Path, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    shards = [random_points(rng, 60) for _ in range(4)]
    table = pointing(run_of(tmp_path, *shards), Rule(tolerance)).to_pylist()
    assert len(table) == 2 * 2 * 5
    points = [p for shard in shards for p in shard]
    for got in table:
        chosen = [
            p
            for p in points
            if (p["method"], p["class_id"]) == (got["method"], got["class_id"])
            and (got["subset"] == "all" or p["difficult"])
        ]
        counted = [p for p in chosen if not p["all_difficult"] and p["distance2"] is not None]
        hits = sum(p["distance2"] < max(tolerance**2, 0.5) for p in counted)
        assert got["hits"] == hits
        assert got["misses"] == len(counted) - hits
        assert got["skipped"] == sum(p["all_difficult"] for p in chosen)
        assert sum(got[name] for name in ("hits", "misses", "skipped", "no_ground_truth")) == len(chosen)
        assert got["accuracy"] == pytest.approx(hits / len(counted))


def test_class_mean_is_not_the_pooled_accuracy(tmp_path: Path) -> None:
    run = run_of(tmp_path, [point(0, 0), point(1, 999), point(1, 999), point(1, 0)], [point(2, None)])
    everything, difficult = pointing_summary(pointing(run)).to_pylist()
    assert everything["classes_seen"] == 2
    assert everything["class_mean"] == pytest.approx((1 + 1 / 3) / 2)
    assert everything["pooled"] == 2 / 4
    assert everything["no_ground_truth"] == 1
    assert difficult["subset"] == "difficult"
    assert difficult["classes_seen"] == 0
    assert difficult["class_mean"] is None
    assert difficult["pooled"] is None


def test_the_difficult_subset_keeps_classes_without_pairs(tmp_path: Path) -> None:
    table = pointing(run_of(tmp_path, [point(0, 0), point(1, 0, difficult=True)])).to_pylist()
    difficult = [(r["class_id"], r["hits"], r["accuracy"]) for r in table if r["subset"] == "difficult"]
    assert difficult == [(0, 0, None), (1, 1, 1.0)]


def test_the_order_of_commits_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shards = {i: {kinds.POINTS: random_points(rng, 20)} for i in range(3)}
    first = make_run(tmp_path / "a", kinds.SPATIAL, shards)
    second = make_run(tmp_path / "b", kinds.SPATIAL, dict(reversed(shards.items())))
    assert pointing(first).equals(pointing(second))


def test_a_run_without_points_gives_no_rows(tmp_path: Path) -> None:
    table = pointing(run_of(tmp_path, []))
    assert table.num_rows == 0
    assert pointing_summary(table).num_rows == 0


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"tolerance": -1}, "-1"),
        ({"tolerance": float("nan")}, "nan"),
        ({"region": "circle"}, "mask or box"),
        ({"point": "rough"}, "smooth or plain"),
        ({"region": "box", "point": "plain"}, "plain point is stored"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**rule)


def test_region_and_point_choose_the_distance(tmp_path: Path) -> None:
    """Three distances of one method; the center has one point, whatever is asked."""
    run = run_of(
        tmp_path,
        [
            point(0, 999, method="a", box_distance2=0, plain_distance2=999),
            point(0, 999, method="b", box_distance2=999, plain_distance2=0),
            point(0, 0, method="c", box_distance2=999, plain_distance2=None),
            point(0, 0, method="center", box_distance2=999),
            point(1, 999, method="center", box_distance2=0),
        ],
    )

    def hits(rule: Rule) -> dict[str, tuple[int, int]]:
        rows = pointing_summary(pointing(run, rule)).to_pylist()
        return {r["method"]: (r["hits"], r["hits"] + r["misses"]) for r in rows if r["subset"] == "all"}

    assert hits(Rule()) == {"a": (0, 1), "b": (0, 1), "c": (1, 1), "center": (1, 2)}
    assert hits(Rule(region="box")) == {"a": (1, 1), "b": (0, 1), "c": (0, 1), "center": (1, 2)}
    assert hits(Rule(point="plain")) == {"a": (0, 1), "b": (1, 1), "c": (0, 0), "center": (1, 2)}


def test_energy_is_averaged_over_the_pairs_that_have_one_and_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    points = [
        p | {"energy_inside": None if rng.random() < 0.2 else rng.random()} for p in random_points(rng, 200)
    ]
    run = run_of(tmp_path, *(points[50 * i : 50 * i + 50] for i in range(4)))
    table = pointing(run)
    backwards = pointing(run, blocks=lambda r, part: (part(r, [s]) for s in (3, 1, 2, 0)))
    assert backwards.equals(table)  # to the bit
    chosen = [p for p in points if p["energy_inside"] is not None and not p["all_difficult"]]

    def energies(**wanted: Any) -> list[float]:
        fits = (p for p in chosen if all(p[key] == value for key, value in wanted.items()))
        return [float(np.float32(p["energy_inside"])) for p in fits]

    for row in table.to_pylist():
        subset = {} if row["subset"] == "all" else {"difficult": True}
        mine = energies(method=row["method"], class_id=row["class_id"], **subset)
        assert row["energy_n"] == len(mine)
        assert row["energy"] == pytest.approx(np.mean(mine), rel=1e-14)
    for row in pointing_summary(table).to_pylist():
        subset = {} if row["subset"] == "all" else {"difficult": True}
        by_class = [energies(method=row["method"], class_id=c, **subset) for c in range(5)]
        assert row["energy_n"] == sum(map(len, by_class))
        assert row["energy_class_mean"] == pytest.approx(np.mean([np.mean(e) for e in by_class]))
        assert row["energy_pooled"] == pytest.approx(np.mean(np.concatenate(by_class)))


def test_the_report_shows_rates_with_their_counts(tmp_path: Path) -> None:
    table = pointing(run_of(tmp_path, [point(0, 0), point(0, 999), point(0, 999, class_name="[b]cup[/b]")]))
    console = Console(file=io.StringIO(), record=True, width=200)
    print_table(table, "Pointing [game]", ["class_name", "accuracy"], console)
    print_table(pointing_summary(table), "Summary", console=console)
    print_table(table.slice(0, 0), "Nothing", console=console)
    text = console.export_text()
    for expected in ("Pointing [game]", "50.0 % (1/2)", "[b]cup[/b]", "25.0 % (2 classes)", "no rows"):
        assert expected in text


def test_a_narrow_terminal_breaks_rates_between_their_parts_and_cuts_nothing() -> None:
    rate = {"class_mean": [0.5], "classes_seen": [14], "class_mean_low": [0.385], "class_mean_high": [0.713]}
    table = pa.table(
        {"method": ["linear_approximation"], **rate, "pooled": [0.25], "hits": [1], "misses": [3]}
    )
    console = Console(file=io.StringIO(), record=True, width=50)
    print_table(table, "Narrow", ["method", "class_mean", "pooled"], console)
    text = console.export_text()
    assert "…" not in text
    for whole in ("50.0 %", "[38.5, 71.3]", "(14 classes)", "25.0 %", "(1/4)"):
        assert whole in text
    assert "50.0 % [" not in text
