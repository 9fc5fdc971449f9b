"""A benchmark of several runs: its file, going on after a failed run, resuming, and the table at its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console
from runs import compute
from typer.testing import CliRunner

import extremal.jobs.several
from extremal.jobs.benchmark import read_benchmark
from extremal.jobs.cli.app import app
from extremal.jobs.cli.ending import INTERRUPTED
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.driving.driver import Pool
from extremal.pipeline.errors import ConfigError, DatasetError, DriverError
from extremal.storage import Run
from extremal.workers.config import RunConfig

runner = CliRunner()
EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "table1.toml"
SHARED = """
preset = "torchray"
batch = 2
shard_size = 4
[dataset]
name = "shapes"
split = "test"
root = "{root}"
[network]
name = "shapes_cnn"
weights = "random"
resize = 64
[spatial]
areas = [0.1, 0.3]
mask = {{step = 8, sigma = 8.0}}
[spatial.schedule]
steps = 3
"""


def write(path: Path, root: Path, *runs: str) -> Path:
    tables = "".join(f"[[run]]\n{run}\n" for run in runs)
    path.write_text(SHARED.format(root=root) + tables)
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=3)
    return root


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are computed in this process, without Ray; the names of those that were asked for."""
    names: list[str] = []

    def execute(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
        names.append(Path(out).name)
        return compute(config, out), 0

    monkeypatch.setattr(extremal.jobs.several, "execute", execute)
    monkeypatch.setattr(extremal.jobs.several, "start_ray", lambda pool, threads: 1)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return names


def benchmark(file: Path, out: Path) -> Any:
    return runner.invoke(app, ["benchmark", str(file), "--out", str(out), "--device", "cpu"])


def test_settings_of_all_and_of_one_merge_by_section(tmp_path: Path) -> None:
    file = write(
        tmp_path / "b.toml",
        tmp_path,
        'name = "plain"',
        'name = "other"\nseed = 3\npreset = "fast"\n[run.spatial]\ngame = "delete"\n'
        '[run.network]\nname = "resnet18"',
        'name = "both"\nmethod = "rise,grad_cam"\n[run.saliency.rise]\nmasks = 9',
    )
    plain, other, both = read_benchmark(file, "cpu")
    assert (plain.name, plain.config.seed, plain.config.network.name) == ("plain", 0, "shapes_cnn")
    assert plain.config.spatial.jitter != "none"  # torchray's
    assert (other.config.seed, other.config.network.name, other.config.network.resize) == (3, "resnet18", 64)
    assert (other.config.spatial.game, other.config.spatial.areas) == ("delete", (0.1, 0.3))
    assert other.config.spatial.jitter == "none"  # fast's
    assert both.config.method == "saliency"
    assert both.config.saliency.methods == ("grad_cam", "rise")
    assert both.config.saliency.rise.masks == 9


def test_runs_that_would_not_fit_into_one_table_are_refused_at_the_start(tmp_path: Path) -> None:
    clash = ['name = "a"', 'name = "b"\nseed = 1\n[run.spatial]\ngame = "delete"']
    with pytest.raises(
        ConfigError, match=r"run a and run b both hold extremal, with other settings:\n.*game"
    ):
        read_benchmark(write(tmp_path / "game.toml", tmp_path, *clash))
    with pytest.raises(ConfigError, match="both hold extremal with seed 0"):
        read_benchmark(write(tmp_path / "seed.toml", tmp_path, 'name = "a"', 'name = "b"'))
    network = '[run.network]\nweights = "other.pth"'
    limit = "[run.dataset]\nlimit = 2"
    apart = ['name = "a"', f'name = "b"\n{network}', f'name = "c"\n{limit}', 'name = "d"\nseed = 1']
    assert len(read_benchmark(write(tmp_path / "apart.toml", tmp_path, *apart))) == 4


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "has no runs"),
        (["seed = 1"], "run 1: its name must be that of a folder"),
        (["name = 3"], "not 3"),
        (['name = "../a"'], "'../a'"),
        (['name = ".."'], "'..'"),
        (['name = "a/b"'], "'a/b'"),
        (['name = "/a"'], "'/a'"),
        (['name = "a"', 'name = "b"', 'name = "a"'], "run 3: the name 'a' is another run's"),
        (['name = "a"\nsteps = 3'], "run a: The configuration is not valid:\n  steps"),
        (['name = "a"\n[run.spatial]\nareaz = [1]'], "spatial.areaz"),
        (['name = "a"\npreset = "slow"'], "run a: preset must be fast, torchray or paper"),
        (['name = "a"\nspatial = 3'], "spatial"),
        (['name = "a"\nmethod = "rise"\n[run.saliency]\nmethods = ["gradient"]'], "Methods are named twice"),
        (['name = "a"\nmethod = "rise,"'], "There is no method ''"),
        (['name = "a"\nmethod = "spatial,rise"'], "There is no method 'spatial' to compare"),
        (['name = "a"\nmethod = "center"'], "one besides the center"),
        (['name = "a"\nmethod = "rise,rise"'], "named once each"),
    ],
)
def test_bad_files_get_one_message(tmp_path: Path, runs: Sequence[str], message: str) -> None:
    file = write(tmp_path / "b.toml", tmp_path, *runs)
    with pytest.raises(ConfigError) as error:
        read_benchmark(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_what_is_no_list_of_runs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    for content in ("run = 3\n", "run = [1, 2]\n", "[run]\nname = 'a'\n", ""):
        file.write_text(content)
        with pytest.raises(ConfigError, match="has no runs"):
            read_benchmark(file)
    refused = benchmark(tmp_path / "none.toml", tmp_path / "out")
    assert refused.exit_code == 2
    assert "none.toml" in refused.output
    assert not (tmp_path / "out").exists()


def test_the_example_is_the_papers_table() -> None:
    runs = read_benchmark(EXAMPLE, "cuda")
    assert len(runs) == len({run.name for run in runs}) == 12
    cells: dict[tuple[str, str | None, str, str], list[int]] = {}
    for run in runs:
        config = run.config
        voc = config.dataset.name == "voc"
        assert config.spatial.areas == ((0.025, 0.05, 0.1, 0.2) if voc else (0.018, 0.025, 0.05, 0.1))
        assert (config.spatial.schedule.steps, config.saliency.rise.masks) == (800, 8000)
        assert config.precision == "float32"
        for method in config.saliency.methods:
            key = config.dataset.name, config.dataset.split, config.network.name, method
            cells.setdefault(key, []).append(config.seed)
    assert {key[:3] for key in cells} == {
        (name, split, f"{network}_{name}")
        for name, split in (("voc", "2007:test"), ("coco", "val2014"))
        for network in ("vgg16", "resnet50")
    }
    methods = ("gradient", "deconvnet", "guided", "grad_cam", "rise", "extremal")
    assert {key[3] for key in cells} == set(methods)
    assert len(cells) == 4 * len(methods)
    for key, seeds in cells.items():
        assert seeds == ([0, 1, 2] if key[3] in ("rise", "extremal") else [0])


def test_all_runs_are_made_and_their_table_is_printed(
    shapes: Path, tmp_path: Path, executed: list[str]
) -> None:
    file = write(tmp_path / "b.toml", shapes, 'name = "one"', 'name = "two"\nseed = 1')
    result = benchmark(file, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert executed == ["one", "two"]
    assert "run 2 of 2: two" in result.output
    assert "shapes test, shapes_cnn" in result.output
    assert "(12 in 2 runs)" in result.output
    assert Run.open(str(tmp_path / "out" / "two")).manifest.setting("seed") == 1


@pytest.mark.parametrize("error", [DatasetError("gone: mend it"), DriverError("3 shards in a row")])
def test_a_run_that_fails_does_not_stop_the_others(
    shapes: Path, tmp_path: Path, executed: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    inner = extremal.jobs.several.execute

    def failing(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
        if out.endswith("bad"):
            raise error
        return inner(config, out, pool, console)

    monkeypatch.setattr(extremal.jobs.several, "execute", failing)
    file = write(tmp_path / "b.toml", shapes, 'name = "bad"', 'name = "good"\nseed = 1')
    result = benchmark(file, tmp_path / "out")
    assert result.exit_code == 1
    assert executed == ["good"]
    assert f"error: {error}" in result.output
    assert "INCOMPLETE: bad; the same command continues" in result.output
    assert "shapes test, shapes_cnn" in result.output
    assert "Traceback" not in result.output


def test_without_any_run_there_is_no_table(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> None:
        raise DatasetError("gone")

    monkeypatch.setattr(extremal.jobs.several, "execute", failing)
    monkeypatch.setattr(extremal.jobs.several, "start_ray", lambda pool, threads: 1)
    result = benchmark(write(tmp_path / "b.toml", shapes, 'name = "bad"'), tmp_path / "out")
    assert result.exit_code == 1
    assert "tolerance" not in result.output


def test_interrupted_says_how_to_resume(
    shapes: Path, tmp_path: Path, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = extremal.jobs.several.execute

    def stopped(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
        if out.endswith("two"):
            raise KeyboardInterrupt
        return inner(config, out, pool, console)

    monkeypatch.setattr(extremal.jobs.several, "execute", stopped)
    names = 'name = "one"', 'name = "two"\nseed = 1', 'name = "three"\nseed = 2'
    file = write(tmp_path / "b.toml", shapes, *names)
    result = benchmark(file, tmp_path / "out")
    assert result.exit_code == INTERRUPTED
    assert executed == ["one"]
    assert f"{tmp_path / 'out'}; run the same command to resume" in result.output


def test_complete_runs_are_skipped_and_need_no_ray(shapes: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "b.toml", shapes, 'name = "one"', 'name = "two"\nseed = 1')
    for planned in read_benchmark(file, "cpu"):
        compute(planned.config, tmp_path / "out" / planned.name)
    result = benchmark(file, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.output.count("nothing left to compute") == 2
    assert not ray.is_initialized()
    assert "Extremal" in result.output


def test_another_configuration_in_a_runs_place_is_refused_and_the_rest_goes_on(
    shapes: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "b.toml", shapes, 'name = "one"', 'name = "two"\nseed = 1')
    first, _ = read_benchmark(file, "cpu")
    compute(first.config, tmp_path / "out" / "two")
    compute(first.config, tmp_path / "out" / "one")
    result = benchmark(file, tmp_path / "out")
    assert result.exit_code == 1
    assert "seed: 0 -> 1" in result.output
    assert "nothing left to compute" in result.output
    assert "INCOMPLETE: two" in result.output
    assert "(6)" in result.output  # the table is of the other run alone


@pytest.mark.parametrize("stopped", [False, True])
def test_one_ray_serves_all_runs_and_is_gone_after(
    shapes: Path, tmp_path: Path, executed: list[str], monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    calls: list[str] = []
    inner = extremal.jobs.several.execute

    def execute(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
        calls.append(Path(out).name)
        if stopped:
            raise KeyboardInterrupt
        return inner(config, out, pool, console)

    monkeypatch.setattr(extremal.jobs.several, "execute", execute)
    monkeypatch.setattr(
        extremal.jobs.several, "start_ray", lambda _, threads: calls.append(f"start {threads}")
    )
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    file = write(tmp_path / "b.toml", shapes, 'name = "one"', 'name = "two"\nseed = 1\nthreads = 2')
    benchmark(file, tmp_path / "out")
    assert calls == ["start 2", "one", *([] if stopped else ["two"]), "shutdown"]
