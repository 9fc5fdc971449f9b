"""A run of several saliency methods on drawn shapes: rows, points, stored maps, insertion and deletion."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from runs import SETTINGS, compute, timeless
from scipy import ndimage

from extremal.jobs.options import assemble
from extremal.pipeline.config import merge
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.storage import Run, kinds
from extremal.storage.verify import verify
from extremal.workers import load_network
from extremal.workers.config import RunConfig
from extremal.workers.errors import LayerError
from extremal.workers.saliency import METHODS, Batch, Maps
from extremal.workers.saliency.fidelity import insertion_deletion
from extremal.workers.shard.worker import Worker

NAMES = ["extremal", "occlusion", "rise"]
PAIRS, SIDE, INPUT = 10, 128, 64
STEP = 1500


def options(root: Path, method: str = ",".join(NAMES), **changes: Any) -> RunConfig:
    """The configuration of `--method rise,occlusion,extremal` with small numbers."""
    own = {
        "dataset": {"root": str(root)},
        "method": method,
        "saliency": {
            "rise": {"masks": 12, "cells": 4}, "occlusion": {"window": 24, "stride": 16},
            "maps": 14, "fidelity": STEP,
        },
    }  # fmt: skip
    return assemble(None, "torchray", merge(merge(SETTINGS, own), changes), "cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=5)
    return root


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return compute(options(shapes), tmp_path_factory.mktemp("runs") / "run")


def alone(run: Run, shapes: Path, row: dict[str, Any]) -> tuple[Batch, Maps]:
    """The batch of a row's pair by itself, and the method's maps of it."""
    settings = options(shapes)
    network = load_network("shapes_cnn", "random", resize=INPUT, crop=0)
    image = network.preprocess(Image.open(shapes / row["path"]).convert("RGB"))[None]
    batch = Batch(
        network=network,
        images=image,
        image=[0],
        targets=torch.tensor([row["target"]]),
        seeds=[row["seed"]],
        seed=settings.seed,
        config=settings.saliency,
        sections=(settings.spatial,),
    )
    return batch, METHODS[row["method"]].method.compute(batch)


def test_each_pair_has_a_row_of_each_method_and_a_point_of_each_and_the_center(run: Run) -> None:
    rows, points = run.table(kinds.SALIENCY).to_pylist(), run.table(kinds.POINTS).to_pylist()
    assert [(row["pair"], row["method"]) for row in rows] == [(p, n) for p in range(PAIRS) for n in NAMES]
    assert len(points) == PAIRS * 4
    assert {(p["pair"], p["method"]) for p in points} == {
        (p, n) for p in range(PAIRS) for n in ["center", *NAMES]
    }
    assert run.table(kinds.FAILURES).num_rows == 0
    assert list(verify(run)) == []
    for row in rows:
        assert row["input_shape"] == [INPUT, INPUT]
        assert row["seconds"] > 0
        assert row["target"] == row["class_id"]
    steps = [dict(row["diagnostics"])["steps"] for row in rows if row["method"] == "extremal"]
    assert steps == [8] * PAIRS, "two areas of four steps"


def test_same_rows_whatever_the_shard_size(run: Run, shapes: Path, tmp_path: Path) -> None:
    other = compute(options(shapes, shard_size=10), tmp_path / "other")
    assert (len(run.committed()), len(other.committed())) == (3, 1)
    for kind in (kinds.SALIENCY, kinds.POINTS):
        assert timeless(other, kind).equals(timeless(run, kind))


@pytest.mark.parametrize("place", range(7, 7 + len(NAMES)))  # the pairs 2 and 3
def test_stored_map_is_the_methods_own_made_small(run: Run, shapes: Path, place: int) -> None:
    row = run.table(kinds.SALIENCY).to_pylist()[place]
    _, found = alone(run, shapes, row)
    small = F.interpolate(found.maps[:, None], size=(14, 14), mode="area")[0, 0]
    assert row["map_shape"] == [14, 14]
    assert row["map_scale"] == pytest.approx(small.abs().max().item(), rel=1e-3)
    stored = np.array(row["map"], dtype=np.float32).reshape(14, 14) * row["map_scale"]
    np.testing.assert_allclose(stored, small, atol=2e-3 * row["map_scale"])
    assert np.abs(np.array(row["map"], dtype=np.float32)).max() == pytest.approx(1)


@pytest.mark.parametrize("place", range(7, 7 + len(NAMES)))
def test_points_and_energies_are_those_of_the_map_drawn_on_the_image(
    run: Run, shapes: Path, place: int
) -> None:
    row = run.table(kinds.SALIENCY).to_pylist()[place]
    (point,) = (
        p for p in run.table(kinds.POINTS).to_pylist()
        if (p["pair"], p["method"]) == (row["pair"], row["method"])
    )  # fmt: skip
    _, found = alone(run, shapes, row)
    drawn = F.interpolate(found.maps[:, None], size=(SIDE, SIDE), mode="bilinear")[0, 0].double().numpy()
    sigma = 0.09 * SIDE if row["method"] == "extremal" else 0
    smoothed = ndimage.gaussian_filter(drawn, sigma, mode="constant") if sigma else drawn
    y, x = np.unravel_index(smoothed.argmax(), smoothed.shape)
    assert max(abs(point["x"] - x), abs(point["y"] - y)) <= 1, "but for rounding, the same pixel"
    inside = np.zeros((SIDE, SIDE), bool)
    for x0, y0, x1, y1 in run.plan().to_pylist()[row["pair"]]["boxes"]:
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    rows, columns = inside.nonzero()
    assert point["distance2"] == min((rows - point["y"]) ** 2 + (columns - point["x"]) ** 2)
    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    away = min((rows - y) ** 2 + (columns - x) ** 2)
    assert point["plain_distance2"] == pytest.approx(away, abs=2 * away**0.5 + 1)
    positive = drawn.clip(min=0)
    assert point["energy_inside"] == pytest.approx(positive[inside].sum() / positive.sum(), rel=1e-3)


def test_insertion_and_deletion_are_measured_on_the_methods_own_map(run: Run, shapes: Path) -> None:
    rows = run.table(kinds.SALIENCY).to_pylist()
    for row in rows[6:9]:
        batch, found = alone(run, shapes, row)
        expected = insertion_deletion(batch.network, batch.inputs, found.maps, batch.targets, STEP)
        assert row["insertion"] == pytest.approx(expected[0].item(), abs=1e-3)
        assert row["deletion"] == pytest.approx(expected[1].item(), abs=1e-3)
    assert run.manifest.setting("saliency", "fidelity") == STEP


def test_what_is_not_asked_for_is_not_stored(shapes: Path, tmp_path: Path) -> None:
    settings = options(shapes, "occlusion", saliency={"maps": 0, "fidelity": 0}, dataset={"limit": 2})
    for row in compute(settings, tmp_path / "run").table(kinds.SALIENCY).to_pylist():
        assert (row["map_shape"], row["map"], row["map_scale"]) == ([], [], None)
        assert row["insertion"] is None
        assert row["deletion"] is None


def test_a_map_without_space_has_no_point_and_no_curve(shapes: Path, tmp_path: Path) -> None:
    changes = {
        "saliency": {"methods": ["channel"]},
        "channel": {"layer": "fc", "counts": [1, 6]},
        "dataset": {"limit": 2},
    }
    run = compute(options(shapes, "saliency", **changes), tmp_path / "run")
    rows = run.table(kinds.SALIENCY).to_pylist()
    assert len(rows) == run.plan().num_rows
    assert all(row["insertion"] is None and row["map"] == [] for row in rows)
    assert {p["method"] for p in run.table(kinds.POINTS).to_pylist()} == {"center"}


def test_a_layer_that_does_not_exist_is_refused_before_the_run_is_made(shapes: Path, tmp_path: Path) -> None:
    settings = options(shapes, "rise,channel", channel={"layer": "nowhere"})
    with pytest.raises(LayerError, match="no layer 'nowhere'"):
        prepare(settings, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


MIXED = "gradient,grad_cam,rise,extremal"


def test_what_an_actor_computed_before_changes_nothing(shapes: Path, tmp_path: Path) -> None:
    """More masks than go through the network at once, more pairs than an optimization takes at once."""
    changes: dict[str, Any] = {"batch": 14, "shard_size": 14, "saliency": {"rise": {"masks": 40}}}
    make_shapes(tmp_path / "more", train=1, test=14)
    settings = options(tmp_path / "more", MIXED, **changes)
    assert (run := compute(settings, tmp_path / "run")).committed() == [0, 1]
    fresh, _ = prepare(settings, str(tmp_path / "fresh"))
    for shard in (0, 1):
        list(Worker(worker_spec(settings, fresh, "cpu")).run_shard(shard))
    for kind in (kinds.SALIENCY, kinds.POINTS):
        assert timeless(fresh, kind).equals(timeless(run, kind))


def test_a_map_that_is_no_numbers_costs_its_pair_and_a_retry_mends_it(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = options(shapes, "gradient,occlusion", batch=4, shard_size=4, dataset={"limit": 4})
    run, _ = prepare(settings, str(tmp_path / "run"))
    worker = Worker(worker_spec(settings, run, "cpu"))
    honest = METHODS["gradient"].method.compute

    def broken(batch: Batch) -> Maps:
        maps = honest(batch).maps
        maps[1, 0, 0] = float("nan")
        return Maps(maps)

    with monkeypatch.context() as patch:
        method = replace(METHODS["gradient"].method, compute=broken)
        patch.setattr("extremal.workers.saliency.gradients.GRADIENT", method)
        list(worker.run_shard(0))
    assert run.table(kinds.SALIENCY, ["pair"])["pair"].to_pylist() == [0, 0, 2, 2, 3, 3]
    (failure,) = run.table(kinds.FAILURES).to_pylist()
    assert (failure["pair"], failure["error_type"]) == (1, "FloatingPointError")
    assert list(verify(run)) == []
    list(worker.run_shard(0, retry=True))
    assert run.table(kinds.FAILURES).num_rows == 0
    assert list(verify(run)) == []
    calm = compute(settings, tmp_path / "calm")
    for kind in (kinds.SALIENCY, kinds.POINTS):
        names = [one.table(kind, ["pair", "method"]) for one in (run, calm)]
        assert names[0].equals(names[1])


def test_rows_of_a_method_too_many_are_found(run: Run, tmp_path: Path, shapes: Path) -> None:
    settings = options(shapes, "gradient,occlusion", batch=2, shard_size=2, dataset={"limit": 2})
    other = compute(settings, tmp_path / "run")
    rows = other.table(kinds.SALIENCY)
    other.commit(
        0,
        {kinds.SALIENCY: pa.concat_tables([rows, rows.slice(0, 1)]), kinds.POINTS: other.table(kinds.POINTS)},
    )
    (line,) = verify(other)
    assert "hold 2.5 of 2 pairs" in line
