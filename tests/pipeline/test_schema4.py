"""Runs of schema 4 open, score and continue as what they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import schema4
from processes import LOCAL_RAY
from runs import timeless
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.aggregates.comparison import compare, make_columns
from extremal.pipeline.aggregates.sanity import check_comparable
from extremal.pipeline.channel_run import check_channels
from extremal.pipeline.driving.driver import init_ray
from extremal.pipeline.identity import RETIRED, config_settings, run_settings
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.stored_config import stored_config
from extremal.pipeline.stored_masks import draw_masks
from extremal.storage import ConfigMismatch, Run, kinds
from extremal.storage.compact import compact
from extremal.storage.manifest import sha256
from extremal.storage.verify import verify
from extremal.workers.config import RunConfig
from extremal.workers.shard.worker import Worker

KEY_OF_SCHEMA_4 = ["pair", "image_id", "path", "class_id", "class_name"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return schema4.unpack(tmp_path)


def run_shard(config: RunConfig, run: Run, shard: int, retry: bool = False) -> None:
    list(Worker(worker_spec(config, run, "cpu")).run_shard(shard, retry))


@pytest.mark.parametrize("name", schema4.RUNS)
def test_they_open_whole(folder: Path, name: str) -> None:
    run = Run.open(str(folder / name))
    assert run.manifest.schema_version == 4
    assert run.manifest.unit == "pair"
    assert run.kind.name == schema4.STUDIES.get(name, name)
    assert list(verify(run)) == []
    assert run.missing() == ([1] if name in schema4.UNFINISHED else [])
    for kind in run.kinds:
        assert run.table(kind).schema.names[: len(KEY_OF_SCHEMA_4)] == KEY_OF_SCHEMA_4


@pytest.mark.parametrize("name", schema4.RUNS)
def test_their_command_is_their_identity(folder: Path, name: str) -> None:
    before = schema4.committed_bytes(folder / name)
    run, existed = prepare(schema4.config(folder, name), str(folder / name))
    assert existed
    assert schema4.committed_bytes(folder / name) == before
    with pytest.raises(ConfigMismatch) as error:
        prepare(schema4.config(folder, name, seed=99), run.uri)
    assert [line for line in str(error.value).splitlines() if "->" in line][1:] == [
        f"  config.seed: {run.manifest.setting('seed')} -> 99"
    ]


@pytest.mark.parametrize("name", schema4.UNFINISHED)
def test_the_unfinished_continue_as_they_would_have(folder: Path, name: str) -> None:
    settings, before = schema4.config(folder, name), schema4.committed_bytes(folder / name)
    run, _ = prepare(settings, str(folder / name))
    run_shard(settings, run, 1)
    assert run.missing() == []
    assert list(verify(run)) == []
    _assert_continued(folder, name, before)


def _assert_continued(folder: Path, name: str, before: Any) -> None:
    after = schema4.committed_bytes(folder / name)
    assert {file: after[file] for file in before} == before
    for path in (folder / "expected" / name).glob("*/*.parquet"):
        new = pq.read_table(folder / name / path.parent.name / path.name)
        old = pq.read_table(path)
        footers = [dict(table.schema.metadata) for table in (new, old)]
        assert footers[0] == footers[1]
        assert new.schema.equals(old.schema, check_metadata=False)
        if path.parent.name == "failures":  # its message names the place of the image
            new, old = new.drop_columns("error"), old.drop_columns("error")
        schema4.assert_alike(new, old)


def test_channels_of_an_older_run_stay_images_and_those_of_a_new_one_are_none(folder: Path) -> None:
    settings = schema4.config(folder, "pictures")
    older, _ = prepare(settings, str(folder / "pictures"))
    run_shard(settings, older, 1)
    newer, existed = prepare(settings, str(folder / "new"))
    assert not existed
    run_shard(settings, newer, 0)
    run_shard(settings, newer, 1)
    assert older.plan(["image_id"])["image_id"][0].as_py().startswith("block4:")
    assert newer.unit.name == "channel"
    assert "image_id" not in newer.table(kinds.INVERSION).column_names
    pictures = [timeless(run, kinds.INVERSION) for run in (older, newer)]
    shared = [name for name in pictures[1].column_names if name not in ("unit", "seed")]
    schema4.assert_alike(pictures[0].select(shared), pictures[1].select(shared))
    assert pictures[0]["seed"] == pictures[1]["seed"]  # so that the same command draws the same


def test_failures_are_retried_in_the_old_layout(folder: Path) -> None:
    run, settings = Run.open(str(folder / "spatial")), schema4.config(folder, "spatial")
    run_shard(settings, run, 1)
    assert len(run.table(kinds.FAILURES)) == 2
    shutil.copy(folder / "sound.jpg", folder / "shapes/VOCdevkit/VOC2007/JPEGImages/000003.jpg")
    again = stored_config(run, str(folder / "shapes"), str(folder / "weights.pt"))
    assert again == settings
    for shard in (0, 1):
        run_shard(again, run, shard, retry=True)
        for kind in (kinds.SPATIAL, kinds.POINTS):
            wanted = schema4.expected(folder, "retried", kind.name, shard)
            schema4.assert_alike(run.shard_table(shard, kind), wanted)
    assert len(run.table(kinds.FAILURES)) == 0
    assert list(verify(run)) == []


def test_the_command_line_continues_retries_and_reads_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = schema4.committed_bytes(folder / "spatial")
    places = ["--root", "shapes", "--weights", "weights.pt"]
    machine = ["--actors", "1", "--device", "cpu"]
    init_ray(LOCAL_RAY)
    try:
        assert "resuming" in called(
            "run", "--config", schema4.toml("spatial"), "--out", "spatial", *places, *machine
        )
        _assert_continued(folder, "spatial", before)
        shutil.copy(folder / "sound.jpg", folder / "shapes/VOCdevkit/VOC2007/JPEGImages/000003.jpg")
        assert "2 of 2 pairs succeeded" in called("retry", "spatial", *places, *machine)
    finally:
        ray.shutdown()
    called("status", "spatial", "--verify")
    for name in ("spatial", "channel", "saliency", "inversion"):
        called("score", name)
    called("classes", "channel")
    called("table", "spatial", "saliency")
    called("report", "spatial", "channel", "saliency", "inversion", "--root", "shapes", "--out", "site")
    assert (folder / "site" / "index.html").is_file()


def called(*arguments: object) -> str:
    """What a command prints that ends well."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", ["channel", "saliency", "inversion"])
def test_they_compact_and_read_the_same(folder: Path, name: str) -> None:
    run = Run.open(str(folder / name))
    list(compact(run))
    assert pq.read_table(folder / name / "compact" / run.kind.name).equals(run.table(run.kind))


def test_their_masks_are_drawn_from_their_parameters(folder: Path) -> None:
    """Also where settings of their schedule are gone, whatever values they had."""
    path = folder / "spatial" / "run.json"
    tree = json.loads(path.read_text())
    tree["config"]["spatial"]["schedule"]["settle"] = 0.5
    before = {name: tree[name] for name in ("config", "model", "data")}
    path.write_text(json.dumps(tree | {"config_hash": sha256(before)}))
    run = Run.open(str(folder / "spatial"))
    row = pq.read_table(folder / "spatial/spatial/shard-000000.parquet").to_pylist()[0]
    assert draw_masks(run, row).shape == (2, 32, 32)
    with pytest.raises(ConfigMismatch, match=r"config\.spatial\.schedule\.settle: 0\.5 -> \(absent\)"):
        prepare(schema4.config(folder, "spatial"), run.uri)


def test_settings_that_are_gone_are_in_no_identity(folder: Path) -> None:
    run = Run.open(str(folder / "spatial"))
    stored = run.manifest.config["spatial"]["schedule"]
    assert {key: stored[key] for *_, key in RETIRED} == {"settle": 0.0, "check": 10}
    assert run_settings(run.manifest) == config_settings(schema4.config(folder, "spatial"))


def test_they_compare_with_runs_of_today(folder: Path) -> None:
    """The same settings on another seed are of one column of a table, and of one method's mean."""
    settings = schema4.config(folder, "saliency")
    older = Run.open(str(folder / "saliency"))
    newer, _ = prepare(schema4.config(folder, "saliency", seed=1), str(folder / "seed1"))
    run_shard(schema4.config(folder, "saliency", seed=1), newer, 0)
    (column,) = make_columns([older, newer])
    rows = {row["method"]: row for row in compare([column]).to_pylist()}
    assert rows["extremal"]["runs"] == 2
    random = schema4.config(folder, "saliency", network={"randomized": 1})
    randomized, _ = prepare(random, str(folder / "randomized"))
    check_comparable(older, randomized)
    today, _ = prepare(settings, str(folder / "today"))
    assert run_settings(today.manifest) == run_settings(older.manifest)


def test_a_new_inversion_of_an_older_channel_run(folder: Path) -> None:
    run, settings = Run.open(str(folder / "channel")), schema4.config(folder, "inversion")
    check_channels(run, settings, run.manifest.model)
    new, existed = prepare(settings, str(folder / "new"))
    assert not existed
    run_shard(settings, new, 0)
    older = pq.read_table(folder / "inversion/inversion/shard-000000.parquet")
    schema4.assert_alike(new.table(kinds.INVERSION), older)
    assert class_channels(run, 1).num_rows == 3
