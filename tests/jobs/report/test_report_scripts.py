"""The scripts of the report's pages: their unit tests under node, and what the site makes of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from extremal.jobs.report.pages.browser import browser_files

NODE = shutil.which("node")
TESTS = sorted((Path(__file__).parent / "browser").glob("*.test.js"))
MINIMUM = 20  # of node: its tests run without a package


@pytest.mark.skipif(NODE is None, reason="no node: the scripts' unit tests need it")
def test_the_scripts_pass_their_unit_tests() -> None:
    version = subprocess.run([str(NODE), "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < MINIMUM:
        pytest.skip(f"node {version.strip()} is older than {MINIMUM}")
    assert len(TESTS) >= 3
    command = [str(NODE), "--test", *map(str, TESTS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^# pass ([1-9]\d*)$", result.stdout, re.MULTILINE) or "ℹ pass" in result.stdout


def test_the_site_has_plain_scripts_each_after_what_it_needs() -> None:
    """Browsers load no modules from file://."""
    files = {name: content.decode() for name, content in browser_files().items()}
    scripts = {name for name in files if name.endswith(".js")}
    for name in scripts:
        assert files[name].startswith('"use strict";\n')
        assert not re.search(r"^\s*(import|export)\b", files[name], re.MULTILINE), name
    used = set()
    for name in (name for name in files if name.endswith(".html")):
        loaded = re.findall(r'<script src="([a-z]+\.js)"( defer)?></script>', files[name])
        assert [script for script, defer in loaded if not defer] == ["format.js", "site.js"]
        assert loaded == sorted(loaded, key=lambda script: script[1] != "")  # those at once come first
        assert len({script for script, _ in loaded}) == len(loaded)
        used |= {script for script, _ in loaded}
        assert "$" not in files[name]
        assert "type=" not in files[name]
    assert used == scripts


def test_a_page_declares_no_name_twice() -> None:
    """Top-level names of all scripts of a page are one scope: a second would end the page."""
    files = {name: content.decode() for name, content in browser_files().items()}
    for name in (name for name in files if name.endswith(".html")):
        scripts = re.findall(r'<script src="([a-z]+\.js)"', files[name])
        pattern = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+|\[[\w, ]+\])", re.MULTILINE)
        names = [
            declared
            for script in scripts
            for declaration in pattern.findall(files[script])
            for declared in re.findall(r"\w+", declaration)
        ]
        assert "num" in names
        assert len(names) == len({*names}), name
