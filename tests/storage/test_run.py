"""The run directory: identity, atomic commits, damage, and reading without our code."""

import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
import polars as pl
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from helpers import make_run, manifest, plan, rows

import extremal.storage.run
from extremal.storage import Run, RunError, kinds
from extremal.storage.calls import commit_times, read_calls, write_calls
from extremal.storage.compact import compact
from extremal.storage.files import (
    STALE_TEMP_S,
    PlaceError,
    join,
    list_files,
    open_filesystem,
    printable,
    remove,
    split,
    sweep_temps,
    write_bytes,
)
from extremal.storage.kinds import PAIR, Kind
from extremal.storage.manifest import sealed
from extremal.storage.scores import write_scores
from extremal.storage.trees import diff
from extremal.storage.verify import sweep, verify

LOCAL = pafs.LocalFileSystem()


def channel_rows(n: int) -> list[dict[str, Any]]:
    return [{"pair": i, "class_name": f"c{i}", "masks": np.array([i, 0.5], np.float16)} for i in range(n)]


def files_under(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


# ---- identity -------------------------------------------------------------------------------------


def test_create_find_and_open(tmp_path: Path) -> None:
    uri = str(tmp_path / "deep" / "run")
    assert Run.find(uri) is None
    with pytest.raises(RunError, match="No run at"):
        Run.open(uri)
    made = Run.create(uri, manifest(kinds.SPATIAL, areas=[0.1]), plan([0, 0, 1]))
    found = Run.open(uri)
    assert found.manifest == made.manifest
    assert found.kind == kinds.SPATIAL
    assert found.committed() == []
    assert Run.open(f"file://{uri}").manifest == made.manifest


def test_a_run_without_its_manifest_is_no_run(tmp_path: Path) -> None:
    """run.json is written last: a create that died before it left nothing to resume."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunError, match="Cannot write the run directory"):
        Run.create(str(tmp_path), manifest(kinds.SPATIAL), plan([0]))
    (tmp_path / "run.json").rmdir()
    assert Run.find(str(tmp_path)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json is not readable"):
        Run.open(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("config", {"seed": 1}, "was edited or is damaged"), ("study", "masks", "was edited or is damaged")],
)
def test_an_edited_manifest_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    """Its shards say whose they are, and would all pass for those of another run."""
    make_run(tmp_path, kinds.SPATIAL, {})
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(RunError, match=rf"run\.json.* {message}"):
        Run.open(str(tmp_path))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, kinds.SPATIAL, {})
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(RunError, match="schema version 99"):
        Run.open(str(tmp_path))


def test_a_study_of_another_version_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SPATIAL, {})
    other = sealed(replace(run.manifest, study="holograms"))
    (tmp_path / "run.json").write_text(other.to_json())
    with pytest.raises(RunError, match=r"study 'holograms'.*version of extremal that wrote it"):
        Run.open(str(tmp_path))


def test_differences_are_told_leaf_by_leaf() -> None:
    old = {"config": {"engine": {"steps": 100, "areas": [0.1, 0.2]}, "tau": 1.0}, "data": {"pairs": 1}}
    new = {"config": {"engine": {"steps": 50, "areas": [0.1, 0.2]}}, "data": {"pairs": 2, "more": True}}
    assert diff(old, old) == []
    assert diff(old, new) == [
        "config.engine.steps: 100 -> 50",
        "config.tau: 1.0 -> (absent)",
        "data.more: (absent) -> True",
        "data.pairs: 1 -> 2",
    ]


# ---- plan -----------------------------------------------------------------------------------------


def test_the_pairs_of_images_are_asked_for_by_name(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), manifest(kinds.SPATIAL), plan([0, 0, 1]))
    assert run.plan_of(["image2", "image0", "none"])["pair"].to_pylist() == [0, 2]


def test_only_pairs_have_images(tmp_path: Path) -> None:
    of_channels = replace(manifest(kinds.INVERSION), unit=kinds.CHANNEL_OF_LAYER.name)
    run = Run.create(str(tmp_path), of_channels, kinds.CHANNEL_OF_LAYER.plan.empty_table())
    with pytest.raises(RunError, match="is of channels, which have no images"):
        run.plan_of(["image0"])


def test_the_plan_comes_back_whole_and_by_shard(tmp_path: Path) -> None:
    # A directory named like a Hive partition must not add a column.
    made = plan([0, 0, 1, 1, 1, 2])
    run = Run.create(str(tmp_path / "shard=7"), manifest(kinds.SPATIAL), made)
    assert run.plan().equals(made)
    assert run.plan(["pair"]).column_names == ["pair"]
    assert run.shard_plan(1).equals(made.slice(2, 3))
    assert run.shard_plan(1).schema.equals(PAIR.plan)
    assert run.shard_plan(9).num_rows == 0


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SPATIAL, {})
    (tmp_path / "plan.parquet").write_bytes(b"junk")
    with pytest.raises(RunError, match=r"plan\.parquet is not readable"):
        run.plan()
    with pytest.raises(RunError, match=r"plan\.parquet is not readable"):
        run.shard_plan(0)


# ---- commits --------------------------------------------------------------------------------------


def test_the_main_file_marks_the_shard_and_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, kinds.CHANNEL, {})
    written: list[str] = []

    def note(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
        written.append(Path(path).parent.name)
        write_bytes(filesystem, path, data)

    monkeypatch.setattr(extremal.storage.run, "write_bytes", note)
    tables = {kind: rows(kind, {}) for kind in (kinds.CHANNEL, kinds.FAILURES, kinds.POINTS)}
    run.commit(3, tables)
    assert written[-1] == "channel"
    assert sorted(written) == ["channel", "failures", "points"]
    assert run.committed() == [3]


def test_side_tables_alone_commit_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.CHANNEL, {})
    with pytest.raises(ValueError, match="no channel table"):
        run.commit(0, {kinds.POINTS: rows(kinds.POINTS, {})})
    assert run.committed() == []
    # As a process killed in the middle leaves it.
    (tmp_path / "points/shard-000000.parquet").write_bytes(b"half a")
    assert list(run.tables(kinds.POINTS)) == []


@pytest.mark.parametrize("redone", [{}, {kinds.FAILURES: rows(kinds.FAILURES)}])
def test_failures_go_when_the_shard_is_redone_without_any(tmp_path: Path, redone: dict[Kind, Any]) -> None:
    run = make_run(tmp_path, kinds.CHANNEL, {0: {kinds.FAILURES: [{"pair": 0, "stage": "decode"}]}})
    assert run.table(kinds.FAILURES)["stage"].to_pylist() == ["decode"]
    run.commit(0, {kinds.CHANNEL: rows(kinds.CHANNEL, *channel_rows(1)), **redone})
    assert run.table(kinds.FAILURES).num_rows == 0
    assert run.table(kinds.CHANNEL).num_rows == 1


def test_a_failed_redo_leaves_the_committed_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {kinds.CHANNEL: channel_rows(1), kinds.FAILURES: [{"pair": 1}]}
    run = make_run(tmp_path, kinds.CHANNEL, {0: failed})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run.commit(0, {kinds.CHANNEL: rows(kinds.CHANNEL, *channel_rows(2))})
    assert run.table(kinds.CHANNEL).num_rows == 1
    assert run.table(kinds.FAILURES)["pair"].to_pylist() == [1]
    with pytest.raises(OSError, match="No space"):
        run.commit(1, {kinds.CHANNEL: rows(kinds.CHANNEL, *channel_rows(2))})
    assert run.committed() == [0]
    assert not [name for name in files_under(tmp_path) if name.endswith(".tmp")]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write the run directory"):
        Run.create(str(tmp_path / "file" / "run"), manifest(kinds.SPATIAL), plan([0]))
    run = make_run(tmp_path / "run", kinds.SPATIAL, {})
    (tmp_path / "run" / "scores").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        write_scores(run, "pointing", plan([0]))


def test_a_table_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.CHANNEL, {})
    with pytest.raises(ValueError):
        run.commit(0, {kinds.CHANNEL: rows(kinds.POINTS, {})})
    assert run.committed() == []


def test_shards_are_counted_from_the_plan_and_the_listing(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), manifest(kinds.CHANNEL), plan([0, 0, 1, 3, 3, 3]))
    assert run.shard_sizes() == {0: 2, 1: 1, 3: 3}
    assert run.missing() == [0, 1, 3]
    run.commit(1, {kinds.CHANNEL: rows(kinds.CHANNEL, {"pair": 2})})
    run.commit(3, {kinds.CHANNEL: rows(kinds.CHANNEL), kinds.FAILURES: rows(kinds.FAILURES, {"pair": 3})})
    assert run.missing() == [0]
    assert run.with_failures() == [3]
    assert commit_times(run).keys() == {1, 3}
    assert run.shard_table(1, kinds.FAILURES).equals(rows(kinds.FAILURES))
    assert run.shard_table(3, kinds.FAILURES)["pair"].to_pylist() == [3]


def test_a_retried_shard_never_loses_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two files, a pair is in the results or among the failures, or in both."""
    for killed_after in range(4):
        before = {kinds.CHANNEL: [{"pair": 0}], kinds.FAILURES: [{"pair": 1}]}
        run = make_run(tmp_path / str(killed_after), kinds.CHANNEL, {0: before})
        left = killed_after

        def write(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            write_bytes(filesystem, path, data)

        def delete(filesystem: pafs.FileSystem, path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            remove(filesystem, path)

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(extremal.storage.run, "write_bytes", write)
            patched.setattr(extremal.storage.run, "remove", delete)
            again = {kinds.CHANNEL: rows(kinds.CHANNEL, {"pair": 0}, {"pair": 1})}
            run.commit(0, {**again, kinds.POINTS: rows(kinds.POINTS, {"pair": 1})})
        found = {
            pair for kind in (kinds.CHANNEL, kinds.FAILURES) for pair in run.table(kind)["pair"].to_pylist()
        }
        assert found == {0, 1}
    assert run.with_failures() == []


def test_cut_off_shards_are_open_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.CHANNEL, {i: {kinds.CHANNEL: channel_rows(3)} for i in range(4)})
    paths = [tmp_path / f"channel/shard-00000{i}.parquet" for i in range(4)]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    paths[3].write_bytes(b"PAR1")
    assert sweep(run) == [str(paths[i]) for i in (0, 1, 3)]
    assert run.committed() == [2]
    assert sweep(run) == []


def test_verify_names_every_shard_that_is_not_whole(tmp_path: Path) -> None:
    good = {kinds.CHANNEL: [{"pair": 0}], kinds.POINTS: [{"pair": 0}]}
    run = make_run(tmp_path / "run", kinds.CHANNEL, {i: good for i in range(6)})
    assert list(verify(run)) == []
    whole = {kind: rows(kind, *made) for kind, made in good.items()}
    run.commit(0, {**whole, kinds.FAILURES: rows(kinds.FAILURES, {"pair": 0})})
    (problem,) = verify(run)
    assert "extremal retry" in problem, "killed between two files, which is no damage"
    run.commit(0, whole)
    folder = tmp_path / "run"
    broken = folder / "channel/shard-000001.parquet"
    broken.write_bytes(broken.read_bytes()[:-6] + b"\xff" + broken.read_bytes()[-5:])
    run.commit(2, {kinds.CHANNEL: rows(kinds.CHANNEL), kinds.POINTS: rows(kinds.POINTS)})
    (folder / "points/shard-000003.parquet").unlink()
    run.commit(4, {kinds.CHANNEL: rows(kinds.CHANNEL), kinds.FAILURES: rows(kinds.FAILURES, {"pair": 4})})
    other = make_run(tmp_path / "other", kinds.CHANNEL, {5: good}, seed=1)
    (folder / "channel/shard-000005.parquet").write_bytes(
        Path(other.root, "channel/shard-000005.parquet").read_bytes()
    )
    problems = list(verify(run))
    expected = ["000001.parquet is damaged", "000002.parquet and its failures hold 0 of 1 pairs"]
    expected += ["000003.parquet has no points", "000005.parquet belongs to another run"]
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
        assert "Delete" in problem


def test_calls_are_advice(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SPATIAL, {})
    assert read_calls(run) == []
    write_calls(run, [{"pairs": 1}, {"pairs": 2}])
    assert read_calls(run) == [{"pairs": 1}, {"pairs": 2}]
    for text in ("[", "[]", '{"calls": 5}', '{"calls": {"a": 1}}', '{"calls": ["x"]}'):
        (tmp_path / "summary.json").write_text(text)
        assert read_calls(run) == []


# ---- compaction -----------------------------------------------------------------------------------


def test_compaction_keeps_every_row_in_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {i: {kinds.CHANNEL: [{**r, "pair": i} for r in channel_rows(1)]} for i in range(5)}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    parts = list(compact(run))
    assert [str(Path(part).relative_to(tmp_path)) for part in parts] == [
        f"compact/{kind}/part-00000.parquet" for kind in ("channel", "points", "failures")
    ]
    assert pq.read_table(parts[0]).equals(run.table(kinds.CHANNEL))
    monkeypatch.setattr(
        extremal.storage.compact, "PART_BYTES", 2.5 * run.shard_table(0, kinds.CHANNEL).nbytes
    )
    assert len(list(compact(run))) == 5
    assert pq.read_table(f"{tmp_path}/compact/channel").equals(run.table(kinds.CHANNEL))
    monkeypatch.undo()
    assert list(compact(run)) == parts
    assert files_under(tmp_path / "compact/channel") == ["part-00000.parquet"]


def test_compaction_refuses_what_is_incomplete_or_unwritable(tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), manifest(kinds.CHANNEL), plan([0, 1]))
    with pytest.raises(RunError, match=r"2 shards of .* are missing"):
        list(compact(run))
    for shard in (0, 1):
        run.commit(shard, {kinds.CHANNEL: rows(kinds.CHANNEL, {"pair": shard})})
    (tmp_path / "compact").write_text("in the way")
    with pytest.raises(RunError, match=r"Cannot write .*compact/channel"):
        list(compact(run))


def test_a_compaction_that_fails_leaves_no_part_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would pass for the whole of it."""
    monkeypatch.setattr(extremal.storage.compact, "PART_BYTES", 1)
    shards = {i: {kinds.CHANNEL: [{"pair": i}]} for i in range(3)}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    shard = tmp_path / "channel/shard-000002.parquet"
    shard.write_bytes(shard.read_bytes()[:-50] + b"PAR1")
    with pytest.raises(RunError, match=r"000002\.parquet is damaged"):
        list(compact(run))
    assert files_under(tmp_path / "compact/channel") == []


# ---- reading --------------------------------------------------------------------------------------


def test_tables_come_in_shard_order_with_the_schema(tmp_path: Path) -> None:
    shards = {i: {kinds.CHANNEL: [{"pair": i, "class_name": f"c{i}"}]} for i in (2, 0, 11)}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    assert run.committed() == [0, 2, 11]
    assert run.table(kinds.CHANNEL)["pair"].to_pylist() == [0, 2, 11]
    assert run.table(kinds.CHANNEL).schema.equals(kinds.CHANNEL.schema(PAIR))
    assert run.table(kinds.POINTS).schema.equals(kinds.POINTS.schema(PAIR))
    assert run.table(kinds.CHANNEL, ["class_name", "pair"]).column_names == ["class_name", "pair"]
    footer = pq.read_metadata(tmp_path / "channel/shard-000002.parquet").metadata
    assert footer[b"extremal.config_hash"].decode() == run.manifest.config_hash
    assert footer[b"extremal.rows"] == b"1"


@pytest.mark.parametrize("kind", [kinds.CHANNEL, kinds.POINTS])
def test_a_damaged_shard_is_named_with_the_fix(tmp_path: Path, kind: Kind) -> None:
    shards = {0: {kinds.CHANNEL: channel_rows(3), kinds.POINTS: [{"x": 1}]}}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    path = tmp_path / kind.name / "shard-000000.parquet"
    good = path.read_bytes()
    for bad in (b"", good[: len(good) // 2], good[:-6] + b"\xff" + good[-5:]):
        path.write_bytes(bad)
        with pytest.raises(RunError) as caught:
            run.table(kind)
        assert f"{path} is damaged" in str(caught.value)
        # Whichever file it is, deleting the main one is what makes the shard run again.
        assert f"Delete {tmp_path}/channel/shard-000000.parquet and run" in str(caught.value)


def test_flipped_bits_are_refused(tmp_path: Path) -> None:
    """Masks fill a shard and any bits are a mask, so this takes checksums."""
    rng = np.random.default_rng(0)
    made = [{"pair": i, "masks": rng.random(1000).astype(np.float16)} for i in range(5)]
    run = make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: made}})
    path = tmp_path / "channel/shard-000000.parquet"
    good, whole = path.read_bytes(), run.table(kinds.CHANNEL)
    wrong = 0
    for _ in range(200):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with suppress(RunError):
            wrong += not run.table(kinds.CHANNEL).equals(whole)
    # The footer has no checksum; what is left is a bit of it that nothing else contradicts.
    assert wrong <= 10


def test_a_shard_of_another_run_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", kinds.CHANNEL, {}, seed=0)
    make_run(tmp_path / "b", kinds.CHANNEL, {0: {}}, seed=1)
    name = "channel/shard-000000.parquet"
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(RunError, match="belongs to another run"):
        run.table(kinds.CHANNEL)


def test_other_tools_read_the_shards(tmp_path: Path) -> None:
    shards = {i: {kinds.CHANNEL: channel_rows(2)} for i in range(2)}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    # What a killed process leaves must not be in the way.
    (tmp_path / "channel/.shard-000002.parquet.0123.tmp").write_bytes(b"half a shard")
    folder = f"{run.root}/channel"
    names = ["c0", "c1", "c0", "c1"]
    frame = pd.read_parquet(folder)
    assert frame["class_name"].tolist() == names
    assert [m.tolist() for m in frame["masks"][:2]] == [[0, 0.5], [1, 0.5]]
    table = pl.read_parquet(f"{folder}/*.parquet")
    assert table["class_name"].to_list() == names
    assert table["masks"].to_list()[:2] == [[0, 0.5], [1, 0.5]]
    source = f"read_parquet('{folder}/*.parquet', filename = true)"
    query = f"select class_name, list_sum(masks) from {source} order by filename, pair"
    found = duckdb.connect().execute(query)
    assert found.fetchall() == [("c0", 0.5), ("c1", 1.5)] * 2
    assert run.committed() == [0, 1]


def test_scores_are_written_as_parquet_and_csv(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds.SPATIAL, {})
    table = rows(kinds.CHANNEL, {"counts": [1, 5], "class_name": "a, b"}).select(
        ["class_name", "counts", "a_star"]
    )
    assert write_scores(run, "toy", table) == f"{tmp_path}/scores/toy.csv"
    assert pq.read_table(tmp_path / "scores/toy.parquet").equals(table)
    frame = pd.read_csv(tmp_path / "scores/toy.csv")
    assert frame.iloc[0].tolist()[:2] == ["a, b", "1 5"]
    assert files_under(tmp_path / "scores") == ["toy.csv", "toy.parquet"]


# ---- files ----------------------------------------------------------------------------------------


def test_write_bytes_replaces_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_bytes(LOCAL, str(path), b"old")
    write_bytes(LOCAL, str(path), b"new")
    assert path.read_bytes() == b"new"

    def broken(self: Path, target: Path) -> None:
        raise OSError("gone")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="gone"):
        write_bytes(LOCAL, str(path), b"newer")
    assert path.read_bytes() == b"new"
    assert files_under(tmp_path) == ["x"]


def test_other_filesystems_take_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped filesystem stands for an object store: not local to write_bytes."""
    store = pafs.SubTreeFileSystem(str(tmp_path), LOCAL)
    monkeypatch.setattr(extremal.storage.run, "open_filesystem", lambda uri: (store, "bucket/run"))
    run = make_run(
        Path("ignored"), kinds.CHANNEL, {0: {kinds.CHANNEL: channel_rows(2), kinds.FAILURES: [{}]}}
    )
    run.commit(0, {kinds.CHANNEL: rows(kinds.CHANNEL, *channel_rows(2))})
    assert run.table(kinds.CHANNEL).num_rows == 2
    assert run.shard_plan(0).num_rows == 1
    assert files_under(tmp_path / "bucket/run") == [
        "channel/shard-000000.parquet",
        "failures/empty.parquet",
        "plan.parquet",
        "run.json",
    ]


def test_only_stale_temps_are_swept(tmp_path: Path) -> None:
    old, young, shard = (tmp_path / name for name in (".a.1.tmp", ".b.2.tmp", "shard-000000.parquet"))
    for path in (old, young, shard):
        path.write_bytes(b"")
    past = time.time() - STALE_TEMP_S - 60
    for path in (old, shard):
        os.utime(path, (past, past))
    sweep_temps(LOCAL, str(tmp_path))
    assert files_under(tmp_path) == [young.name, shard.name]


def test_folders_and_uris(tmp_path: Path) -> None:
    assert list_files(LOCAL, str(tmp_path / "none")) == []
    assert open_filesystem(f"{tmp_path}/") == (LOCAL, str(tmp_path))
    assert open_filesystem(f"file://{tmp_path}/")[1] == str(tmp_path)
    with pytest.raises(PlaceError):
        open_filesystem("nonsense://run")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/run?scheme=http", "s3://***@bucket/run?scheme=http"),
        ("s3://KEY:SEC/R:E@T@bucket/run", "s3://***@bucket/run"),
        ("bad: 's3://KEY:SECRET@bucket/run'", "bad: 's3://***@bucket/run'"),
        (
            "s3://bucket/run?access_key=KEY&scheme=http&Token=T",
            "s3://bucket/run?access_key=***&scheme=http&Token=***",
        ),
        ("gs://anonymous@bucket/run", "gs://anonymous@bucket/run"),
        ("s3://bucket/a@b:c/run", "s3://bucket/a@b:c/run"),
        ("/local/a:b@c/run", "/local/a:b@c/run"),
    ],
)
def test_credentials_are_not_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_names_go_before_the_parameters_of_a_uri() -> None:
    assert join("s3://bucket/run/?scheme=http", "run.json") == "s3://bucket/run/run.json?scheme=http"
    assert join("/runs/a?b/", "run.json") == "/runs/a?b/run.json"
    assert split("s3://bucket/lists/a%20b.csv?scheme=http") == ("s3://bucket/lists?scheme=http", "a b.csv")
    assert split("lists/a.csv") == ("lists", "a.csv")


def test_parameters_of_an_s3_uri() -> None:
    address = "endpoint_override=localhost%3A1&scheme=http&anonymous=true"
    assert open_filesystem(f"s3://bucket/a%20b#c/run/?{address}")[1] == "bucket/a b#c/run"
    for wrong, message in (
        ("patience=5", "unknown parameter patience; known are region"),
        ("anonymous=perhaps", "'perhaps' is neither true nor false"),
    ):
        with pytest.raises(PlaceError, match=message):
            open_filesystem(f"s3://bucket/run?{wrong}")
