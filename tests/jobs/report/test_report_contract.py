"""The data of a report: what the files hold is what jobs/page_data.py and docs/report-data.md say."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from handmade_site import make_site
from pydantic import ConfigDict, TypeAdapter, ValidationError
from runs import SETTINGS, compute

from extremal.jobs import page_data
from extremal.jobs.options import assemble
from extremal.jobs.report.site import Site
from extremal.pipeline.config import merge
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.storage import Run

CONTRACTS = {
    r"overview": page_data.Overview,
    r"index-\d+": page_data.IndexFile,
    r"pairs/\d+": page_data.PairsFile,
    r"classes": page_data.ClassesFile,
    r"class/\d+": page_data.ClassFile,
}
DOCS = Path(__file__).parents[3] / "docs" / "report-data.md"
# In a list, for only then does the setting hold for types that have none of their own.
ADAPTERS: dict[str, TypeAdapter[Any]] = {
    pattern: TypeAdapter(list[type_], config=ConfigDict(extra="forbid", strict=True))
    for pattern, type_ in CONTRACTS.items()
}


def check(name: str, value: Any) -> str:
    """A file's value is of its type, with every key and no other; returns the pattern of its name."""
    (pattern,) = (pattern for pattern in ADAPTERS if re.fullmatch(pattern, name))
    ADAPTERS[pattern].validate_python([value])
    return pattern


def value_of(script: str) -> Any:
    return json.loads("[" + script.strip().removeprefix("extremal.put(").removesuffix(");") + "]")[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Every study over the shapes, one of which cannot be read."""
    place = tmp_path_factory.mktemp("runs")
    make_shapes(place / "shapes", train=1, test=6)
    (place / "shapes/VOCdevkit/VOC2007/JPEGImages/000004.jpg").write_bytes(b"no image")
    settings = merge(SETTINGS, {"dataset": {"root": str(place / "shapes")}})

    def run(name: str, flags: Mapping[str, Any]) -> Run:
        return compute(assemble(None, "torchray", flags, "cpu"), place / name)

    maps = {"method": "gradient", "saliency": {"maps": 12}}
    spatial, saliency = run("spatial", settings), run("maps", merge(settings, maps))
    channels = run("channels", merge(settings, {"method": "channel"}))
    inversion = {"method": "inversion", "steps": 2, "inversion": {"channels": channels.uri}}
    pictures = merge(inversion, {"inversion": {"subject": "channels"}})
    return [spatial, saliency, channels, run("inversions", inversion), run("pictures", pictures)]


@pytest.mark.parametrize("first", range(5))
def test_every_file_of_a_report_is_of_its_type(runs: list[Run], first: int) -> None:
    """Whichever study decides the pairs, alone or with the others."""
    for chosen in ([runs[first]], [runs[first], *(run for run in runs if run is not runs[first])]):
        if first == 4 and len(chosen) > 1:
            continue  # channels and pairs have nothing in common
        site = Site(chosen)
        names = [path[5:-3] for path in site.paths() if path.startswith("data/")]
        checked = {check(name, value_of(site[f"data/{name}.js"].decode())) for name in names}
        assert checked == {*CONTRACTS}


def test_a_file_of_another_shape_is_noticed(runs: list[Run]) -> None:
    pairs = value_of(Site([runs[0]])["data/pairs/00000.js"].decode())
    for changed in (
        {**pairs, "other": 1},
        {"pairs": pairs["pairs"]},
        {**pairs, "pairs": [{**pairs["pairs"][0], "strip": {"cells": [1, 1], "tiles": [{}]}}]},
        {**pairs, "pairs": [{**pairs["pairs"][0], "width": "40"}]},
    ):
        with pytest.raises(ValidationError):
            check("pairs/00000", changed)


def test_the_pages_are_tested_over_data_of_the_contract(tmp_path: Path) -> None:
    make_site(tmp_path / "site", 45)
    files = sorted((tmp_path / "site" / "data").rglob("*.js"))
    names = [path.relative_to(tmp_path / "site" / "data").with_suffix("").as_posix() for path in files]
    assert {check(name, value_of(path.read_text())) for name, path in zip(names, files, strict=True)} == {
        *CONTRACTS
    }


def keys(type_: Any) -> Iterator[str]:
    """All keys of a file's type, those inside it too."""
    schema = TypeAdapter(type_).json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})


def test_the_docs_name_every_key() -> None:
    named = {*re.findall(r'"(\w+)"', DOCS.read_text())}
    missing = {key for type_ in CONTRACTS.values() for key in keys(type_)} - named
    assert missing == set()
