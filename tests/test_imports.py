"""What starts without torch and Ray: help, errors, and whatever only reads a store."""

import subprocess
import sys

import pytest

READERS = (
    "extremal.jobs.cli.app",
    "extremal.jobs.status",
    "extremal.jobs.score",
    "extremal.jobs.tables.compare",
    "extremal.jobs.figures.write",
    "extremal.jobs.report.make",
    "extremal.pipeline.identity",
    "extremal.pipeline.scores",
    "extremal.storage",
    "extremal.workers.config",
    "extremal.workers.saliency.methods",
)


@pytest.mark.parametrize("module", READERS)
def test_readers_import_neither_torch_nor_ray(module: str) -> None:
    code = f"import {module}, sys; print(*sorted({{'torch', 'torchvision', 'ray'}} & {{*sys.modules}}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
