"""Every case of the corpus of bad input, through the code that users run; a page of the site lists them."""

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import pytest
import torch
from broken_datasets import GOOD, make_coco, make_labels, make_voc
from corpus import Case, Maker, Mutation, Outcome
from runs import SETTINGS
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.shapes import SHAPES
from extremal.pipeline.errors import ConfigError, DatasetError
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.storage import Run, RunError, kinds
from extremal.workers import load_network
from extremal.workers.config import RunConfig
from extremal.workers.errors import NetworkError
from extremal.workers.networks.shapes_cnn import shapes_cnn
from extremal.workers.shard.worker import Worker

KNOWN = (ConfigError, DatasetError, NetworkError, RunError)
QUICK = {"areas": [0.2], "mask": {"step": 16, "sigma": 16.0}, "schedule": {"steps": 2}}


# Names of the cases that a test of this file runs.
TESTED: set[str] = set()


def cases(table: Sequence[Case[Any]]) -> pytest.MarkDecorator:
    TESTED.update(case.name for case in table)
    return pytest.mark.parametrize("case", table, ids=[case.slug for case in table])


@dataclass
class Found:
    """What a run has for each image: its result rows, and its failures as (stage, message)."""

    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def settings(dataset: dict[str, Any], **changes: Any) -> RunConfig:
    tree = merge(merge(method_trees("torchray"), SETTINGS), {"spatial": QUICK, "batch": 4})
    return build_config(merge(tree | {"dataset": dataset}, changes))


def compute(config: RunConfig, out: Path, vanishes: Path | None = None) -> Found:
    run, _ = prepare(config, str(out))
    if vanishes is not None:
        vanishes.unlink()
    worker = Worker(worker_spec(config, run, "cpu"))
    for shard in run.missing():
        list(worker.run_shard(shard))
    return found_in(Run.open(str(out)))


def found_in(run: Run) -> Found:
    assert run.missing() == []
    found = Found()
    for row in run.table(run.kind).to_pylist():
        found.results.setdefault(row["path"], []).append(row)
    for row in run.table(kinds.FAILURES).to_pylist():
        found.failures.setdefault(row["path"], []).append((row["stage"], row["error"]))
    planned = run.plan(["pair"]).num_rows
    assert planned == sum(map(len, found.results.values())) + sum(map(len, found.failures.values()))
    return found


def check(case: Case[Any], found: Found, path: str) -> None:
    """The image at `path` has the outcome of its case, once, and a failure the words of its case."""
    results, failures = found.results.get(path, []), found.failures.get(path, [])
    if case.outcome is Outcome.LEFT_OUT:
        assert (results, failures) == ([], [])
    elif case.outcome is Outcome.RESULT:
        assert (len(results), failures) == (1, [])
    else:
        ((stage, message),) = failures
        assert f"failure: {stage}" == case.outcome
        assert case.shown in message
        assert not results


def check_refused(case: Case[Any], config: RunConfig, out: Path, names: str = "") -> None:
    """`prepare` refuses with one message and leaves nothing behind."""
    assert case.outcome is Outcome.REFUSED
    with pytest.raises(KNOWN) as error:
        prepare(config, str(out))
    assert case.shown in str(error.value)
    assert names in str(error.value)
    assert not out.exists()


# ---------------------------------------------------------------- images


def folder_config(root: Path) -> RunConfig:
    return settings({"name": "folder", "root": str(root)})


def image_path(case: Case[Maker]) -> str:
    return case.file or f"{case.slug}.jpg"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One run over a folder that holds every bad image, and good ones before, between and after them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "all").mkdir()
    for name, data in corpus.GOOD_IMAGES.items():
        (folder / "all" / name).write_bytes(data)
    paths = {case.name: folder / "all" / image_path(case) for case in corpus.IMAGES}
    for case in corpus.IMAGES:
        case.thing(paths[case.name])
    assert len(set(paths.values())) == len(corpus.IMAGES)
    return compute(folder_config(folder / "all"), folder / "run", paths[corpus.VANISHES])


@cases(corpus.IMAGES)
def test_image(case: Case[Maker], images: Found) -> None:
    if case.name == corpus.FORBIDDEN and os.geteuid() == 0:
        pytest.skip("root may read everything")
    check(case, images, image_path(case).encode("utf-8", "backslashreplace").decode())


def test_good_images_have_the_rows_of_a_run_without_bad_ones(images: Found, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for name, data in corpus.GOOD_IMAGES.items():
        (tmp_path / "good" / name).write_bytes(data)
    alone = compute(folder_config(tmp_path / "good"), tmp_path / "run")
    assert alone.results.keys() == corpus.GOOD_IMAGES.keys()
    for name, (expected,) in alone.results.items():
        (row,) = images.results[name]
        for key in ("target", "seed", "input_shape", "areas"):
            assert row[key] == expected[key]
        # Other neighbours in the batch: the network's rounding differs, and nothing else.
        for key in ("score_full", "score_perturbed", "score_preserve", "params"):
            torch.testing.assert_close(
                torch.tensor(row[key]), torch.tensor(expected[key]), atol=1e-3, rtol=1e-3
            )


# ---------------------------------------------------------------- VOC


def voc_config(root: Path, **more: Any) -> RunConfig:
    return settings({"name": "voc", "root": str(root), "split": "test", **more})


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("voc")
    root = make_voc(folder / "all", {case.slug: case.thing for case in corpus.VOC})
    return compute(voc_config(root), folder / "run")


@cases(corpus.VOC)
def test_voc_annotation(case: Case[str], voc: Found) -> None:
    check(case, voc, f"VOC2007/JPEGImages/{case.slug}.jpg")
    assert {f"VOC2007/JPEGImages/{name}.jpg" for name in ("good", "fine")} <= voc.results.keys()


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "voc", {"bomb": corpus.entity_bomb(), "outside": corpus.external_entity()})
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    run, _ = prepare(voc_config(root), str(tmp_path / "run"))
    assert time.perf_counter() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; the bomb is a gigabyte
    assert set(run.plan(["class_name"])["class_name"].to_pylist()) == {SHAPES[0], ""}


@cases(corpus.LISTS)
def test_voc_list(case: Case[bytes], tmp_path: Path) -> None:
    root = make_voc(tmp_path / "voc", {}, case.thing)
    if case.outcome is Outcome.REFUSED:
        name = "voc" if not case.thing else "test.txt"
        check_refused(case, voc_config(root), tmp_path / "run", name)
        return
    found = compute(voc_config(root), tmp_path / "run")
    assert found.results.keys() == {f"VOC2007/JPEGImages/{name}.jpg" for name in ("good", "fine")}
    assert all(len(rows) == 1 for rows in found.results.values())
    if case.outcome is not Outcome.RESULT:
        check(case, found, f"VOC2007/JPEGImages/{case.file}.jpg")


# ---------------------------------------------------------------- COCO


def coco_config(root: Path) -> RunConfig:
    return settings({"name": "coco", "root": str(root), "split": "val"})


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One run over a COCO file with an entry for every case, between two good ones: 0 and the last."""
    folder = tmp_path_factory.mktemp("coco")
    entries = [corpus.coco_entry(number) for number in range(len(corpus.COCO) + 2)]
    names = [entry["image"]["file_name"] for entry in entries]
    for case, entry in zip(corpus.COCO, entries[1:-1], strict=True):
        case.thing(entry)
    root = make_coco(folder / "all", corpus.coco_text(*entries), names)
    found = compute(coco_config(root), folder / "run")
    assert {f"val/{names[0]}", f"val/{names[-1]}"} <= found.results.keys()
    return found


@cases(corpus.COCO)
def test_coco_annotation(case: Case[Mutation], coco: Found) -> None:
    number = corpus.COCO.index(case) + 1
    check(case, coco, f"val/{case.file or f'{number}.jpg'}")


@cases(corpus.COCO_FILES)
def test_coco_file(case: Case[str], tmp_path: Path) -> None:
    root = make_coco(tmp_path / "coco", case.thing, ["1.jpg"])
    name = "coco" if case.shown == "There is nothing to do" else "instances_val.json"
    check_refused(case, coco_config(root), tmp_path / "run", name)


# ---------------------------------------------------------------- ImageNet


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of the small network with ImageNet's thousand outputs."""
    path = tmp_path_factory.mktemp("thousand") / "weights.pth"
    torch.save(shapes_cnn(1000).state_dict(), path)
    return str(path)


def imagenet_config(root: Path, weights: str) -> RunConfig:
    return settings({"name": "imagenet", "root": str(root)}, network={"weights": weights})


@cases(corpus.LABELS)
def test_label(case: Case[str], tmp_path: Path, thousand: str) -> None:
    text = f"file,label,wnid\ngood.jpg,0,\n{case.thing}\nfine.jpg,999,{corpus.WNIDS[999]}\n"
    root = make_labels(tmp_path / "imagenet", text.encode())
    found = compute(imagenet_config(root, thousand), tmp_path / "run")
    assert {"good.jpg", "fine.jpg"} <= found.results.keys()
    check(case, found, case.file)


@cases(corpus.LABEL_FILES)
def test_labels_file(case: Case[bytes], tmp_path: Path, thousand: str) -> None:
    root = make_labels(tmp_path / "imagenet", case.thing)
    if case.outcome is Outcome.REFUSED:
        check_refused(case, imagenet_config(root, thousand), tmp_path / "run", "labels.csv")
    else:
        assert "good.jpg" in compute(imagenet_config(root, thousand), tmp_path / "run").results


# ---------------------------------------------------------------- weights and networks


@cases(corpus.WEIGHTS)
def test_weights(case: Case[Maker], tmp_path: Path) -> None:
    path = tmp_path / (case.file or "weights.pth")
    case.thing(path)
    if case.outcome is Outcome.REFUSED:
        with pytest.raises(NetworkError) as error:
            load_network("shapes_cnn", path)
        assert case.shown in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    else:
        assert load_network("shapes_cnn", path).outputs == len(SHAPES)
    assert not corpus.proof(path).exists()


def test_the_hostile_checkpoints_do_run_code_where_nobody_stops_them(tmp_path: Path) -> None:
    """Without this the two cases could pass because they are harmless."""
    path = tmp_path / "weights.pth"
    corpus.hostile_zip(path)
    torch.load(path, weights_only=False)["fc.weight"].close()
    assert corpus.proof(path).exists()


@cases(corpus.NETWORKS)
def test_network(case: Case[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"networks_{case.slug.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(f"{corpus.NETWORKS_FILE}def build():\n    {case.thing}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "good.jpg").write_bytes(GOOD)
    changes = {
        "spatial": QUICK,
        "dataset": {"name": "folder", "root": str(tmp_path / "images")},
        "network": {"name": f"{module}:build"},
    }
    config = build_config(merge(method_trees("torchray"), changes))
    if case.outcome is Outcome.REFUSED:
        check_refused(case, config, tmp_path / "run", f"{module}:build")
    else:
        assert compute(config, tmp_path / "run").results.keys() == {"good.jpg"}


# ---------------------------------------------------------------- the command line


def no_ray(*_: object) -> int:
    raise AssertionError("a mistake was not noticed before the work began")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with images/ and empty/, where no run can start."""
    for name in ("images", "empty"):
        (tmp_path / name).mkdir()
    for name, data in corpus.GOOD_IMAGES.items():
        (tmp_path / "images" / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("extremal.jobs.run.start_ray", no_ray)


def refused_by_the_command(case: Case[Any], arguments: Sequence[str]) -> None:
    right = ["--dataset", "folder", "--root", "images", "--network", "shapes_cnn", "--weights", "random"]
    result = CliRunner().invoke(app, ["run", *right, *arguments], env={"COLUMNS": "300"})
    assert case.outcome is Outcome.REFUSED
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert case.shown in result.output
    assert "Traceback" not in result.output
    assert not Path("runs").exists()


@pytest.mark.usefixtures("place")
@cases(corpus.TOML)
def test_toml(case: Case[str | bytes]) -> None:
    data = case.thing if isinstance(case.thing, bytes) else case.thing.encode()
    Path("run.toml").write_bytes(data)
    refused_by_the_command(case, ["--config", "run.toml"])


@pytest.mark.usefixtures("place")
@cases(corpus.FLAGS)
def test_flags(case: Case[Sequence[str]]) -> None:
    refused_by_the_command(case, case.thing)


@cases([case for case in corpus.IMAGES if case.outcome is Outcome.DECODE and case.name != corpus.VANISHES])
def test_explain_refuses_what_a_run_fails_on(case: Case[Maker], tmp_path: Path) -> None:
    if case.name == corpus.FORBIDDEN and os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / image_path(case)
    case.thing(path)
    network = ["--network", "shapes_cnn", "--weights", "random", "--resize", "64"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["explain", str(path), *network, "--steps", "1", "--out", str(out)])
    if case.name == "name that is no UTF-8":  # no table has to hold this name
        assert result.exit_code == 0, result.output
        return
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert path.name in result.output
    assert case.shown in result.output
    assert not out.exists()


# ---------------------------------------------------------------- the page


def test_every_case_of_the_page_is_tested_and_says_what_comes_of_it() -> None:
    everything = [case for table in corpus.ALL.values() for case in table]
    names = [case.name for case in everything]
    assert len(names) == len(set(names)) >= 250
    assert set(names) == TESTED
    for case in everything:
        # Either a message, which the tests look for, or a note.
        assert bool(case.shown) == (case.outcome not in (Outcome.RESULT, Outcome.LEFT_OUT)), case.name
        assert bool(case.note) != bool(case.shown), case.name
