"""The demo, as a newcomer runs it: it must show that the method works."""

import csv
import os
import subprocess
import sys
from pathlib import Path


def test_extremal_masks_point_far_better_than_the_centre(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "jobs.cli", "demo", "--out", str(out), "--pairs", "16"]
    environment = {**os.environ, "RAY_ADDRESS": "", "COLUMNS": "120"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with (out / "spatial" / "scores" / "pointing_summary.csv").open() as f:
        pooled = {r["method"]: float(r["pooled"]) for r in csv.DictReader(f) if r["subset"] == "all"}
    assert pooled["extremal"] > 0.8
    assert pooled["extremal"] > pooled["center"] + 0.3
    with (out / "channel" / "scores" / "classes.csv").open() as f:
        classes = list(csv.DictReader(f))
    assert sum(int(row["n"]) for row in classes) == 16
    assert (out / "overlays.png").stat().st_size > 10_000
    assert "Then try" in result.stdout
