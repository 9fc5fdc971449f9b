"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from distributions import Installed
    from playwright.sync_api import Browser

# Files whose tests start processes of their own, the longest first: so the workers of the suite end together.
SLOW = (
    "test_driver.py",
    "test_submit.py",
    "test_conduct.py",
    "test_faults.py",
    "test_toy.py",
    "test_chaos.py",
    "test_demo.py",
    "test_object_store.py",
    "test_ray_tasks.py",
    "test_schema4.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data subsets, elsewhere than in the repository: $EXTREMAL_SHARED or beside it."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("EXTREMAL_SHARED", beside))
    if not folder.is_dir():
        pytest.skip("real data not present (see CONTRIBUTING.md)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def quiet_ray() -> None:
    """Ray without tokens and without reports to its makers, in this process and those it starts."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from browsing import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> "Installed":
    """The wheel of this checkout, built and installed as a user has it."""
    from distributions import Installed

    return Installed.into(tmp_path_factory.mktemp("installed"))
