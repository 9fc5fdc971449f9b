"""Runs of inversions on drawn shapes: rows, failures, resume, retry, what is refused, and the command."""

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from rich.console import Console
from runs import SETTINGS, compute, timeless
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.options import assemble
from extremal.jobs.score import show_scores
from extremal.jobs.status import show_status
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.aggregates.inversions import mean_cosines
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.config import merge
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.stored_config import stored_config
from extremal.storage import ConfigMismatch, Run, RunError, kinds
from extremal.storage.compact import compact
from extremal.storage.verify import verify
from extremal.workers import load_network
from extremal.workers.config import RunConfig
from extremal.workers.inversion.invert import activations, cosine, energy, invert, masked
from extremal.workers.networks.cut import split_network
from extremal.workers.shard.rows import unit_seed
from extremal.workers.shard.worker import Worker

LAYER, CHANNELS, SIDE = "block4", 128, 64
PAIRS = 10
SMALL = {"steps": 3, "inversion": {"jitter": 2}, "batch": 2, "shard_size": 4}


def options(channels: Run | Path | str, method: str = "inversion", **changes: Any) -> RunConfig:
    """The configuration of `--method inversion --channels RUN`, with few steps."""
    place = channels.uri if isinstance(channels, Run) else str(channels)
    flags = merge({**SMALL, "method": method, "inversion": {"channels": place, "jitter": 2}}, changes)
    return assemble(None, None, flags, "cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=5)
    return root


@pytest.fixture(scope="module")
def channels(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A channel run with counts that do not go up to all channels, so that some pairs have no a*."""
    flags = merge(SETTINGS, {"method": "channel", "seed": 3, "dataset": {"root": str(shapes)}})
    return compute(assemble(None, None, flags, "cpu"), tmp_path_factory.mktemp("channels") / "run")


@pytest.fixture(scope="module")
def run(channels: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return compute(options(channels), tmp_path_factory.mktemp("inversions") / "run")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def test_what_the_channel_run_says_need_not_be_said_again(channels: Run) -> None:
    config = options(channels)
    before = stored_config(channels, None, None)
    assert config.seed == 3
    assert config.dataset == before.dataset
    assert config.network == before.network
    assert config.channel == before.channel
    assert config.precision == "float32"
    assert config.inversion.steps == 3
    assert options(channels, seed=4, dataset={"limit": 2}).seed == 4


def test_rows_of_pairs_are_what_the_library_computes(run: Run, channels: Run, shapes: Path) -> None:
    rows = run.table(kinds.INVERSION).to_pylist()
    assert [row["pair"] for row in rows] == list(range(PAIRS))
    assert run.table(kinds.FAILURES).num_rows == 0
    assert list(verify(run)) == []
    masks = {(r["image_id"], r["class_id"]): r for r in channels.table(kinds.CHANNEL).to_pylist()}
    network = load_network("shapes_cnn", "random", resize=SIDE, crop=0)
    split = split_network(network, LAYER)
    plan = run.plan(["batch"])

    def stored_mask(row: dict[str, Any]) -> torch.Tensor:
        stored = masks[row["image_id"], row["class_id"]]
        counts, a_star = stored["counts"], stored["a_star"]
        place = len(counts) - 1 if a_star is None else counts.index(a_star)
        return torch.tensor(stored["masks"]).float().view(len(counts), CHANNELS)[place]

    for first in rows[::4]:
        # The run's own batch: Adam's first step is a gradient's sign, and so that of the batch's rounding.
        row, batch = first, rows[first["pair"] : first["pair"] + 2]
        assert len({plan["batch"][r["pair"]].as_py() for r in batch}) == 1
        stored, seed = masks[row["image_id"], row["class_id"]], unit_seed(3, kinds.PAIR, row)
        files = [Image.open(shapes / r["path"]).convert("RGB") for r in batch]
        value = split.head(torch.stack([network.preprocess(file) for file in files])).value
        targets = torch.cat([value, masked(value, torch.stack([stored_mask(r) for r in batch]), split)])
        seeds = [unit_seed(3, kinds.PAIR, r) for r in batch]
        expected = invert(network, split, targets, 2 * seeds, config=options(channels).inversion)
        for name, i in (("", 0), ("_masked", 2)):
            wanted = (expected.pictures[i].permute(1, 2, 0).numpy() * 255).round()
            assert np.abs(pixels(row[f"image{name}"]) - wanted).max() <= 1
            assert row[f"cosine{name}"] == pytest.approx(expected.cosine[i].item(), abs=1e-4)
            np.testing.assert_allclose(row[f"energy{name}"], expected.energy[i], rtol=1e-2, atol=1e-5)
        between = cosine(expected.activations[[0]], expected.activations[[2]]).item()
        assert row["cosine_between"] == pytest.approx(between, abs=1e-4)
        np.testing.assert_allclose(row["trace"], expected.trace[[0, 2]].flatten(), rtol=1e-2, atol=1e-4)
        assert row["trace_steps"] == [0, 1, 2]
        for name in ("target", "target_name", "a_star", "layer", "class_name"):
            assert row[name] == stored[name]
        assert (row["seed"], row["channel"], row["objective"]) == (seed, None, "dot")
        assert row["seconds"] > 0


def test_energy_and_cosine_are_those_of_the_picture_as_stored(run: Run, shapes: Path) -> None:
    row = run.table(kinds.INVERSION).to_pylist()[3]
    network = load_network("shapes_cnn", "random", resize=SIDE, crop=0)
    split = split_network(network, LAYER)
    seen = torch.from_numpy(pixels(row["image"]).copy()).permute(2, 0, 1)[None] / 255
    value = activations(network, split, seen)
    np.testing.assert_allclose(
        row["energy"], energy(value, split)[0], rtol=0.1, atol=0.05 * max(row["energy"])
    )
    x = network.preprocess(Image.open(shapes / row["path"]).convert("RGB"))[None]
    assert row["cosine"] == pytest.approx(cosine(value, split.head(x).value).item(), abs=0.02)


def test_same_pictures_whatever_the_shard_size_and_where_the_channel_run_lies(
    run: Run, channels: Run, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    for path in Path(channels.uri).rglob("*"):
        if path.is_file():
            there = moved / path.relative_to(channels.uri)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    settings = options(moved)
    _, existed = prepare(settings, run.uri)
    assert existed, "a location is no identity"
    other = compute(replace(settings, shard_size=6), tmp_path / "other")
    assert len(other.committed()) != len(run.committed())
    assert timeless(other, kinds.INVERSION).equals(timeless(run, kinds.INVERSION))


def test_stopped_and_resumed_is_the_same(run: Run, channels: Run, tmp_path: Path) -> None:
    settings = options(channels)
    part, _ = prepare(settings, str(tmp_path / "run"))
    list(Worker(worker_spec(settings, part, "cpu")).run_shard(1))
    again, existed = prepare(settings, str(tmp_path / "run"))
    assert existed
    assert again.missing() == [0, 2]
    for shard in again.missing():
        list(Worker(worker_spec(settings, again, "cpu")).run_shard(shard))
    assert timeless(again, kinds.INVERSION).equals(timeless(run, kinds.INVERSION))


def test_limit_takes_the_first_and_every_other_setting_is_identity(channels: Run, tmp_path: Path) -> None:
    run = compute(options(channels, dataset={"limit": 2}), tmp_path / "run")
    assert run.table(kinds.INVERSION, ["pair"])["pair"].to_pylist() == [0, 1]
    for changes in ({"steps": 4}, {"inversion": {"objective": "distance"}}, {"seed": 9}):
        with pytest.raises(ConfigMismatch, match=r"-> "):
            prepare(options(channels, dataset={"limit": 2}, **changes), run.uri)
    prepare(options(channels, dataset={"limit": 2}, inversion={"per_class": 7}), run.uri)  # of no pair


def without(channels: Run, out: Path, pair: int) -> Run:
    """A copy of a channel run in which a pair has failed."""
    plan = channels.plan()
    copy = Run.create(str(out), channels.manifest, plan)
    for shard in channels.committed():
        rows = channels.shard_table(shard, kinds.CHANNEL)
        kept = rows.filter(pc.not_equal(rows["pair"], pair))
        copy.commit(shard, {kinds.CHANNEL: kept, kinds.POINTS: channels.shard_table(shard, kinds.POINTS)})
    return copy


def test_a_pair_without_a_mask_fails_alone_and_a_retry_mends_it(
    run: Run, channels: Run, tmp_path: Path
) -> None:
    broken = without(channels, tmp_path / "broken", pair=5)
    settings = options(broken)
    found = compute(settings, tmp_path / "run")
    (failure,) = found.table(kinds.FAILURES).to_pylist()
    assert failure["pair"] == 5
    assert "the channel run has no mask" in failure["error"]
    assert "retry" in failure["error"]
    assert found.table(kinds.INVERSION).num_rows == PAIRS - 1
    assert list(verify(found)) == []
    whole = stored_config(found, None, None, channels.uri)
    (shard,) = found.with_failures()
    list(Worker(worker_spec(whole, found, "cpu")).run_shard(shard, retry=True))
    assert found.table(kinds.FAILURES).num_rows == 0
    mended = timeless(found, kinds.INVERSION).to_pylist()[5]
    same = timeless(run, kinds.INVERSION).to_pylist()[5]
    assert np.abs(pixels(mended["image_masked"]).astype(int) - pixels(same["image_masked"])).max() <= 1


def test_a_mask_that_keeps_nothing_fails_alone(channels: Run, tmp_path: Path) -> None:
    empty = Run.create(
        str(tmp_path / "empty"),
        channels.manifest,
        channels.plan(),
    )
    for shard in channels.committed():
        rows = channels.shard_table(shard, kinds.CHANNEL).to_pylist()
        for row in rows:
            if row["pair"] == 1:
                row["masks"] = [0.0] * len(row["masks"])
        table = pa.Table.from_pylist(rows, schema=channels.shard_table(shard, kinds.CHANNEL).schema)
        empty.commit(shard, {kinds.CHANNEL: table})
    found = compute(options(empty, dataset={"limit": 4}), tmp_path / "run")
    (failure,) = found.table(kinds.FAILURES).to_pylist()
    assert failure["pair"] == 1
    assert "zero everywhere" in failure["error"]
    assert found.table(kinds.INVERSION, ["pair"])["pair"].to_pylist() == [0, 2, 3]


def test_a_fault_of_the_channel_runs_store_fails_the_shard_and_not_its_pairs(
    channels: Run, tmp_path: Path
) -> None:
    place = tmp_path / "channels"
    shutil.copytree(channels.uri, place)
    config = options(Run.open(str(place)))
    run, _ = prepare(config, str(tmp_path / "run"))
    for path in (place / "channel").glob("shard-*.parquet"):
        path.write_bytes(b"not parquet")
    worker = Worker(worker_spec(config, run, "cpu"))
    with pytest.raises(RunError, match="damaged"):
        list(worker.run_shard(run.missing()[0]))
    assert run.committed() == []


def test_channels_are_the_largest_of_each_class(channels: Run, tmp_path: Path) -> None:
    settings = options(channels, inversion={"subject": "channels", "per_class": 2})
    run = compute(settings, tmp_path / "run")
    table = class_channels(channels, 2)
    expected = {
        channel
        for name in ("top_channels", "specific_channels")
        for some in table[name].to_pylist()
        for channel in some or ()
    }
    rows = run.table(kinds.INVERSION).to_pylist()
    assert [row["channel"] for row in rows] == sorted(expected)
    assert list(verify(run)) == []
    for row in rows:
        assert (row["layer"], row["objective"]) == (LAYER, "channel")
        assert (row["image_masked"], row["cosine_masked"], row["energy_masked"]) == (None, None, [])
        assert pixels(row["image"]).shape == (SIDE, SIDE, 3)
        assert len(row["energy"]) == CHANNELS
    assert run.unit == kinds.CHANNEL_OF_LAYER
    assert run.plan().column_names == ["unit", "layer", "channel", "shard", "batch"]
    assert not {"image_id", "path", "class_id", "target"} & {*run.schema(kinds.INVERSION).names}
    # The objective is that of pairs: no part of this run, and of no effect on its pictures.
    distance = options(channels, inversion={"subject": "channels", "per_class": 2, "objective": "distance"})
    prepare(distance, run.uri)
    again = compute(distance, tmp_path / "again")
    assert again.table(kinds.INVERSION)["image"] == run.table(kinds.INVERSION)["image"]
    with pytest.raises(ConfigMismatch, match="per_class: 2 -> 1"):
        prepare(options(channels, inversion={"subject": "channels", "per_class": 1}), run.uri)


def test_what_cannot_be_inverted_is_refused(channels: Run, run: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    with pytest.raises(ConfigError, match="give --channels RUN"):
        assemble(None, None, {"method": "inversion"}, "cpu")
    with pytest.raises(RunError, match="No run at"):
        options(tmp_path / "nowhere")
    with pytest.raises(RunError, match="--channels takes one of --method channel"):
        prepare(options(run), out)
    with pytest.raises(ConfigError, match=r"channel.layer: block4 -> block3"):
        prepare(options(channels, channel={"layer": "block3"}), out)
    with pytest.raises(ConfigError, match=r"dataset.split: test -> train"):
        prepare(options(channels, dataset={"split": "train"}), out)
    with pytest.raises(ConfigError, match=r"resize: 64 -> 80"):
        prepare(options(channels, network={"resize": 80}), out)
    with pytest.raises(ConfigError, match="lr must be positive"):
        options(channels, inversion={"lr": 0.0})
    with pytest.raises(ConfigError, match=r"inversion\.subject"):
        options(channels, inversion={"subject": "classes"})
    half, _ = prepare(stored_config(channels, None, None), str(tmp_path / "half"))
    with pytest.raises(RunError, match=r"3 shards .* are missing"):
        prepare(options(half), out)
    assert not Path(out).exists()


def test_a_worker_refuses_another_channel_run_than_the_planned_one(
    channels: Run, shapes: Path, tmp_path: Path
) -> None:
    settings = options(channels)
    run, _ = prepare(settings, str(tmp_path / "run"))
    flags = merge(SETTINGS, {"method": "channel", "seed": 4, "dataset": {"root": str(shapes)}})
    other = compute(assemble(None, None, flags, "cpu"), tmp_path / "other")
    wrong = stored_config(run, None, None, other.uri)
    with pytest.raises(RunError, match="another channel run"):
        Worker(worker_spec(wrong, run, "cpu"))


def test_status_score_and_compact(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_status(run.uri, True, Console(width=120))
    assert "inversion, shapes_cnn on shapes" in capsys.readouterr().out
    show_scores(run.uri, Rule(), Console(width=120))
    shown = capsys.readouterr().out
    assert "inversions.csv" in shown
    assert "Pointing" not in shown
    (row,) = mean_cosines(run).to_pylist()
    rows = run.table(kinds.INVERSION).to_pylist()
    assert (row["n"], row["n_masked"], row["objective"], row["layer"]) == (PAIRS, PAIRS, "dot", LAYER)
    for name in ("cosine", "cosine_masked", "cosine_between"):
        assert row[name] == pytest.approx(np.mean([r[name] for r in rows]))
    (path, *_) = list(compact(run))
    assert pa.parquet.read_table(path)["image"][0].as_py() == rows[0]["image"]


def test_mistakes_on_the_command_line_get_one_message(channels: Run, tmp_path: Path) -> None:
    for arguments, message in (
        ([], "give --channels RUN"),
        (["--channels", str(tmp_path)], "No run at"),
        (["--channels", channels.uri, "--subject", "classes"], "inversion.subject"),
        (["--channels", channels.uri, "--layer", "block3"], "channel.layer: block4 -> block3"),
    ):
        out = ["--out", str(tmp_path / "run"), "--device", "cpu"]
        result = CliRunner().invoke(app, ["run", "--method", "inversion", *arguments, *out])
        assert result.exit_code == 2
        assert message in result.output
        assert "Traceback" not in result.output


def test_means_of_nothing_are_an_empty_table(channels: Run, tmp_path: Path) -> None:
    run, _ = prepare(options(channels), str(tmp_path / "run"))
    assert mean_cosines(run).num_rows == 0
