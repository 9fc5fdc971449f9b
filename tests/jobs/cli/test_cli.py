"""The command line without Ray: help, errors, options, explain, status, score, classes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from runs import compute, config
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.options import assemble
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.errors import ConfigError
from extremal.workers import spatial_preset

runner = CliRunner()
COMMANDS = ["demo", "run", "submit", "retry", "compact", "status", "score", "classes", "explain"]
COMMANDS += ["table", "benchmark"]
WHAT = {"dataset": {"name": "shapes"}, "network": {"name": "shapes_cnn"}}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=3)
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"extremal {command}" in result.output
    assert "Example" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--dataset", "voc", "--root", "/nowhere"], "no such folder"),
        (["run", "--dataset", "nonsense"], "dataset.name"),
        (["run", "--dataset", "shapes", "--network", "resnet51"], "resnet50"),
        (
            ["run", "--dataset", "shapes", "--network", "resnet18", "--weights", "/nowhere.pth"],
            "/nowhere.pth",
        ),
        (["run"], "dataset.name: Field required"),
        (["run", "--areas", "0.1,lots"], "--areas"),
        (["run", "--areas", "0.5,0.1"], "ascending"),
        (["run", "--steps", "0"], "at least 1"),
        (["run", "--dataset", "shapes", "--root", ".", "--device", "cuda"], "this machine has no GPU"),
        (["run", "--game", "chess"], "spatial.game"),
        (["run", "--preset", "slow"], "fast, torchray or paper"),
        (["run", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["status", "/nowhere"], "No run at /nowhere"),
        (["retry", "/nowhere"], "No run at /nowhere"),
        (["compact", "/nowhere"], "No run at /nowhere"),
        (["score", "/nowhere"], "No run at /nowhere"),
        (["score", "/nowhere", "--tolerance", "-1"], "cannot be -1"),
        (["table", "/nowhere"], "No run at /nowhere"),
        (["benchmark", "/nowhere.toml", "--out", "runs"], "/nowhere.toml"),
        (["classes", "/nowhere"], "No run at /nowhere"),
        (["explain", "/nowhere.jpg", "--network", "shapes_cnn", "--weights", "random"], "/nowhere.jpg"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if arguments[0] == "run" and "--network" not in arguments:
        arguments = [*arguments, "--network", "shapes_cnn", "--weights", "random"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_options_come_from_preset_then_file_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("preset = 'paper'\nseed = 3\n[spatial]\nareas = [0.1, 0.2]\ngame = 'hybrid'\n")
    flags = {"spatial": {"game": "delete", "areas": None}, "steps": 7, "seed": None}
    settings = assemble(file, None, {**WHAT, **flags})
    assert settings.spatial.areas == (0.1, 0.2)
    assert settings.spatial.game == "delete"
    assert settings.spatial.schedule.steps == 7
    assert settings.spatial.mask.kernel == "paper"
    assert settings.seed == 3
    channel = assemble(None, None, {**WHAT, "method": "channel", "steps": 9})
    assert channel.channel.schedule.steps == 9
    assert channel.channel.schedule.ramp == 150
    assert channel.spatial == spatial_preset("fast")


def test_precision_follows_the_device_unless_it_is_given(tmp_path: Path) -> None:
    assert assemble(None, None, {**WHAT}, "cpu").precision == "float32"
    assert assemble(None, None, {**WHAT}, "cuda").precision == "bf16"
    assert assemble(None, None, {**WHAT, "precision": "float32"}, "cuda").precision == "float32"
    file = tmp_path / "run.toml"
    file.write_text("precision = 'bf16'\n")
    assert assemble(file, None, {**WHAT}, "cpu").precision == "bf16"


def test_unknown_keys_and_bad_toml_are_named(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[spatial]\nareaz = [0.1]\n")
    with pytest.raises(ConfigError, match=r"spatial\.areaz"):
        assemble(file, None, {})
    file.write_text("[spatial\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        assemble(file, None, {})


def test_status_score_and_classes_of_a_run(shapes: Path, tmp_path: Path) -> None:
    spatial = compute(config(shapes), tmp_path / "spatial")
    result = runner.invoke(app, ["status", spatial.uri])
    assert result.exit_code == 0
    assert "2/2 committed" in result.output
    result = runner.invoke(app, ["score", spatial.uri, "--tolerance", "5"])
    assert result.exit_code == 0, result.output
    with (tmp_path / "spatial" / "scores" / "pointing.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert {row["method"] for row in rows} == {"extremal", "center"}
    assert {file.stem for file in (tmp_path / "spatial" / "scores").glob("*.csv")} == {
        "pointing", "pointing_summary", "differences", "monotonicity", "curves"
    }  # fmt: skip
    assert "Score over area" in result.output
    assert sum(int(r["hits"]) + int(r["misses"]) for r in rows if r["subset"] == "all") == 12
    assert runner.invoke(app, ["classes", spatial.uri]).exit_code == 2

    channel = compute(config(shapes, method="channel"), tmp_path / "channel")
    result = runner.invoke(app, ["classes", channel.uri, "--top", "3"])
    assert result.exit_code == 0, result.output
    with (tmp_path / "channel" / "scores" / "classes.csv").open() as f:
        classes = list(csv.DictReader(f))
    assert sum(int(row["n"]) for row in classes) == 6
    assert all(len(row["top_channels"].split()) == 3 for row in classes)

    result = runner.invoke(app, ["status", spatial.uri, "--verify"])
    assert result.exit_code == 0, result.output
    assert "verified 2/2 committed shards are sound" in result.output
    assert "pairs/h over the last 1 commits" in result.output
    result = runner.invoke(app, ["compact", spatial.uri])
    assert result.exit_code == 0, result.output
    assert result.output.split()[0].endswith("compact/spatial/part-00000.parquet")

    marker = next((tmp_path / "spatial" / "spatial").glob("*.parquet"))
    marker.write_bytes(marker.read_bytes()[:-6] + b"\xff" * 6)
    result = runner.invoke(app, ["status", spatial.uri, "--verify"])
    assert result.exit_code == 1
    assert f"{marker} is damaged" in result.output
    marker.unlink()
    assert runner.invoke(app, ["compact", spatial.uri]).exit_code == 2
    result = runner.invoke(app, ["status", spatial.uri])
    assert result.exit_code == 1
    assert "missing" in result.output


def test_log_json_leaves_nothing_but_events(shapes: Path, tmp_path: Path) -> None:
    """On a run that is complete, which needs no Ray."""
    run = compute(config(shapes), tmp_path / "run")
    settings = tmp_path / "run.toml"
    settings.write_text(
        "preset = 'torchray'\nbatch = 2\nshard_size = 4\n[dataset]\nname = 'shapes'\nsplit = 'test'\n"
        f"root = '{shapes}'\n[network]\nname = 'shapes_cnn'\nweights = 'random'\nresize = 64\n"
        "[spatial]\nareas = [0.1, 0.3]\njitter = 'random'\nmask = {step = 8, sigma = 8.0}\n"
        "schedule = {steps = 4}\n"
    )
    command = ["--log-json", "run", "--config", str(settings), "--device", "cpu", "--out", run.uri]
    ended = subprocess.run(
        [sys.executable, "-m", "extremal.jobs.cli", *command], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert lines[-1]["event"] == "call ended"
    assert (lines[-1]["run"], lines[-1]["missing_shards"]) == (run.uri, 0)
    assert {"time", "level", "logger"} <= lines[-1].keys()


@pytest.mark.parametrize("method", ["spatial", "channel"])
def test_explain_writes_pictures(shapes: Path, tmp_path: Path, method: str) -> None:
    image = next((shapes / "VOCdevkit" / "VOC2007" / "JPEGImages").glob("*.jpg"))
    out = tmp_path / "pictures"
    arguments = ["explain", str(image), "--network", "shapes_cnn", "--weights", "random", "--out", str(out)]
    arguments += ["--method", method, "--layer", "block4", "--areas", "0.1,0.2", "--steps", "2"]
    result = runner.invoke(app, [*arguments, "--counts", "1,8,32"])
    assert result.exit_code == 0, result.output
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as opened:
            assert min(opened.size) > 100
