"""The wheel and the source distribution of this checkout, and the wheel as a user has it installed."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("jobs", "pipeline", "workers", "storage")
BUILD = "import sys; from setuptools import build_meta; build_meta.{}(sys.argv[1])"


def checkout(folder: Path) -> Path:
    """A copy of what is packed, links as links: building leaves its traces there and not in the checkout."""
    for name in ("extremal", *FLOORS):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def build(kind: str, source: Path, out: Path) -> Path:
    """Run setuptools' hook `build_sdist` or `build_wheel`, as pip does; the file that it made."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind), str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.iterdir()
    return made


@dataclass(frozen=True)
class Installed:
    """The wheel in a folder of its own, which is found before an editable install.

    Attributes:
        wheel: the file.
        packages: folder to be on PYTHONPATH.
    """

    wheel: Path
    packages: Path

    @property
    def command(self) -> str:
        """The script `extremal`."""
        return str(self.packages / "bin" / "extremal")

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that uses it, and that looks for no cluster."""
        return {**os.environ, "PYTHONPATH": str(self.packages), "RAY_ADDRESS": "", "COLUMNS": "120"}

    @classmethod
    def into(cls, folder: Path) -> "Installed":
        wheel = build("build_wheel", checkout(folder / "source"), folder / "dist")
        packages = folder / "packages"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
        done = subprocess.run(
            [*pip, "--target", str(packages), str(wheel)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return cls(wheel, packages)


def make_foreign_code(folder: Path) -> Path:
    """A user's folder with modules of their own, named like our floors; none must ever be imported."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("workers/__init__.py", "jobs/__init__.py", "storage.py", "pipeline.py"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise RuntimeError('the user\\'s own {name} was imported')\n")
    return folder
