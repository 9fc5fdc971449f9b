"""The demo, as a newcomer runs it: it must show that the method works."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import CHROMIUM, check_accessible, launched, shown, watched

EXTREMAL = [sys.executable, "-m", "extremal.jobs.cli"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [*EXTREMAL, "demo", "--out", str(out), "--pairs", "16"]
    environment = {**os.environ, "RAY_ADDRESS": "", "COLUMNS": "120"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Then try" in result.stdout
    return out


def test_extremal_masks_point_far_better_than_the_centre(demo: Path) -> None:
    with (demo / "spatial" / "scores" / "pointing_summary.csv").open() as f:
        pooled = {r["method"]: float(r["pooled"]) for r in csv.DictReader(f) if r["subset"] == "all"}
    assert pooled["extremal"] > 0.8
    assert pooled["extremal"] > pooled["center"] + 0.3
    with (demo / "channel" / "scores" / "classes.csv").open() as f:
        classes = list(csv.DictReader(f))
    assert sum(int(row["n"]) for row in classes) == 16
    assert (demo / "overlays.png").stat().st_size > 10_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")
def test_its_report_opens_filters_and_is_accessible(demo: Path) -> None:
    runs = [str(demo / kind) for kind in ("spatial", "channel")]
    command = [*EXTREMAL, "report", *runs, "--tolerance", "5", "--out", str(demo / "report")]
    subprocess.run(command, check=True, capture_output=True)
    with launched() as browser, watched(browser, (demo / "report").as_uri()) as open_page:
        page = open_page("gallery.html")
        assert shown(page) == list(range(16))
        classes = page.locator("#filters [name=class]")
        classes.select_option(classes.locator("option", has_text="star").get_attribute("value"))
        stars = shown(page)
        assert 0 < len(stars) < 16
        for name in (
            "index.html",
            "gallery.html",
            f"pair.html?i={stars[0]}",
            "classes.html",
            "class.html?c=0",
        ):
            page = open_page(name)
            check_accessible(page)
            broken = (
                "() => [...document.images].filter((image) => image.complete && !image.naturalWidth).length"
            )
            assert page.evaluate(broken) == 0
