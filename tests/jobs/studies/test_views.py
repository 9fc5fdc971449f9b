"""How studies look: every one has a view, of columns that its rows have, and reading them costs little."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from extremal.jobs.studies import STUDIES
from extremal.pipeline.studies import STUDIES as CONDUCTED
from extremal.storage.kinds import KINDS, PAIR, UNITS
from extremal.workers.shard.units import READERS
from extremal.workers.study_cards import STUDIES as COMPUTED


def test_every_wing_knows_the_same_studies() -> None:
    assert KINDS.keys() == COMPUTED.keys() == CONDUCTED.keys() == STUDIES.keys()


def test_every_unit_of_a_plan_can_be_read() -> None:
    assert READERS.keys() == UNITS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_a_view_reads_columns_of_its_study(name: str) -> None:
    view, there = STUDIES[name], set(KINDS[name].schema(PAIR).names)
    assert {*view.columns} <= there
    assert {*view.map_columns} <= there
    sweep = KINDS[name].sweep
    assert (view.sweep_label is None) == (sweep is None)
    if sweep:
        assert {*sweep} <= {*view.columns}
        assert {"score_full", "score_perturbed", "a_star"} <= {*view.columns}
    if view.pair_pictures:
        assert {view.pair_pictures.whole, view.pair_pictures.masked} <= there - {*view.columns}


@pytest.mark.parametrize("name", [name for name, view in STUDIES.items() if view.explain])
def test_what_explains_one_image_is_there(name: str) -> None:
    module, function = str(STUDIES[name].explain).split(":")
    assert callable(getattr(import_module(module), function))


def test_reading_the_views_imports_nothing_heavy(tmp_path: Path) -> None:
    """Many processes write a report, and each reads them."""
    for name in ("torch", "torchvision", "ray", "matplotlib", "scipy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('too heavy for a view')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", "import extremal.jobs.studies"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
