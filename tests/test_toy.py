"""A study and a method are added by registration alone: one file a floor and one entry in its registry.

They are added to a copy of the package, which then runs as users run it: from the command line to the store,
resumed, scored, and on a page of a report.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from extremal.pipeline.datasets.shapes import make_shapes

ROOT = Path(__file__).resolve().parents[1]
TOY = Path(__file__).resolve().parent / "toy"

# Registry -> what is added to it: the import, and the place of the entry with the entry itself.
ENTRIES = {
    "storage/kinds/__init__.py": (
        "from extremal.storage.kinds.toy import TOY\n",
        ("(SPATIAL, CHANNEL, SALIENCY, INVERSION)", "(SPATIAL, CHANNEL, SALIENCY, INVERSION, TOY)"),
    ),
    "workers/study_cards.py": (
        "from extremal.workers.studies.toy import ToyConfig\n",
        ("\nCARDS = (\n", '\nCARDS = (\n    Study("toy", ToyConfig, ".toy:Toy"),\n'),
    ),
    "pipeline/studies/__init__.py": (
        "from extremal.pipeline.studies.toy import TOY\n",
        ("(SPATIAL, CHANNEL, SALIENCY, INVERSION)", "(SPATIAL, CHANNEL, SALIENCY, INVERSION, TOY)"),
    ),
    "jobs/studies/__init__.py": (
        "from extremal.jobs.studies.toy import TOY\n",
        ("(SPATIAL, CHANNEL, SALIENCY, INVERSION)", "(SPATIAL, CHANNEL, SALIENCY, INVERSION, TOY)"),
    ),
    "workers/saliency/methods.py": (
        "",
        (
            "\nCARDS = (\n",
            '\nCARDS = (\n    Card("input_x_gradient", "Input x gradient", "Shrikumar et al., 2016", '
            '".input_x_gradient:INPUT_X_GRADIENT"),\n',
        ),
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of `extremal` that has the toys."""
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "extremal"
    shutil.copytree(ROOT / "extremal", copy, ignore=shutil.ignore_patterns("__pycache__"))
    files = [path for path in TOY.rglob("*.py") if "__pycache__" not in path.parts]
    for file in files:
        target = copy / file.relative_to(TOY)
        assert not target.exists()
        shutil.copy(file, target)
    studies = {file.relative_to(TOY).parts[0] for file in files if file.name == "toy.py"}
    assert len(files) == 5, "a study is one file a floor, a method one file"
    assert studies == {"storage", "workers", "pipeline", "jobs"}
    for registry, (imported, (place, entry)) in ENTRIES.items():
        text = (copy / registry).read_text()
        assert text.count(place) == 1, registry
        start = text.index("\nfrom extremal.") + 1
        text = text[:start] + imported + text[start:]
        (copy / registry).write_text(text.replace(place, entry))
    return folder


def extremal(package: Path, *arguments: str | Path, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(package), "RAY_ADDRESS": "", "COLUMNS": "200"}
    command = [sys.executable, "-m", "extremal.jobs.cli", *map(str, arguments)]
    ended = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def run(package: Path) -> Path:
    make_shapes(package / "shapes", train=1, test=2)
    (package / "toy.toml").write_text(
        "method = 'toy'\nbatch = 2\nshard_size = 2\n[toy]\ngain = 2.0\n"
        "[dataset]\nname = 'shapes'\nroot = 'shapes'\nsplit = 'test'\n"
        "[network]\nname = 'shapes_cnn'\nweights = 'random'\nresize = 64\n"
    )
    shown = extremal(package, "run", "--config", "toy.toml", "--out", "run", "--actors", "1")
    assert "0/2 shards of 4 pairs done" in shown
    return package / "run"


def test_the_toy_is_stored_and_resumed(package: Path, run: Path) -> None:
    shards = sorted(run.glob("toy/shard-*.parquet"))
    assert len(shards) == 2
    whole = pq.read_table(run / "toy")
    assert whole.column_names[:3] == ["pair", "image_id", "path"]
    assert whole["brightness"].null_count == 0
    before = shards[1].read_bytes()
    shards[0].unlink()
    assert "resuming run: 1/2 shards" in extremal(
        package, "run", "--config", "toy.toml", "--out", "run", "--actors", "1"
    ).replace(str(run), "run")
    assert shards[1].read_bytes() == before
    columns = ["pair", "brightness"]
    again = pq.read_table(run / "toy").select(columns).sort_by("pair")
    assert again.equals(whole.select(columns).sort_by("pair"))
    refused = extremal(
        package, "run", "--config", "toy.toml", "--seed", "3", "--out", "run", "--actors", "1", code=2
    )
    assert "config.seed: 0 -> 3" in refused
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["settings"]["toy"] == {"gain": 2.0}


def test_the_registries_stay_without_torch(package: Path) -> None:
    code = "import extremal.workers.config, sys; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(package)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=package, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"


def test_the_toy_is_scored_and_on_a_page(package: Path, run: Path) -> None:
    shown = extremal(package, "score", "run")
    assert "Brightness" in shown
    values = pq.read_table(run / "toy")["brightness"].to_pylist()
    mean = pq.read_table(run / "scores/brightness.parquet")["mean_brightness"][0].as_py()
    assert mean == pytest.approx(sum(values) / 4)
    assert "verified 2/2 committed shards are sound" in extremal(package, "status", "run", "--verify")
    extremal(package, "report", "run", "--root", "shapes", "--out", "pages")
    pages = "".join(path.read_text() for path in (package / "pages/data/pairs").glob("*.js"))
    assert "toy: mean brightness" in pages
    assert f"{values[0]:.4g}" in pages


def test_the_toy_method_is_one_to_compare(package: Path, run: Path) -> None:
    arguments = ["--dataset", "shapes", "--root", "shapes", "--split", "test", "--network", "shapes_cnn"]
    arguments += [
        "--weights",
        "random",
        "--resize",
        "64",
        "--limit",
        "2",
        "--actors",
        "1",
        "--out",
        "methods",
    ]
    extremal(package, "run", *arguments, "--method", "input_x_gradient,gradient")
    rows = pq.read_table(package / "methods/saliency").to_pylist()
    assert {row["method"] for row in rows} == {"gradient", "input_x_gradient"}
    assert "Input x gradient" in extremal(package, "table", "methods")
