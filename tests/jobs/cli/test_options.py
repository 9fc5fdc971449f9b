"""Options of commands come from dataclasses: what they are called, what they say, where they land."""

import subprocess
import sys
from dataclasses import dataclass, fields
from functools import reduce
from typing import Annotated, Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.cli.explained import explanations, find_setting, help_text
from extremal.jobs.cli.options import add_command, command, flag_name, given_settings
from extremal.jobs.cli.settings import MethodOptions, RunOptions
from extremal.jobs.cli.shared import PoolOptions
from extremal.pipeline.errors import ConfigError
from extremal.workers.config import DatasetConfig, NetworkConfig, RunConfig
from extremal.workers.extremal.settings import Preset, spatial_preset
from extremal.workers.study_cards import STUDIES

DEFAULTS = RunConfig(DatasetConfig("shapes"), NetworkConfig("shapes_cnn"))
PATHS = {field.name: field.metadata["path"] for field in fields(RunOptions) if "path" in field.metadata}
# A value of each flag as it is typed, and as the configuration has it.
GIVEN: dict[str, tuple[str, Any]] = {
    "dataset": ("voc", "voc"),
    "root": ("/data", "/data"),
    "split": ("2007:test", "2007:test"),
    "labels": ("labels.csv", "labels.csv"),
    "difficult_list": ("difficult.txt", "difficult.txt"),
    "limit": ("7", 7),
    "target": ("3", 3),
    "network": ("vgg16", "vgg16"),
    "weights": ("random", "random"),
    "method": ("channel", "channel"),
    "layer": ("features.28", "features.28"),
    "areas": ("0.1, 0.3,", (0.1, 0.3)),
    "counts": ("1,8", (1, 8)),
    "game": ("hybrid", "hybrid"),
    "resize": ("300", 300),
    "crop": ("0", 0),
    "seed": ("5", 5),
    "channels": ("runs/channels", "runs/channels"),
    "subject": ("channels", "channels"),
    "precision": ("bf16", "bf16"),
    "batch": ("4", 4),
    "slots": ("24", 24),
    "shard_size": ("64", 64),
    "threads": ("2", 2),
}


def parameters(name: str) -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in group.commands[name].params}


def at(config: RunConfig, path: tuple[str, ...]) -> Any:
    return reduce(getattr, path, config)


def test_every_option_of_run_comes_from_its_dataclasses_and_says_what_they_say() -> None:
    options = parameters("run")
    assert options.keys() == {field.name for of in (RunOptions, PoolOptions) for field in fields(of)} | {
        "out"
    }
    for name, path in PATHS.items():
        section = RunConfig if len(path) == 1 else type(getattr(DEFAULTS, path[0]))
        sentence = explanations(section)[path[-1]].replace("`", "").partition("; None =")[0]
        sentence = sentence.partition("; empty =")[0].partition(". ")[0].rstrip(".")
        said, _, default = options[name].help.partition(" [default: ")
        assert said.lower() == f"{sentence.lower()}.", name
        assert options[name].opts == [flag_name(name)]
        usual = at(DEFAULTS, path)
        if isinstance(usual, int | float) and name != "precision":
            assert default == f"{usual}]", name
        if isinstance(usual, tuple) and usual:
            assert default == f"{','.join(map(str, usual))}]", name
    assert options["precision"].help.endswith("[default: bf16 on a GPU for spatial and channel]")


def test_every_option_of_explain_that_run_has_is_the_same() -> None:
    run, explain = parameters("run"), parameters("explain")
    assert explain.keys() - run.keys() == {"image"}
    assert {field.name for field in fields(MethodOptions)} <= explain.keys() & run.keys()
    for name in explain.keys() & run.keys() - {"out"}:
        assert (explain[name].help, explain[name].opts) == (run[name].help, run[name].opts)


def test_the_usual_iterations_are_those_of_presets_and_studies() -> None:
    presets = ", ".join(f"{name} {spatial_preset(name).schedule.steps}" for name in get_args(Preset))
    others = [f"{name} {at(DEFAULTS, STUDIES[name].steps)}" for name in ("channel", "inversion")]
    assert parameters("run")["steps"].help == f"Iterations. [default: {'; '.join([presets, *others])}]"


@pytest.mark.parametrize("name", PATHS)
def test_every_flag_lands_at_its_place(name: str) -> None:
    typed, expected = GIVEN[name]
    needed = {"--dataset": "shapes", "--network": "shapes_cnn", "--method": "spatial"}
    words = [word for flag in (needed | {flag_name(name): typed}).items() for word in flag]
    seen: list[RunConfig] = []

    @command()
    def read(settings: RunOptions) -> None:
        seen.append(settings.configuration("cpu"))

    alone = typer.Typer()
    add_command(alone, read)
    assert CliRunner().invoke(alone, words, catch_exceptions=False).exit_code == 0
    (config,) = seen
    assert at(config, PATHS[name]) == expected != at(DEFAULTS, PATHS[name])
    for path in PATHS.values():
        if path not in (PATHS[name], ("channel", "layer")):
            assert at(config, path) == at(DEFAULTS, path), path


def test_lists_that_are_none_name_the_flag() -> None:
    with pytest.raises(ConfigError, match=r"--areas takes numbers separated by commas.*'0\.1,lots'"):
        given_settings(RunOptions(areas="0.1,lots"))
    with pytest.raises(ConfigError, match="--counts"):
        given_settings(RunOptions(counts="1.5"))


def test_helps_are_the_first_sentence_with_what_none_means() -> None:
    assert help_text("fractions to keep. They are many.") == "Fractions to keep."
    assert help_text("`a` or `b`; None = a of 0.5, else b. More.") == "a or b. [default: a of 0.5, else b]"
    assert help_text("channels; empty = all.", "none") == "Channels. [default: none]"
    assert find_setting(("spatial", "areas")).item_type is float
    with pytest.raises(KeyError):
        find_setting(("spatial", "areaz"))


@dataclass(frozen=True)
class Size:
    """How large.

    Attributes:
        width: in pixels; None = as wide as high.
        height: in cells.
    """

    height: Annotated[int, typer.Option(min=1)]
    width: int | None = None


def test_a_dataclass_stands_for_its_fields() -> None:
    seen: list[object] = []

    @command(epilog="For example.")
    def draw(name: Annotated[str, typer.Argument()], *, fast: bool = False, size: Size) -> None:
        """Draws."""
        seen.append((name, fast, size))

    alone = typer.Typer(rich_markup_mode="markdown")
    add_command(alone, draw)
    runner = CliRunner()
    assert runner.invoke(alone, ["dog", "--height", "3", "--fast"]).exit_code == 0
    assert seen == [("dog", True, Size(height=3))]
    assert runner.invoke(alone, ["dog"]).exit_code == 2
    assert runner.invoke(alone, ["dog", "--height", "0"]).exit_code == 2
    page = runner.invoke(alone, ["--help"], env={"COLUMNS": "160"}).output
    assert "In pixels. [default: as wide as high]" in page
    assert "In cells." in page
    assert "For example." in page


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from extremal.jobs.cli.app import app; app(['run', '--help'], standalone_mode=False); "
        "assert not {'torch', 'ray', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_missing_file_is_refused_without_torch() -> None:
    code = (
        "import sys; from extremal.jobs.cli.app import app; from extremal.storage.errors import UserError\n"
        "try: app(['run', '--config', 'nowhere.toml', '--out', 'x'], standalone_mode=False)\n"
        "except (UserError, SystemExit): pass\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
