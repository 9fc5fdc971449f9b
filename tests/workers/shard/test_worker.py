"""The worker without Ray: what it stores, odd images, batches that fail, the same bytes every time."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from runs import SETTINGS, compute, config, timeless

import extremal.workers.studies.spatial
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.stored_masks import draw_masks
from extremal.storage import ConfigMismatch, Run, kinds
from extremal.storage.folder import open_root
from extremal.storage.kinds import Kind
from extremal.storage.verify import verify
from extremal.workers import load_network
from extremal.workers.config import DatasetConfig
from extremal.workers.errors import NetworkError
from extremal.workers.extremal.spatial import extremal_perturbation
from extremal.workers.networks.weights import fingerprint
from extremal.workers.shard.units import Source, decoded
from extremal.workers.shard.worker import Worker
from extremal.workers.studies.computation import pair_batch


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=5)
    return root


def test_rows_hold_what_the_library_computes(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, spatial={"jitter": "none"})
    run = compute(settings, tmp_path / "run")
    rows = run.table(kinds.SPATIAL).to_pylist()
    assert [row["pair"] for row in rows] == list(range(10))
    network = load_network("shapes_cnn", "random", resize=64, crop=0)
    for row in rows[::3]:
        x = network.preprocess(Image.open(shapes / row["path"]).convert("RGB"))[None]
        assert row["target"] == row["class_id"]
        expected = extremal_perturbation(network, x, torch.tensor([row["target"]]), config=settings.spatial)
        np.testing.assert_allclose(row["score_preserve"], expected.scores[0], atol=1e-4)
        np.testing.assert_allclose(row["area_reached"], expected.areas[0], atol=1e-4)
        assert row["score_full"] == pytest.approx(expected.score_full.item(), abs=1e-4)
        np.testing.assert_allclose(draw_masks(run, row), expected.masks[0], atol=5e-3)


def test_channel_rows_and_points(shapes: Path, tmp_path: Path) -> None:
    run = compute(config(shapes, method="channel"), tmp_path / "run")
    row = run.table(kinds.CHANNEL).to_pylist()[0]
    assert row["masks_shape"] == [3, 128]
    assert len(row["masks"]) == np.prod(row["masks_shape"])
    assert len(row["saliency"]) == np.prod(row["saliency_shape"])
    points = run.table(kinds.POINTS).to_pylist()
    assert sorted({p["method"] for p in points}) == ["center", "channel"]
    assert len(points) == 20
    assert all(p["distance2"] >= 0 and 0 <= p["x"] < 128 and 0 <= p["y"] < 128 for p in points)


@pytest.mark.parametrize("method", ["spatial", "channel"])
def test_same_rows_whatever_the_shard_size(shapes: Path, tmp_path: Path, method: str) -> None:
    small = compute(config(shapes, method=method, shard_size=2), tmp_path / "small")
    large = compute(config(shapes, method=method, shard_size=10), tmp_path / "large")
    assert len(small.committed()) == 5
    assert len(large.committed()) == 1
    for kind in (small.kind, kinds.POINTS):
        assert timeless(small, kind).equals(timeless(large, kind))


def test_another_seed_gives_other_masks(shapes: Path, tmp_path: Path) -> None:
    first = compute(config(shapes, dataset={"limit": 2}), tmp_path / "first")
    settings = config(shapes, dataset={"limit": 2})
    again = compute(settings, tmp_path / "again")
    assert timeless(first, kinds.SPATIAL).equals(timeless(again, kinds.SPATIAL))
    other = compute(config(shapes, dataset={"limit": 2}, seed=1), tmp_path / "other")
    columns = ["pair", "params"]
    assert not first.table(kinds.SPATIAL, columns).equals(other.table(kinds.SPATIAL, columns))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Shapes whose images 000002 ... 000008 are all of an odd kind."""
    root = tmp_path / "odd"
    make_shapes(root, train=1, test=8)
    images = root / "VOCdevkit" / "VOC2007" / "JPEGImages"
    whole = (images / "000002.jpg").read_bytes()
    (images / "000002.jpg").write_bytes(whole[: len(whole) // 2])
    with Image.open(images / "000003.jpg") as image:
        image.convert("CMYK").save(images / "000003.jpg")
    with Image.open(images / "000004.jpg") as image:
        image.convert("L").save(images / "000004.jpg", format="PNG")
    Image.new("RGB", (1, 1), (200, 10, 10)).save(images / "000005.jpg")
    (images / "000006.jpg").unlink()
    annotation = root / "VOCdevkit" / "VOC2007" / "Annotations" / "000007.xml"
    text = annotation.read_text()
    name = text.split("<name>")[1].split("</name>")[0]
    annotation.write_text(text.replace(f"<name>{name}</name>", "<name>dodecahedron</name>", 1))
    (images / "000008.jpg").write_bytes(b"")
    return root


def test_odd_images_cost_only_themselves(odd: Path, tmp_path: Path) -> None:
    run = compute(config(odd), tmp_path / "run")
    good = {row["image_id"] for row in run.table(kinds.SPATIAL).to_pylist()}
    failures = run.table(kinds.FAILURES).to_pylist()
    bad = {row["image_id"]: row for row in failures}
    assert {"000003", "000004", "000007", "000009"} <= good
    assert bad.keys() == {"000002", "000005", "000006", "000007", "000008"}
    assert bad["000002"]["stage"] == "decode"
    assert "000002.jpg" in bad["000002"]["error"]
    assert "1x1, but its annotation was made for 128x128" in bad["000005"]["error"]
    assert "000006.jpg" in bad["000006"]["error"]
    assert bad["000007"]["stage"] == "target"
    assert "dodecahedron" in bad["000007"]["error"]
    pairs = run.plan(["pair"]).num_rows
    assert run.table(kinds.SPATIAL).num_rows + len(failures) == pairs


def batch_of_four(root: Path, out: Path) -> tuple[Run, Worker]:
    settings = config(root, batch=4, dataset={"limit": 4})
    run, _ = prepare(settings, str(out))
    return run, Worker(worker_spec(settings, run, "cpu"))


def test_one_bad_pair_of_a_batch_fails_alone(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, worker = batch_of_four(shapes, tmp_path / "run")
    honest = worker.computation.compute

    def fails_with_pair_two(items: list[Any]) -> Any:
        if any(item.row["pair"] == 2 for item in items):
            raise RuntimeError("no luck with pair two")
        return honest(items)

    monkeypatch.setattr(worker.computation, "compute", fails_with_pair_two)
    reports = list(worker.run_shard(0))
    assert sum(r.pairs for r in reports) == 4
    assert sum(r.failed for r in reports) == 1
    assert run.table(kinds.SPATIAL, ["pair"])["pair"].to_pylist() == [0, 1, 3]
    (failure,) = run.table(kinds.FAILURES).to_pylist()
    assert (failure["pair"], failure["stage"], failure["error"]) == (2, "optimize", "no luck with pair two")


def test_a_pair_whose_scores_are_no_numbers_fails_alone_and_nothing_is_computed_twice(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, worker = batch_of_four(shapes, tmp_path / "run")
    honest = extremal.workers.studies.spatial._rows
    calls: list[int] = []

    def overflows_in_pair_one(result: Any) -> Any:
        rows = honest(result)
        calls.append(len(rows))
        rows[1]["score_preserve"][1] = np.inf
        return rows

    monkeypatch.setattr(extremal.workers.studies.spatial, "_rows", overflows_in_pair_one)
    list(worker.run_shard(0))
    assert calls == [4]
    assert run.table(kinds.SPATIAL, ["pair"])["pair"].to_pylist() == [0, 2, 3]
    assert run.table(kinds.POINTS, ["pair"])["pair"].to_pylist() == [0, 0, 2, 2, 3, 3]
    (failure,) = run.table(kinds.FAILURES).to_pylist()
    assert (failure["pair"], failure["error_type"]) == (1, "FloatingPointError")


def test_two_shards_at_once_give_the_rows_of_one_after_the_other(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, shard_size=2)
    serial = compute(settings, tmp_path / "serial")
    run, _ = prepare(settings, str(tmp_path / "threads"))
    worker = Worker(worker_spec(settings, run, "cpu"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda shard: list(worker.run_shard(shard)), range(5)))
    for kind in (kinds.SPATIAL, kinds.POINTS, kinds.FAILURES):
        assert timeless(run, kind).equals(timeless(serial, kind))


def test_a_shard_that_waits_for_the_device_gives_signs_of_life(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, dataset={"limit": 2})
    run, _ = prepare(settings, str(tmp_path / "run"))
    worker = Worker(worker_spec(settings, run, "cpu"))
    with ThreadPoolExecutor(1) as pool:
        with worker._device:
            work = pool.submit(lambda: list(worker.run_shard(0)))
            beats = set()
            while len(beats) < 4:  # two images decoded, then nothing but waiting
                beats.add(worker.pulse().get(0))
                assert not work.done()
                time.sleep(0.05)
        work.result()
    assert worker.pulse() == {}


def test_a_committed_shard_is_left_alone(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, dataset={"limit": 2})
    run = compute(settings, tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").glob("*/shard-*.parquet")}
    assert len(files) == 2
    reports = list(Worker(worker_spec(settings, run, "cpu")).run_shard(0))
    assert sum(report.pairs for report in reports) == 2
    assert all(path.read_bytes() == content for path, content in files.items())


def test_a_changed_dataset_is_not_mixed_into_a_run(odd: Path, tmp_path: Path) -> None:
    settings = config(odd)
    prepare(settings, str(tmp_path / "run"))
    test_list = odd / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    test_list.write_text("\n".join(test_list.read_text().split()[:-1]) + "\n")
    with pytest.raises(ConfigMismatch, match=r"data\.pairs: 16 -> 14"):
        prepare(settings, str(tmp_path / "run"))


def test_a_retry_computes_the_failed_pairs_and_keeps_the_rest(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i, path in enumerate(sorted(shapes.rglob("*.jpg"))[:6]):
        (images / f"{i}.jpg").write_bytes(path.read_bytes())
    settings = config(images, dataset={"name": "folder", "split": None}, batch=3, shard_size=3)
    settings = replace(settings, dataset=DatasetConfig("folder", str(images)))
    whole = compute(settings, tmp_path / "whole")
    mended = {name: (images / name).read_bytes() for name in ("1.jpg", "2.jpg")}
    for name in mended:
        (images / name).write_bytes(b"")
    run = compute(settings, tmp_path / "run")
    before = run.table(kinds.SPATIAL)
    assert before["image_id"].to_pylist() == ["0.jpg", "3.jpg", "4.jpg", "5.jpg"]
    (images / "1.jpg").write_bytes(mended["1.jpg"])
    assert run.with_failures() == [1]
    worker = Worker(worker_spec(settings, run, "cpu"))
    assert sum(report.pairs for report in worker.run_shard(1, retry=True)) == 2
    assert [row["image_id"] for row in run.table(kinds.FAILURES).to_pylist()] == ["2.jpg"]
    (images / "2.jpg").write_bytes(mended["2.jpg"])

    write = Run._write_shard

    def write_points_and_die(run: Run, shard: int, kind: Kind, table: pa.Table) -> None:
        if kind != kinds.POINTS:
            raise KeyboardInterrupt
        write(run, shard, kind, table)

    monkeypatch.setattr(Run, "_write_shard", write_points_and_die)
    with pytest.raises(KeyboardInterrupt):
        list(worker.run_shard(1, retry=True))
    monkeypatch.setattr(Run, "_write_shard", write)
    list(worker.run_shard(1, retry=True))
    assert run.with_failures() == []
    assert list(verify(run)) == []
    after = run.table(kinds.SPATIAL)
    assert after["pair"].to_pylist() == list(range(6))
    kept = after.filter(pc.field("pair").isin(before["pair"]))
    assert kept.equals(before), "rows that were there must stay the same bytes, timings too"
    assert run.table(kinds.POINTS).num_rows == whole.table(kinds.POINTS).num_rows
    scores = [dict(zip(*t.select(["image_id", "score_full"]).to_pydict().values(), strict=True)) for t in (
        after, whole.table(kinds.SPATIAL))]  # fmt: skip
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_worker_with_other_weights_refuses_to_start(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, dataset={"limit": 2})
    run, _ = prepare(settings, str(tmp_path / "run"))
    other = load_network("shapes_cnn", "random", resize=64, crop=0)
    other.module.fc.bias.add_(1)  # type: ignore[union-attr,operator]
    changed = load_network("shapes_cnn", "random", resize=64, crop=0)
    object.__setattr__(changed, "fingerprint", fingerprint(other.module))
    with pytest.raises(NetworkError, match="has other weights here"):
        Worker(worker_spec(settings, run, "cpu"), changed)


def test_lost_storage_fails_the_shard_and_not_its_pairs(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(shapes, dataset={"limit": 2})
    run, _ = prepare(settings, str(tmp_path / "run"))

    def lost(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", lost)
    with pytest.raises(OSError, match="Input/output error"):
        list(Worker(worker_spec(settings, run, "cpu")).run_shard(0))
    assert run.committed() == []


def test_network_that_gives_nan_is_a_failure_row(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, dataset={"limit": 2})
    run, _ = prepare(settings, str(tmp_path / "run"))
    network = load_network("shapes_cnn", "random", resize=64, crop=0)
    network.module.fc.bias.fill_(float("nan"))  # type: ignore[union-attr,operator]
    list(Worker(worker_spec(settings, run, "cpu"), network).run_shard(0))
    assert run.table(kinds.SPATIAL).num_rows == 0
    assert {row["error_type"] for row in run.table(kinds.FAILURES).to_pylist()} == {"FloatingPointError"}


def test_voc_class_is_explained_by_its_most_confident_synset(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.effect_noise((40, 40), 50).convert("RGB").save(images / "a.jpg")
    settings = build_config(
        merge(method_trees("torchray"), {
            **SETTINGS, "dataset": {"name": "folder", "root": str(images)},
        })
    )  # fmt: skip
    run, _ = prepare(settings, str(tmp_path / "run"))
    worker = Worker(worker_spec(settings, run, "cpu"))
    (row,) = run.plan().to_pylist()
    logits = worker.network(worker.network.preprocess(Image.open(images / "a.jpg"))[None])[0]
    source = Source(worker.network, open_root(str(images)), run.unit, 0)
    (items,), _ = decoded(source, [{**row, "targets": [0, 3, 5]}])
    chosen = pair_batch(worker.network, items).targets
    assert chosen.item() == [0, 3, 5][int(logits[[0, 3, 5]].argmax())]
    (items,), _ = decoded(source, [row])
    assert pair_batch(worker.network, items).targets.item() == int(logits.argmax())
