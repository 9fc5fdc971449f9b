"""Random damage to configurations and annotation files: a result or the known error, never another."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import corpus
import pytest
from broken_datasets import make_coco, make_labels, make_voc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extremal.pipeline.config import build_config, method_trees, read_toml, stored_tree
from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.datasets.pairs import Pair
from extremal.pipeline.datasets.shapes import SHAPES
from extremal.pipeline.errors import ConfigError, DatasetError
from extremal.pipeline.plan import plan_dataset
from extremal.workers.images import Preprocess

# The same examples each time: a failure here is a fault of the change under test.
SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CONFIGS = settings(SAME, max_examples=300)
FILES = settings(SAME, max_examples=120)

Thing = TypeVar("Thing")
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NUMBERS = ["0", "-1", "1e30", "nan", "inf", "-inf", "1e999", "9" * 40, "9" * 5000, "0x1", "٣", "1.5", ""]
TOKENS = [
    *NUMBERS,
    *"<>&'\"{}[]:,/\\",
    "&#0;",
    "&x;",
    "<!--",
    "]]>",
    "null",
    "../",
    "\\ud800",
    "x" * 300,
    "é",
]
TOKENS += ["\0", "\n", "\r", "\t", "\x0b", "\u2028", "\ufeff"]

LARGE = [10**30, -(10**30), 10**400, 2**31, 2**63]
numbers = st.one_of(st.integers(-2, 2000), st.floats(-0.5, 2.0), st.sampled_from([*NUMBERS, *LARGE, True]))
junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(LARGE),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([*NUMBERS, "\ud800", "cuda", "/", "..", "a:b"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


# ---------------------------------------------------------------- configurations


PRESETS = ("fast", "torchray", "paper")


def attempt(known: type[Exception], call: Callable[[], Thing]) -> tuple[Thing | None, str]:
    """What a call returns, or the message of the known error; any other error fails the test."""
    try:
        return call(), ""
    except known as error:
        return None, str(error)


def valid_tree(preset: Any) -> dict[str, Any]:
    tree = method_trees(preset)
    tree["dataset"] = {"name": "voc", "root": "data", "split": "2007:test", "labels": None, "limit": 9}
    tree["network"] = {"name": "resnet50", "weights": "w.pth", "resize": 224, "crop": 0}
    tree["network"]["std"] = [0.2, 0.2, 0.2]
    return tree | {"method": "spatial", "seed": 1, "batch": 4, "slots": None, "threads": 1}


def paths(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Keys of a nested mapping: sections and leaves."""
    found = []
    for key, value in tree.items():
        found.append((*prefix, key))
        if isinstance(value, Mapping):
            found += paths(value, (*prefix, key))
    return found


def at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A valid tree after some changes, some of which are valid too: most replace a number by a number."""
    tree: dict[str, Any] = json.loads(json.dumps(valid_tree(draw(st.sampled_from(PRESETS)))))
    for _ in range(draw(st.integers(0, 3))):
        change = draw(st.sampled_from(["number"] * 6 + ["junk", "delete", "add"]))
        found = paths(tree)
        if change == "number":
            found = [path for path in found if type(at(tree, path)) in (int, float)]
        if not found:
            continue
        *above, key = draw(st.sampled_from(found))
        section = at(tree, above)
        if change == "delete":
            del section[key]
        elif change == "add":
            section[draw(st.text(max_size=5))] = draw(junk)
        else:
            section[key] = draw(numbers if change == "number" else junk)
    return tree


@given(trees())
@CONFIGS
def test_a_tree_is_a_configuration_or_a_config_error(tree: dict[str, Any]) -> None:
    config, message = attempt(ConfigError, lambda: build_config(tree))
    if config is None:
        assert message
        return
    identity = stored_tree(config)
    # What run.json holds is JSON, without the words that JSON has not.
    stored = json.loads(json.dumps(identity, allow_nan=False))
    assert stored == identity
    assert stored_tree(build_config(stored)) == identity


def test_the_valid_tree_is_valid() -> None:
    """Else the test above would see config errors only."""
    for preset in PRESETS:
        assert build_config(valid_tree(preset)).dataset.limit == 9


# ---------------------------------------------------------------- damaged text


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A text with one to three spans deleted, doubled, or replaced by something odd."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        odd = draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=4)))
        new = draw(st.sampled_from(["", text[start:end] * 2, odd, odd]))
        text = text[:start] + new + text[end:]
    return text


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


TOML = """preset = "torchray"
batch = 64
[dataset]
name = "voc"
split = "2007:test"
[spatial]
areas = [0.025, 0.05, 0.1, 0.2]
[spatial.schedule]
steps = 400
"""


@given(data=st.data())
@FILES
def test_toml(data: st.DataObject, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(octets(data.draw(damaged(TOML))))
    tree, message = attempt(ConfigError, lambda: read_toml(file))
    if tree is None:
        assert str(file) in message
        return
    whole = {key: value for key, value in tree.items() if key != "preset"} | {"network": {"name": "resnet50"}}
    assert attempt(ConfigError, lambda: build_config(whole)) != (None, "")


# ---------------------------------------------------------------- damaged annotations


def planned(name: str, root: Path, outputs: int, split: str | None = None) -> dict[str, list[Pair]]:
    """The pairs of each image, after a plan could be made of them."""
    tree = {"dataset": {"name": name}, "network": {"name": "toy"}}
    dataset = open_dataset(name, str(root), split)
    found: dict[str, list[Pair]] = {}
    for pair in dataset.pairs():
        found.setdefault(pair.path, []).append(pair)
    plan = plan_dataset(dataset, outputs, Preprocess(64, None, *HALVES), build_config(tree))
    assert plan.table.num_rows == sum(map(len, found.values()))
    return found


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc") / "all", {"odd": corpus.voc_xml()})


def jpeg(name: str) -> str:
    return f"VOC2007/JPEGImages/{name}.jpg"


@given(text=damaged(corpus.voc_xml(tail="<object><name>ring</name></object>")))
@FILES
def test_an_annotation_costs_its_own_image_at_most(text: str, voc: Path) -> None:
    (voc / "VOC2007/Annotations/odd.xml").write_bytes(octets(text))
    (voc / "VOC2007/ImageSets/Main/test.txt").write_text("good\nodd\nfine\n")
    found = planned("voc", voc, len(SHAPES), "test")
    assert found.keys() <= {jpeg("good"), jpeg("odd"), jpeg("fine")}
    assert all(pair.known for name in ("good", "fine") for pair in found[jpeg(name)])


@given(text=damaged("good\nodd\nfine\n"))
@FILES
def test_a_list_loses_no_image_that_it_names(text: str, voc: Path) -> None:
    (voc / "VOC2007/Annotations/odd.xml").write_text(corpus.voc_xml())
    (voc / "VOC2007/ImageSets/Main/test.txt").write_bytes(octets(text))
    found, message = attempt(DatasetError, lambda: planned("voc", voc, len(SHAPES), "test"))
    if found is None:
        assert "test.txt" in message
        return
    for name in {"good", "odd", "fine"} & {line.split()[0] for line in text.splitlines() if line.strip()}:
        assert [pair.known for pair in found[jpeg(name)]] == [True]


ENTRIES = [corpus.coco_entry(number) for number in (101, 102, 103)]
NAMES = [entry["image"]["file_name"] for entry in ENTRIES]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco") / "all", corpus.coco_text(*ENTRIES), NAMES)


@given(text=damaged(corpus.coco_text(*ENTRIES)))
@FILES
def test_a_coco_file_is_read_or_refused(text: str, coco: Path) -> None:
    source = coco / "annotations/instances_val.json"
    source.write_bytes(octets(text))
    found, message = attempt(DatasetError, lambda: planned("coco", coco, len(SHAPES), "val"))
    if found is None:
        # A damaged category changes how many classes there are, which the network then does not fit.
        assert source.name in message or "classes" in message


@given(data=st.data())
@FILES
def test_a_coco_entry_costs_its_own_image_at_most(data: st.DataObject, coco: Path) -> None:
    entries: list[dict[str, Any]] = json.loads(json.dumps(ENTRIES))
    source = coco / "annotations/instances_val.json"
    source.write_text(corpus.coco_text(*entries))
    before = planned("coco", coco, len(SHAPES), "val")
    record = data.draw(st.sampled_from([entries[1]["image"], entries[1]["annotations"][0]]))
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from(sorted(record)))
        if data.draw(st.integers(0, 4)):
            odd = st.one_of(junk, st.lists(st.lists(st.floats(), max_size=8), max_size=2))
            record[key] = data.draw(odd)
        else:
            record.pop(key, None)
            break
    source.write_text(corpus.coco_text(*entries))
    after, message = attempt(DatasetError, lambda: planned("coco", coco, len(SHAPES), "val"))
    if after is None:
        assert source.name in message
        return
    for name in (NAMES[0], NAMES[2]):
        assert after[f"val/{name}"] == before[f"val/{name}"]


LABELS = f"file,label,wnid\ngood.jpg,1,\nodd.jpg,2,{corpus.WNIDS[2]}\nfine.jpg,3,\n"


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labels(tmp_path_factory.mktemp("imagenet") / "all", octets(LABELS))


@given(text=damaged(LABELS))
@FILES
def test_labels_lose_no_image_that_they_name(text: str, imagenet: Path) -> None:
    (imagenet / "labels.csv").write_bytes(octets(text))
    found, message = attempt(DatasetError, lambda: planned("imagenet", imagenet, 1000))
    if found is None:
        assert "labels.csv" in message
        return
    lines = text.splitlines()
    for line in LABELS.splitlines()[1:]:
        # A line that came through whole, below a header that did.
        if line in lines[1:] and lines[0] == LABELS.splitlines()[0]:
            (row,) = csv.reader([line])
            assert any(pair.known and pair.class_id == int(row[1]) for pair in found[row[0]])
