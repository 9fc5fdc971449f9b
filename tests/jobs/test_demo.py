"""The demo, as a newcomer runs it, from the installed wheel: it must show that the method works."""

import csv
import subprocess
from pathlib import Path

import pytest
from browsing import CHROMIUM, check_accessible, launched, shown, watched
from distributions import Installed, make_foreign_code

PAIRS = 8


def extremal(installed: Installed, folder: Path, *arguments: str) -> str:
    """Run the installed command in a folder; what it prints."""
    result = subprocess.run(
        [installed.command, *arguments],
        cwd=folder,
        env=installed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def demo(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo wrote, in a folder whose user has `workers`, `jobs`, ... of their own.

    Ray's workers have that folder first on their path.
    """
    folder = make_foreign_code(tmp_path_factory.mktemp("demo"))
    assert "Then try" in extremal(installed, folder, "demo", "--pairs", str(PAIRS))
    return folder / "extremal-demo"


def test_extremal_masks_point_far_better_than_the_centre(demo: Path) -> None:
    with (demo / "spatial" / "scores" / "pointing_summary.csv").open() as f:
        pooled = {r["method"]: float(r["pooled"]) for r in csv.DictReader(f) if r["subset"] == "all"}
    assert pooled["extremal"] > 0.8
    assert pooled["extremal"] > pooled["center"] + 0.3
    with (demo / "channel" / "scores" / "classes.csv").open() as f:
        classes = list(csv.DictReader(f))
    assert sum(int(row["n"]) for row in classes) == PAIRS
    assert (demo / "overlays.png").stat().st_size > 10_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")
def test_its_report_opens_filters_and_is_accessible(demo: Path, installed: Installed) -> None:
    runs = [f"extremal-demo/{kind}" for kind in ("spatial", "channel")]
    extremal(installed, demo.parent, "report", *runs, "--tolerance", "5", "--out", str(demo / "report"))
    with launched() as browser, watched(browser, (demo / "report").as_uri()) as open_page:
        page = open_page("gallery.html")
        assert shown(page) == list(range(PAIRS))
        classes = page.locator("#filters [name=class]")
        classes.select_option(classes.locator("option", has_text="star").get_attribute("value"))
        stars = shown(page)
        assert 0 < len(stars) < PAIRS
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
