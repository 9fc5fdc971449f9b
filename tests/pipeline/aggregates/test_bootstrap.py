"""Bootstrap intervals against closed forms, a plain loop, and the truth of synthetic data."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import make_run

from extremal.pipeline.aggregates.bootstrap import (
    Accuracies,
    Outcomes,
    accuracies,
    bootstrap,
    counted_points,
    differences,
    draw,
    gather,
    interval,
    with_intervals,
)
from extremal.pipeline.aggregates.pointing import SUBSETS, Rule, pointing, pointing_summary
from extremal.storage import Run, kinds


def outcomes(hit: Any, image: Any = None, of_class: Any = None, difficult: Any = None) -> Outcomes:
    """Outcomes of (P,M) hits; by default one pair an image and one class."""
    hit = np.array(hit, np.int8).reshape(len(hit), -1)
    pairs = len(hit)
    return Outcomes(
        tuple("abcdefgh"[: hit.shape[1]]),
        np.arange(pairs) if image is None else np.array(image),
        np.zeros(pairs, int) if of_class is None else np.array(of_class),
        np.zeros(pairs, bool) if difficult is None else np.array(difficult, bool),
        hit,
    )


def random_outcomes(
    rng: np.random.Generator, images: int = 12, classes: int = 4, methods: int = 3
) -> Outcomes:
    pairs = [(i, c) for i in range(images) for c in range(classes) if c == i % classes or rng.random() < 0.3]
    image, of_class = zip(*pairs, strict=True)
    hit = rng.integers(-1, 2, (len(pairs), methods))
    return outcomes(hit, image, of_class, rng.random(len(pairs)) < 0.4)


def looped(o: Outcomes, weights: Any) -> tuple[Any, Any]:
    """(S,M) class mean and pooled accuracy of one resample, its pairs written out one by one."""
    means, pooled = (np.full((2, len(o.methods)), np.nan) for _ in range(2))
    for s, subset in enumerate(SUBSETS):
        for m in range(len(o.methods)):
            drawn: dict[int, list[int]] = {}
            for p in range(len(o.hit)):
                if o.hit[p, m] >= 0 and (subset == "all" or o.difficult[p]):
                    drawn.setdefault(int(o.of_class[p]), []).extend(
                        [int(o.hit[p, m])] * int(weights[o.image[p]])
                    )
            by_class = [sum(hits) / len(hits) for hits in drawn.values() if hits]
            every = [hit for hits in drawn.values() for hit in hits]
            if every:
                means[s, m], pooled[s, m] = sum(by_class) / len(by_class), sum(every) / len(every)
    return means, pooled


def test_resampled_accuracies_equal_a_loop_over_the_pairs() -> None:
    """Also where a class, or a whole subset, is in no pair of the resample."""
    rng = np.random.default_rng(0)
    o = random_outcomes(rng)
    weights = np.concatenate([*draw(o.images, 40, seed=1), np.eye(o.images, dtype=np.float32) * 3])
    found = accuracies(o, weights)
    for r, row in enumerate(weights):
        means, pooled = looped(o, row)
        np.testing.assert_allclose(found.class_mean[r], means, rtol=1e-12)
        np.testing.assert_allclose(found.pooled[r], pooled, rtol=1e-12)
    assert np.isnan(found.class_mean).any()


def test_draws_are_whole_images_and_repeat_with_the_seed() -> None:
    weights = np.concatenate(list(draw(30, 100, seed=5)))
    assert weights.shape == (100, 30)
    assert (weights.sum(1) == 30).all()
    np.testing.assert_array_equal(weights, np.concatenate(list(draw(30, 100, seed=5))))
    np.testing.assert_array_equal(weights[:40], np.concatenate(list(draw(30, 40, seed=5))))
    assert not np.array_equal(weights, np.concatenate(list(draw(30, 100, seed=6))))
    # Multinomial: mean 1, variance 1 - 1/I.
    many = np.concatenate(list(draw(30, 4000, seed=7)))
    assert many.mean() == 1
    assert many.var() == pytest.approx(1 - 1 / 30, rel=0.02)


@pytest.mark.parametrize(("n", "hits"), [(400, 300), (900, 90)])
def test_one_pair_an_image_gives_the_binomial_interval(n: int, hits: int) -> None:
    """Closed form: the bootstrap distribution of a share is binomial(n, p)/n, nearly normal."""
    found = bootstrap(outcomes(np.arange(n) < hits), resamples=4000)
    p = hits / n
    sigma = math.sqrt(p * (1 - p) / n)
    values = found.resampled.pooled[:, 0, 0]
    np.testing.assert_array_equal(values, found.resampled.class_mean[:, 0, 0])
    assert found.observed.pooled[0, 0, 0] == p
    assert values.mean() == pytest.approx(p, abs=4 * sigma / math.sqrt(4000))
    assert values.std() == pytest.approx(sigma, rel=0.04)
    low, high = interval(values)
    assert low == pytest.approx(p - 1.96 * sigma, abs=0.15 * sigma)
    assert high == pytest.approx(p + 1.96 * sigma, abs=0.15 * sigma)


def test_pairs_of_one_image_are_not_counted_as_independent() -> None:
    """Four equal pairs an image: as wide as the images alone would be, twice what the pairs would give."""
    rng = np.random.default_rng(3)
    of_image = rng.random(200) < 0.6
    found = bootstrap(outcomes(np.repeat(of_image, 4), image=np.repeat(np.arange(200), 4)))
    p = of_image.mean()
    assert found.resampled.pooled[:, 0, 0].std() == pytest.approx(math.sqrt(p * (1 - p) / 200), rel=0.08)


def test_differences_are_paired() -> None:
    """Two methods that differ in a tenth of the pairs: variance of a paired difference, not of two shares."""
    a = np.arange(1000) < 600
    b = a & (np.arange(1000) < 500)
    found = bootstrap(outcomes(np.stack([a, b], 1)), resamples=2000)
    table = differences(found).to_pylist()
    (row,) = (r for r in table if (r["subset"], r["method"]) == ("all", "a"))
    assert (row["other"], row["n"], row["n_other"]) == ("b", 1000, 1000)
    assert row["pooled_difference"] == pytest.approx(0.1)
    sigma = math.sqrt(0.1 * 0.9 / 1000)
    resampled = found.resampled.pooled[:, 0, 0] - found.resampled.pooled[:, 0, 1]
    assert resampled.std() == pytest.approx(sigma, rel=0.05)
    assert row["pooled_low"] == pytest.approx(0.1 - 1.96 * sigma, abs=0.25 * sigma)
    assert row["pooled_high"] == pytest.approx(0.1 + 1.96 * sigma, abs=0.25 * sigma)
    assert row["pooled_positive"] == 1.0
    (back,) = (r for r in table if (r["subset"], r["method"]) == ("all", "b"))
    assert back["pooled_difference"] == -row["pooled_difference"]
    assert back["class_mean_positive"] == 0.0
    # A subset without pairs has no numbers, and equal methods never differ.
    assert all(r["pooled_difference"] is None and r["n"] == 0 for r in table if r["subset"] == "difficult")
    same = differences(bootstrap(outcomes(np.stack([a, a], 1)), resamples=50)).to_pylist()
    assert {(r["pooled_low"], r["pooled_positive"]) for r in same if r["subset"] == "all"} == {(0.0, 0.0)}


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Images of 1 to 3 pairs that depend on each other, 3 classes of different difficulty, known truth."""
    rng = np.random.default_rng(4)
    truth, covered, trials = np.array([0.3, 0.5, 0.8]), 0, 150
    for trial in range(trials):
        image = np.repeat(np.arange(120), rng.integers(1, 4, 120))
        of_class = np.concatenate([rng.permutation(3)[:k] for k in np.bincount(image)])
        luck = rng.normal(size=120)[image]  # uniform after the normal distribution's own function
        level = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in luck])
        found = bootstrap(outcomes(level < truth[of_class], image, of_class), resamples=200, seed=trial)
        low, high = interval(found.resampled.class_mean[:, 0, 0])
        assert low is not None
        assert high is not None
        covered += low <= truth.mean() <= high
    assert 0.88 <= covered / trials <= 0.99  # 95 %, less what a percentile interval loses at this size


def point(image: int, class_id: int, method: str, distance2: int | None, **values: Any) -> dict[str, Any]:
    return {
        "image_id": f"image {image}",
        "class_id": class_id,
        "class_name": f"class {class_id}",
        "method": method,
        "distance2": distance2,
        **values,
    }


def random_run(path: Path) -> Run:
    rng = np.random.default_rng(2)
    points = [
        point(
            image,
            class_id,
            method,
            None if rng.random() < 0.1 else int(rng.integers(0, 450)),
            difficult=(image + class_id) % 3 == 0,
            all_difficult=(image + class_id) % 7 == 0,
        )
        for image in range(30)
        for class_id in range(image % 3 + 1)
        for method in ("center", "rise", "gradient")
    ]
    shards = {i: {kinds.POINTS: points[45 * i : 45 * i + 45]} for i in range(4)}
    return make_run(path, kinds.SALIENCY, shards)


@pytest.mark.parametrize("tolerance", [15.0, 8.0])
def test_observed_accuracies_are_those_of_the_pointing_game(tmp_path: Path, tolerance: float) -> None:
    """Two ways over the same points: class by class counters, and the weighted matrix with all weights 1."""
    run, rule = random_run(tmp_path), Rule(tolerance)
    summary = pointing_summary(pointing(run, rule))
    found = bootstrap(gather(counted_points(run, rule)), resamples=200)
    assert found.outcomes.methods == ("center", "gradient", "rise")
    for row in summary.to_pylist():
        s, m = SUBSETS.index(row["subset"]), found.outcomes.methods.index(row["method"])
        assert found.observed.class_mean[0, s, m] == pytest.approx(row["class_mean"], abs=1e-12)
        assert found.observed.pooled[0, s, m] == pytest.approx(row["pooled"], abs=1e-12)
        assert found.outcomes.counts()[s, m] == row["hits"] + row["misses"]
    for row in with_intervals(summary, found).to_pylist():
        assert row["class_mean_low"] < row["class_mean"] < row["class_mean_high"]
        assert row["pooled_low"] < row["pooled"] < row["pooled_high"]


def test_the_order_and_the_blocks_of_shards_do_not_matter(tmp_path: Path) -> None:
    run = random_run(tmp_path)
    one = bootstrap(gather(counted_points(run, Rule())), resamples=20)
    blocks = bootstrap(
        gather(counted_points(run, Rule(), lambda r, part: (part(r, [s]) for s in (3, 1, 0, 2)))),
        resamples=20,
    )
    np.testing.assert_array_equal(one.resampled.class_mean, blocks.resampled.class_mean)


def test_methods_without_a_point_for_some_pairs_keep_their_own_count(tmp_path: Path) -> None:
    points = [point(0, 0, "center", 0), point(1, 0, "center", 900), point(1, 0, "rise", 0)]
    run = make_run(tmp_path, kinds.SALIENCY, {0: {kinds.POINTS: points}})
    found = gather(counted_points(run, Rule()))
    assert found.counts()[0].tolist() == [2, 1]
    np.testing.assert_array_equal(found.hit, [[1, -1], [0, 1]])


def test_a_run_without_points_has_no_intervals(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SALIENCY, {0: {}})
    found = bootstrap(gather(counted_points(run, Rule())))
    assert found.outcomes.images == 0
    assert differences(found).num_rows == 0
    nothing = with_intervals(pointing_summary(pointing(run)), found)
    assert nothing.num_rows == 0
    assert "pooled_high" in nothing.column_names


def test_resamples_without_a_pair_are_in_no_interval() -> None:
    values = np.array([np.nan, *np.linspace(0, 1, 101)])
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(np.array([np.nan])) == (None, None)
    empty = Accuracies(np.zeros((0, 2, 1)), np.zeros((0, 2, 1)))
    assert interval(empty.pooled[:, 0, 0]) == (None, None)


def test_dictionaries_of_several_tables_agree() -> None:
    """Names that one table holds and another does not, in another order."""
    names = pa.dictionary(pa.int32(), pa.string())
    parts = []
    for image, method, hit in [
        (["b", "a"], ["y", "x"], [True, False]),
        (["c", "b"], ["x", "x"], [True, True]),
    ]:
        columns = [pa.array(image).cast(names), pa.array([1, 1], pa.int32()), pa.array(method).cast(names)]
        columns += [pa.array(hit), pa.array([False, False])]
        parts.append(pa.table(columns, ["image_id", "class_id", "method", "hit", "difficult"]))
    found = gather(pa.concat_tables(parts))
    assert found.methods == ("x", "y")
    np.testing.assert_array_equal(found.hit, [[0, -1], [1, 1], [1, -1]])
