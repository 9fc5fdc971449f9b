"""What the wheel and the source distribution hold; the installed wheel runs in test_demo and test_submit."""

import re
import subprocess
import sys
import tarfile
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from distributions import FLOORS, ROOT, Installed, build, checkout, make_foreign_code

VERSION = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
STEM = f"extremal-{VERSION}"


def packed() -> set[str]:
    """Files that must be in the packages: all of the floors, and extremal/ itself."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "extremal").iterdir() if path.is_file()}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files.add(f"extremal/{path.relative_to(ROOT).as_posix()}")
    return files


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build("build_sdist", checkout(folder / "source"), folder / "dist")


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_packages_and_nothing_else(installed: Installed) -> None:
    files = contents(installed.wheel)
    about = {name for name in files if name.startswith(f"{STEM}.dist-info/")}
    assert files.keys() - about == packed()
    assert {"extremal/py.typed", "extremal/jobs/report/browser/site.css"} < files.keys()
    assert files["extremal/jobs/submit.py"] == (ROOT / "jobs/submit.py").read_bytes()  # no link
    metadata = message_from_string(files[f"{STEM}.dist-info/METADATA"].decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The extremal developers"
    assert files[f"{STEM}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_source_distribution_holds_what_the_same_wheel_needs(
    sdist: Path, installed: Installed, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        members = [member for member in archive if not member.isdir()]
        assert all(member.isreg() for member in members)  # no links
        names = {member.name.removeprefix(f"{STEM}/") for member in members}
        archive.extractall(tmp_path, filter="data")
    about = {name for name in names if name.startswith("extremal.egg-info/")}
    beside = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert names - about == packed() | beside
    again = build("build_wheel", tmp_path / STEM, tmp_path / "dist")
    assert contents(again) == contents(installed.wheel)


def test_the_installed_command_says_its_version_among_foreign_code(
    installed: Installed, tmp_path: Path
) -> None:
    """By the script and as a module, which has the current folder first on its path; without torch."""
    folder = make_foreign_code(tmp_path / "folder")
    for command in ([installed.command], [sys.executable, "-m", "extremal.jobs.cli"]):
        code = subprocess.run(
            [*command, "--version"],
            cwd=folder,
            env={**installed.environment, "PYTHONPROFILEIMPORTTIME": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert code.stdout == f"extremal {VERSION}\n", code.stderr
        modules = {line.rpartition("|")[2].strip() for line in code.stderr.splitlines()}
        assert "extremal.jobs.cli.app" in modules
        assert not modules & {"torch", "ray", "pyarrow", "numpy"}


def test_the_public_names_come_from_the_installed_package(installed: Installed, tmp_path: Path) -> None:
    folder = make_foreign_code(tmp_path / "folder")
    code = (
        "import extremal; print(extremal.__version__, extremal.__file__); "
        "[getattr(extremal, name) for name in extremal.__all__]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=installed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [VERSION, str(installed.packages / "extremal" / "__init__.py")]
