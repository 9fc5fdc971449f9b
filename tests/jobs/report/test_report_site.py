"""The site of a report: its data against the store, joins, failures, hostile names, writing and serving."""

import http.client
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from helpers import row, rows
from PIL import Image
from processes import EXTREMAL, below, start
from pycocotools import mask as coco_mask
from rich.console import Console
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.report.pages.overlays import resample, truth
from extremal.jobs.report.pages.page import SHARD, script
from extremal.jobs.report.paths import strip_path
from extremal.jobs.report.serve import Server
from extremal.jobs.report.site import Site
from extremal.jobs.report.write import _Folder, _Writer, write_site
from extremal.pipeline.aggregates.pointing import Rule, pointing
from extremal.pipeline.config import build_config, stored_tree
from extremal.pipeline.errors import DatasetError
from extremal.pipeline.stored_masks import cell_shape, draw_cells
from extremal.storage import Run, RunError, kinds
from extremal.storage.kinds import CHANNEL_OF_LAYER, PAIR, Kind
from extremal.storage.manifest import Data, DatasetRecord, Manifest, Model
from extremal.storage.scores import write_scores
from extremal.workers.extremal.masks import render_masks
from extremal.workers.extremal.settings import MaskConfig

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\"'&"
WIDTH, HEIGHT = 40, 30
PAIRS = 7
AREAS = [0.125, 0.5]
MODEL = Model(HOSTILE, resize=28, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
SHAPE = [28, 37]
CELLS = [4, 5]  # of a step of 7 pixels; the parameters have a sixth column


def key(pair: int) -> dict[str, Any]:
    return {
        "image_id": f"{HOSTILE}{pair // 2}",
        "path": f"{pair // 2}{HOSTILE.replace('/', '')}.jpg",
        "class_id": pair % 2,
        "class_name": f"{HOSTILE}{pair % 2}",
    }


def rle() -> str:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[5:20, 8:30] = 1
    return str(coco_mask.encode(mask)["counts"].decode())


def make(
    place: Path,
    kind: Kind,
    order: list[int],
    size: int,
    tables: Any,
    root: str,
    inverted: tuple[str, Run] | None = None,
) -> Run:
    """A run over the pairs in an order, `size` to a shard; tables(pair, key) are the rows of each pair.

    Args:
        inverted: subject, and the channel run, of inversions.
    """
    plan = [
        row(
            PAIR.plan, pair=own, **key(pair), shard=own // size, boxes=[[8, 5, 29, 19]], targets=[0],
            width=WIDTH, height=HEIGHT, rle=rle() if pair == 3 else None,
        )
        for own, pair in enumerate(order)
    ]  # fmt: skip
    config = build_config({"dataset": {"name": "coco", "split": "v"}, "network": {"name": "resnet18"}})
    manifest = Manifest(
        kind.name,
        stored_tree(config),
        MODEL,
        Data(channels=inverted[1].manifest.config_hash if inverted else None),
        dataset=DatasetRecord(root, ("x",), len(order)),
    )
    if inverted:
        manifest.config["inversion"] = {"subject": inverted[0]}
    run = Run.create(str(place), manifest, pa.Table.from_pylist(plan, schema=PAIR.plan))
    for shard in sorted({r["shard"] for r in plan}):
        found: dict[Kind, list[dict[str, Any]]] = {kind: [], kinds.POINTS: [], kinds.FAILURES: []}
        for r in plan:
            if r["shard"] == shard:
                pair = order[r["pair"]]
                for of_kind, values in tables(pair).items():
                    found[of_kind] += [{"pair": r["pair"], **key(pair), **v} for v in values]
        run.commit(shard, {k: rows(k, *v) for k, v in found.items()})
    return run


def uncommit(run: Run, *shards: int) -> None:
    """As if these shards had never been computed."""
    for shard in shards:
        for kind in (kinds.POINTS, kinds.FAILURES):  # which are left out where they have no rows
            Path(run.shard_path(shard, kind)).unlink(missing_ok=True)
        Path(run.shard_path(shard, run.kind)).unlink()


def point(pair: int, method: str, x: int, y: int) -> dict[str, Any]:
    dx, dy = max(8 - x, 0, x - 29), max(5 - y, 0, y - 19)
    distance2 = None if pair == 1 else 4 * (dx * dx + dy * dy)
    return {
        "method": method, "x": x, "y": y, "width": WIDTH, "height": HEIGHT, "distance2": distance2,
        "all_difficult": pair == 2,
    }  # fmt: skip


def params(pair: int) -> np.ndarray:
    generator = np.random.default_rng(pair)
    return generator.random((len(AREAS), 4, 6)).astype(np.float16)


def spatial(pair: int) -> dict[Kind, list[dict[str, Any]]]:
    if pair == 4:
        return {kinds.FAILURES: [{"stage": "decode", "error_type": "ImageError", "error": HOSTILE}]}
    result = {
        "target_name": HOSTILE, "input_shape": SHAPE, "areas": AREAS, "params_shape": [2, 4, 6],
        "params": params(pair).ravel(), "score_full": 10.0, "score_perturbed": 2.0,
        "score_preserve": [6.0, 10.0], "score_delete": [4.0, math.nan], "a_star": None if pair == 0 else 0.5,
    }  # fmt: skip
    points = [point(pair, "center", 20, 15), point(pair, "extremal", 39, 5 * pair % HEIGHT)]
    return {kinds.SPATIAL: [result], kinds.POINTS: points}


def saliency(pair: int) -> dict[Kind, list[dict[str, Any]]]:
    names = ("extremal", "rise")
    maps = [
        {
            "method": name,
            "map_shape": [2, 3],
            "map": np.arange(6) / 5 + i,
            "map_scale": 1.0,
            "score_full": 1.0,
        }
        for i, name in enumerate(names)
    ]
    places = [point(pair, "center", 20, 15)] + [point(pair, n, 3 * i, pair) for i, n in enumerate(names)]
    return {kinds.SALIENCY: maps, kinds.POINTS: places}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for pair in (0, 2, 6):  # and one of pairs 4 and 5 that is no image
        pixels = np.full((HEIGHT * 20, WIDTH * 20, 3), 20 * pair, np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter, which nothing here does
        Image.fromarray(pixels).save(root / str(key(pair)["path"]), "JPEG", exif=exif)
    (root / str(key(4)["path"])).write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def two(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A spatial run of which a shard is missing, and the methods of most of its pairs, in another order."""
    place = tmp_path_factory.mktemp("runs")
    first = make(place / "a", kinds.SPATIAL, list(range(PAIRS)), 3, spatial, str(images))
    uncommit(first, 2)
    second = make(place / "b", kinds.SALIENCY, [6, 5, 3, 2, 1, 0], 2, saliency, str(images))
    return [first, second]


@pytest.fixture(scope="module")
def written(two: list[Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Path]:
    site, out = Site(two), tmp_path_factory.mktemp("out") / "report"
    write_site(site, str(out), Console(quiet=True))
    return site, out


def load(content: bytes) -> Any:
    """The value of a script of data."""
    text = content.decode()
    assert text.startswith("extremal.put(")
    return json.loads("[" + text.removeprefix("extremal.put(").removesuffix(");\n") + "]")[1]


def read(out: Path, name: str) -> Any:
    return load((out / "data" / f"{name}.js").read_bytes())


def test_every_path_is_written_but_that_of_an_image_that_cannot_be_read(written: tuple[Site, Path]) -> None:
    site, out = written
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == set(site.paths()) - {"pictures/000/000002.jpg"}
    assert {"index.html", "data/overview.js", "data/class/00001.js"} <= there
    for path in there:
        assert (out / path).read_bytes() == site[path], path


def test_overview_counts_and_tables(written: tuple[Site, Path]) -> None:
    found = read(written[1], "overview")
    assert found["counts"] == {"pairs": 7, "results": 5, "failed": 1, "missing": 1}
    assert found["methods"] == ["center", "extremal", "extremal (2)", "rise"]
    assert found["classes"] == [f"{HOSTILE}0", f"{HOSTILE}1"]
    assert found["class_sizes"] == [4, 3]
    assert found["size_label"] == "area"
    assert found["failures"]["rows"] == [
        ["4", key(4)["image_id"], key(4)["class_name"], "decode", "ImageError", HOSTILE]
    ]
    assert [run["complete"] for run in found["runs"]] == [False, True]
    assert ["pictures", "4 images, 1 of them cannot be read"] in found["facts"]
    assert all(isinstance(cell, str) for t in found["tables"] for r in t["rows"] for cell in r)
    assert "(0/3)" in json.dumps(found["tables"])  # no rate without its denominator


def test_index_agrees_with_the_pointing_game_and_with_brute_force(
    written: tuple[Site, Path], two: list[Run]
) -> None:
    found = read(written[1], "index-000")
    assert found["state"] == "rrrrfrm"
    assert found["class"] == [pair % 2 for pair in range(PAIRS)]
    assert found["a_star"] == [None, 0.5, 0.5, 0.5, None, 0.5, None]
    assert found["kept"][1] == pytest.approx((4 / 8 + 8 / 8) / 2)
    assert found["picture"] == [0, 0, 1, 1, -1, -1, 3]
    assert found["swept"] == "1111010"
    letters = {"hits": "h", "misses": "m", "skipped": "s", "no_ground_truth": "n"}
    for run, names in (
        (two[0], {"extremal": "extremal"}),
        (two[1], {"extremal": "extremal (2)", "rise": "rise"}),
    ):
        totals = {r["method"]: 0 for r in pointing(run).to_pylist()}
        for outcome, letter in letters.items():
            if letter == "n":
                continue  # also that of pairs without a point
            counted = dict.fromkeys(totals, 0)
            for r in pointing(run, Rule()).to_pylist():
                counted[r["method"]] += r[outcome] if r["subset"] == "all" else 0
            for method, name in names.items():
                assert found["hits"][name].count(letter) == counted[method], (method, outcome)
    assert found["hits"]["rise"] == "hnshnhh"  # all at (3, pair), 5 px from the object and more; 4 has none
    for pair in (0, 3, 5):
        places = [(39, 5 * pair % HEIGHT), (0, pair), (3, pair)]
        far = max(math.dist(a, b) for a, b in combinations(places, 2))
        assert found["disagreement"][pair] == pytest.approx(far / math.hypot(WIDTH, HEIGHT), rel=1e-3)
    assert found["disagreement"][4] is None


def test_pairs_join_runs_of_other_shards_and_order(written: tuple[Site, Path]) -> None:
    pairs = read(written[1], "pairs/00000")["pairs"]
    one = pairs[3]
    assert {name: one[name] for name in ("path", "class_name", "width", "height", "region")} == {
        "path": key(3)["path"], "class_name": key(3)["class_name"], "width": WIDTH, "height": HEIGHT,
        "region": [0, 0, WIDTH, HEIGHT],
    }  # fmt: skip
    assert [p["method"] for p in one["points"]] == ["center", "extremal", "extremal (2)", "rise"]
    assert [(p["x"], p["y"]) for p in one["points"]][1:] == [(39, 15), (0, 3), (3, 3)]
    assert [tile["label"] for tile in one["strip"]["tiles"]] == [
        "area 0.125", "area 0.5", "extremal", "rise", "ground truth",
    ]  # fmt: skip
    assert one["strip"]["cells"] == CELLS
    curve = one["curves"][0]
    assert (curve["sizes"], curve["full"], curve["perturbed"]) == (AREAS, 10, 2)
    assert curve["series"][1] == {"name": "delete", "scores": [4, None]}  # NaN is no JSON
    assert pairs[4]["failure"] == {"stage": "decode", "error_type": "ImageError", "error": HOSTILE}
    assert pairs[4]["strip"] is None
    assert pairs[6]["curves"] == []  # its shard is missing, its maps of the other run are there
    assert len(pairs[6]["strip"]["tiles"]) == 2


def test_scripts_hold_no_tag_and_no_line_that_ends_them(written: tuple[Site, Path]) -> None:
    for path in (written[1] / "data").rglob("*.js"):
        text = path.read_text()
        assert "<" not in text
        assert not {"\u2028", "\u2029"} & set(text)
        assert text.count("\n") == 1
    assert script("data/a.js", [math.inf, "\udce9"]) == b'extremal.put("a", [null,"\\udce9"]);\n'


def test_strip_holds_masks_and_truth_of_the_pair(written: tuple[Site, Path]) -> None:
    with Image.open(written[1] / strip_path(3)) as strip:
        strip.load()
    assert strip.mode == "P"
    h, w = CELLS
    assert strip.size == (w + 2, 5 * (h + 2))
    levels = np.asarray(strip).reshape(5, h + 2, w + 2)
    full = render_masks(torch.from_numpy(params(3)).float(), (28, 37), MaskConfig())
    wanted = F.interpolate(full[None], size=(h, w), mode="area")[0].numpy()
    assert abs(levels[:2, 1:-1, 1:-1] / 63 - wanted).mean() < 0.03
    np.testing.assert_array_equal(levels[:, 0], levels[:, 1])  # the replicated border
    mask = np.zeros((HEIGHT, WIDTH))
    mask[5:20, 8:30] = 1
    cells = [[c.mean() for c in np.array_split(r, 5, axis=1)] for r in np.array_split(mask, 4)]
    assert abs(levels[4, 1:-1, 1:-1] / 63 - cells).mean() < 0.08  # rows do not divide evenly
    rgba = np.asarray(strip.convert("RGBA"))
    assert rgba[np.asarray(strip) == 0][:, 3].max(initial=0) == 0


def test_truth_is_the_covered_share_of_each_cell() -> None:
    found = truth(rle(), (WIDTH, HEIGHT), (8.0, 0.0, 40.0, 30.0), (3, 4))
    mask = np.zeros((HEIGHT, WIDTH))
    mask[5:20, 8:30] = 1
    np.testing.assert_allclose(found, mask[:, 8:].reshape(3, 10, 4, 8).mean((1, 3)), atol=1e-6)


def test_maps_of_another_region_are_moved_to_it() -> None:
    tile = np.arange(16, dtype=np.float32).reshape(4, 4)
    moved = resample(tile, (8.0, 8.0, 24.0, 24.0), (0.0, 0.0, 32.0, 32.0), (8, 8))
    np.testing.assert_allclose(moved[2:6, 2:6], tile)
    assert moved[:2].max() == moved[:, 6:].max() == 0
    assert resample(tile, (0, 0, 1, 1), (0, 0, 1, 1), (4, 4)) is tile


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MaskConfig(), (224, 301)),
        (MaskConfig(step=7, sigma=20.0, kernel="paper"), (230, 300)),
        (MaskConfig(step=7, sigma=14.0), (128, 128)),
        (MaskConfig(step=1, sigma=3.0), (30, 40)),
    ],
)
def test_cells_are_averages_of_the_full_masks(config: MaskConfig, shape: tuple[int, int]) -> None:
    rows, columns = (math.ceil(side / config.step) for side in shape)
    y, x = np.mgrid[:rows, :columns]
    discs = [(y - rows * f) ** 2 + (x - columns * f) ** 2 < (0.2 * rows) ** 2 for f in (0.2, 0.5, 0.9)]
    values = np.array([discs], np.float16)
    found = draw_cells(values, shape, config)
    full = render_masks(torch.from_numpy(values).float(), shape, config)[0]
    wanted = F.interpolate(full[None], size=cell_shape(shape, config), mode="area").numpy()
    assert found.shape == wanted.shape
    assert abs(found - wanted).mean() < 0.03 * wanted.mean()
    assert abs(found - wanted).max() < 0.1


def test_classes(written: tuple[Site, Path]) -> None:
    listing = read(written[1], "classes")
    first = listing["classes"][0]  # pairs 0, 2, 4 (failed) and 6 (missing)
    assert {k: first[k] for k in ("pairs", "results", "failed", "mean_a_star", "no_a_star")} == {
        "pairs": 4, "results": 2, "failed": 1, "mean_a_star": 0.5, "no_a_star": 1,
    }  # fmt: skip
    assert first["hits"]["rise"] == [2, 0]  # pair 2 is skipped
    page = read(written[1], "class/00000")
    assert page["pairs"] == [0, 2, 4, 6]
    assert page["a_star"] == {"label": "area", "sizes": AREAS, "counts": [0, 1], "none": 1}


def test_pictures_keep_their_stored_orientation_and_are_small(written: tuple[Site, Path]) -> None:
    with Image.open(written[1] / "pictures/000/000001.jpg") as picture:
        picture.load()
    assert picture.size == (299, 224)
    assert not picture.getexif()


def test_without_the_dataset_there_are_no_pictures(two: list[Run], tmp_path: Path) -> None:
    run = make(tmp_path / "run", kinds.SPATIAL, [0, 1], 3, spatial, str(tmp_path / "gone"))
    site = Site([run])
    assert load(site["data/index-000.js"])["picture"] == [-1, -1]
    found = load(site["data/overview.js"])
    assert not found["has"]["pictures"]
    assert any("give --root" in text for label, text in found["facts"] if label == "pictures")
    with pytest.raises(DatasetError, match="nowhere"):
        Site([run], str(tmp_path / "nowhere"))
    hidden = make(tmp_path / "hidden", kinds.SPATIAL, [0], 3, spatial, "s3://***@bucket/data")
    assert "give --root" in Site([hidden]).records.thumbnails.reason


def test_runs_without_a_common_pair_are_refused(two: list[Run], tmp_path: Path) -> None:
    other = make(tmp_path / "other", kinds.SPATIAL, [8, 9], 3, spatial, str(tmp_path))
    with pytest.raises(RunError, match="has no pair of"):
        Site([two[0], other])


def channel(pair: int) -> dict[Kind, list[dict[str, Any]]]:
    masks = np.array([[0, 1, 0], [0, 1, 1 if pair % 2 else 0.5]], np.float16)
    return {
        kinds.CHANNEL: [
            {
                "layer": "conv", "counts": [1, 2], "masks_shape": [2, 3], "masks": masks.ravel(), "a_star": 2,
                "score_full": 4.0, "score_perturbed": 0.0, "score": [1.0, 2.0], "score_binary": [1.0, 3.0],
                "saliency_shape": [2, 2], "saliency": [0, 1, 2, -4], "activations": [1, 2, 3],
            }
        ],
        kinds.POINTS: [point(pair, "channel", 10, 10)],
    }  # fmt: skip


def inversion(pair: int) -> dict[Kind, list[dict[str, Any]]]:
    of_channel = pair >= 10
    return {
        kinds.INVERSION: [
            {
                "layer": "conv", "objective": "dot", "channel": 1 if of_channel else None,
                "image": b"png %d" % pair,
                "energy": [3.0, 1.0, 0.0], "energy_masked": [1.0, 2.0, 0.0] if pair == 1 else [],
                "image_masked": b"masked" if pair == 1 else None, "cosine_masked": 0.5 if pair == 1 else None,
            }
        ]
    }  # fmt: skip


def test_channels_and_inversions(images: Path, tmp_path: Path) -> None:
    channels = make(tmp_path / "c", kinds.CHANNEL, [0, 1, 2], 2, channel, str(images))
    # Another network's layer of the same name: its pictures are not this run's.
    other = make(tmp_path / "o", kinds.CHANNEL, [0, 1], 1, channel, str(images), inverted=("none", channels))
    runs = [channels]
    for name, order, subject, of in (
        ("foreign", [12], "channels", other),
        ("pictures", [11], "channels", channels),
        ("inversions", [2, 1], "pairs", channels),
    ):
        runs.append(
            make(tmp_path / name, kinds.INVERSION, order, 1, inversion, str(images), inverted=(subject, of))
        )
    site = Site(runs)
    paths = set(site.paths())
    for path in paths:
        if not path.startswith("pictures"):
            assert site[path]
    assert {p for p in paths if p.startswith(("inversions/", "channels/"))} == {
        "inversions/000001.png", "inversions/000001-masked.png", "inversions/000002.png",
        "channels/00001.png",
    }  # fmt: skip
    assert site["inversions/000002.png"] == b"png 2"
    assert site["channels/00001.png"] == b"png 11"
    pairs = load(site["data/pairs/00000.js"])["pairs"]
    assert pairs[0]["inversion"] is None
    assert pairs[1]["inversion"]["masked"] == "inversions/000001-masked.png"
    assert pairs[2]["inversion"]["masked"] is None
    told = dict(pairs[1]["inversion"]["numbers"])
    assert told["removed by the mask"] == "25.0 % of the energy of 3 channels"
    assert told["channels that lost most"] == "0 (50.0 %), 2 (0.0 %), 1 (-25.0 %)"
    assert "removed by the mask" not in dict(pairs[2]["inversion"]["numbers"])
    assert [s["scores"] for s in pairs[0]["curves"][0]["series"]] == [[1, 3], [1, 2]]
    page = load(site["data/class/00000.js"])
    assert page["mean_mask"] == [0, 1, 0.5]
    assert page["a_star"] == {"label": "channels", "sizes": [1, 2], "counts": [0, 2], "none": 0}
    top = page["channels"][0]
    assert (top["channel"], top["kind"], top["value"], top["picture"]) == (1, "top", 1, "channels/00001.png")
    alone = Site([runs[2]])  # the pairs of which are channels
    assert "inversions/000000.png" in set(alone.paths())
    assert alone["inversions/000000.png"] == b"png 11"
    assert load(alone["data/pairs/00000.js"])["pairs"][0]["inversion"]["whole"] == "inversions/000000.png"
    levels = np.asarray(Image.open(BytesIO(site[strip_path(0)])))[1:-1, 1:-1]
    np.testing.assert_array_equal(levels, [[0, 32], [63, 0]])  # eq. 11 over its largest value, none below 0


def channel_pictures(place: Path, channels: Run, root: str) -> Run:
    """Inversions of channels 2, which failed, and 1: a run whose units are no pairs."""
    config = build_config({"dataset": {"name": "coco", "split": "v"}, "network": {"name": "resnet18"}})
    settings = {**stored_tree(config), "inversion": {"subject": "channels"}}
    data = Data(channels=channels.manifest.config_hash)
    manifest = Manifest(
        "inversion", settings, MODEL, data, unit=CHANNEL_OF_LAYER.name, dataset=DatasetRecord(root)
    )
    units = [{"unit": i, "layer": "conv", "channel": channel} for i, channel in enumerate((2, 1))]
    schema = CHANNEL_OF_LAYER.plan
    plan = pa.Table.from_pylist([row(schema, **unit, shard=unit["unit"]) for unit in units], schema=schema)
    run = Run.create(str(place), manifest, plan)

    def table(kind: Kind, **values: Any) -> pa.Table:
        schema = kind.schema(CHANNEL_OF_LAYER)
        return pa.Table.from_pylist([row(schema, **values)] if values else [], schema=schema)

    failure = {"stage": "optimize", "error_type": "ValueError", "error": HOSTILE}
    run.commit(
        0,
        {
            kinds.INVERSION: table(kinds.INVERSION),
            kinds.FAILURES: table(kinds.FAILURES, **units[0], **failure),
        },
    )
    picture = {"objective": "channel", "image": b"png 1", "cosine": 0.5}
    run.commit(1, {kinds.INVERSION: table(kinds.INVERSION, **units[1], **picture)})
    return run


def test_a_run_whose_units_are_channels(images: Path, tmp_path: Path) -> None:
    channels = make(tmp_path / "c", kinds.CHANNEL, [0, 1, 2], 2, channel, str(images))
    pictures = channel_pictures(tmp_path / "pictures", channels, str(images))
    site = Site([channels, pictures])  # it has nothing of the pairs, and the pictures of their channels
    assert [path for path in site.paths() if path.startswith(("inversions/", "channels/"))] == [
        "channels/00001.png"
    ]
    assert site["channels/00001.png"] == b"png 1"
    assert load(site["data/class/00000.js"])["channels"][0]["picture"] == "channels/00001.png"
    assert load(site["data/pairs/00000.js"])["pairs"][1]["inversion"] is None

    alone = Site([pictures])  # its channels stand in the place of pairs
    overview = load(alone["data/overview.js"])
    assert overview["counts"] == {"pairs": 2, "results": 1, "failed": 1, "missing": 0}
    assert overview["failures"]["rows"] == [["0", "conv", "2", "optimize", "ValueError", HOSTILE]]
    assert overview["classes"] == ["channel 1", "channel 2"]
    assert load(alone["data/index-000.js"])["state"] == "fr"
    failed, shown = load(alone["data/pairs/00000.js"])["pairs"]
    assert failed["failure"]["error"] == HOSTILE
    assert (shown["image_id"], shown["class_name"], shown["target"]) == ("conv:1", "channel 1", None)
    assert shown["inversion"]["whole"] == "inversions/000001.png"
    assert alone["inversions/000001.png"] == b"png 1"
    assert {path for path in alone.paths() if path.startswith("inversions/")} == {"inversions/000001.png"}
    with pytest.raises(RunError, match="has no pair of"):
        Site([pictures, channels])


def test_what_does_not_belong_to_the_report_is_refused(images: Path, two: list[Run], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is given 2 times"):
        Site([two[0], two[1], Run.open(two[0].uri)])
    of = ("pairs", two[0])
    foreign = make(tmp_path / "f", kinds.INVERSION, [40], 1, inversion, str(images), inverted=of)
    with pytest.raises(RunError, match="has no pair of"):
        Site([two[0], foreign])
    channels = make(tmp_path / "c", kinds.CHANNEL, [0, 1, 2], 2, channel, str(images))
    write_scores(channels, "ablation", pa.table({"other": [1]}))
    with pytest.raises(RunError, match="holds another table: `extremal ablate` makes it anew"):
        write_site(Site([channels]), str(tmp_path / "site"), Console(quiet=True))


def test_an_image_of_another_shape_than_was_explained_is_not_shown(two: list[Run], tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(two[0].manifest.dataset.root, root)
    path = root / str(key(6)["path"])
    for size, shown in (((WIDTH, HEIGHT), True), ((3 * WIDTH, 3 * HEIGHT + 1), True), ((40, 10), False)):
        Image.new("RGB", size).save(path, "JPEG")
        site = Site(two, str(root))
        if shown:
            assert site["pictures/000/000003.jpg"]
            continue
        with pytest.raises(KeyError):
            _ = site["pictures/000/000003.jpg"]
        assert "40x10, and was 40x30 when it was explained" in site.records.thumbnails.unreadable[3]


@pytest.mark.parametrize("arguments", [["b\udcff"], ["RUN", "--out", "b\udcff"], [""]])
def test_a_place_that_is_none_is_one_line(two: list[Run], arguments: list[str]) -> None:
    given = [text.replace("RUN", two[0].uri) for text in arguments]
    result = CliRunner().invoke(app, ["report", *given])
    assert result.exit_code == 2, result.output
    assert "error: " in result.output
    assert "UTF-8" in result.output or "it is empty" in result.output


@pytest.fixture
def server(two: list[Run]) -> Iterator[Server]:
    with Server(Site(two), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: Server, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={"Host": host or f"localhost:{server.server_port}"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def test_serve_gives_the_same_bytes_to_this_machine_alone(server: Server, written: tuple[Site, Path]) -> None:
    assert server.server_address[0] == "127.0.0.1"
    out = written[1]
    for path in (
        "data/pairs/00000.js",
        "data/classes.js",
        "index.html",
        strip_path(3),
        "pictures/000/000001.jpg",
    ):
        status, content, headers = ask(server, f"/{path}")
        assert (status, content) == (200, (out / path).read_bytes()), path
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/")[1] == ask(server, "/index.html?i=3")[1]
    status, content, headers = ask(server, "/index.html", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/../run.json", "/%2e%2e/run.json", "/pages/../site.py", "//etc/passwd", "/etc/passwd", "/site.py",
        "/data/pairs/99999.js", "/data/index-009.js", "/strips/000/000004.png", "/strips/001/000003.png",
        "/pictures/000/000002.jpg", "/pictures/000/000099.jpg", "/data/class/00009.js", "/similarity.png",
        "/channels/00000.png", "/inversions/000000.png",
    ],
)  # fmt: skip
def test_serve_has_nothing_else(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_serve_refuses_other_names_and_other_methods(server: Server) -> None:
    assert ask(server, "/", host="attacker.example")[0] == 403
    assert ask(server, "/", host="localhost.attacker.example:80")[0] == 403
    assert ask(server, "/", host="127.0.0.1")[0] == 200
    assert ask(server, "/", "POST")[0] == 501


def test_commands(two: list[Run], tmp_path: Path) -> None:
    runner = CliRunner()
    out = tmp_path / "site"
    result = runner.invoke(app, ["report", two[0].uri, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"Open {out}/index.html" in result.output.replace("\n", "")
    assert "1 images cannot be read" in result.output
    for arguments in (["report", str(tmp_path / "no")], ["serve", str(tmp_path / "no")]):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 2
        assert "No run at" in result.output
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["report", two[0].uri, "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "Cannot write" in result.output


# ---- processes ------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """The processes that write, once there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [child for child, line in below(pid).items() if "spawn_main" in line]
        if found:
            return found
        time.sleep(0.02)
    pytest.fail("no process writes the report")


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.fixture
def writing(two: list[Run], tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = start([*EXTREMAL, "report", two[0].uri], tmp_path / "site")
    yield process
    process.kill()
    process.communicate()


def test_no_process_of_a_report_imports_torch_or_ray(two: list[Run], tmp_path: Path) -> None:
    """They would be four fifths of the memory of each."""
    for name in ("torch", "torchvision", "ray"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text("raise ImportError('not for a report')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), *sys.path])}
    command = [*EXTREMAL, "report", two[0].uri, two[1].uri, "--out", str(tmp_path / "site")]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def test_writers_end_with_a_killed_command(writing: "subprocess.Popen[str]") -> None:
    found = children(writing.pid)
    writing.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not all(map(gone, found)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in found if not gone(pid)]
    for pid in left:  # or they would hold the command's output open, and this test with it
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_a_lost_writer_ends_the_command_with_a_message(writing: "subprocess.Popen[str]") -> None:
    os.kill(children(writing.pid)[0], signal.SIGKILL)
    output = writing.communicate(timeout=60)[0]
    assert writing.returncode == 2
    assert "was ended" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "stopped"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_report_says_so(
    writing: "subprocess.Popen[str]", number: signal.Signals, code: int, said: str
) -> None:
    children(writing.pid)
    if number == signal.SIGINT:
        os.killpg(writing.pid, number)
    else:
        writing.send_signal(number)
    output = writing.communicate(timeout=60)[0]
    assert writing.returncode == code
    assert f"{said}. The same command writes the pages again." in output
    assert "Traceback" not in output
    assert "resource_tracker" not in output


def test_what_a_writer_finds_unreadable_is_known_to_all_and_told_once(two: list[Run], tmp_path: Path) -> None:
    """Also of an image that was whole when its pairs, 0 and 1, were explained."""
    root = tmp_path / "images"
    shutil.copytree(two[0].manifest.dataset.root, root)
    (root / str(key(0)["path"])).write_bytes(b"no longer")
    command = [*EXTREMAL, "report", two[0].uri, "--root", str(root), "--out", str(tmp_path / "site")]
    output = subprocess.run(command, text=True, capture_output=True, check=True)
    assert output.stderr.count("no picture: ") == 2
    assert "2 images cannot be read" in output.stdout
    assert read(tmp_path / "site", "index-000")["picture"] == [-1, -1, 1, 1, -1, -1, 3]
    pictures = [pair["picture"] for pair in read(tmp_path / "site", "pairs/00000")["pairs"]]
    assert pictures == [-1, -1, 1, 1, -1, -1, 3]
    assert ["pictures", "4 images, 2 of them cannot be read"] in read(tmp_path / "site", "overview")["facts"]


def test_a_writer_believes_what_another_found_unreadable(two: list[Run], tmp_path: Path) -> None:
    site = Site(two)
    shard = next(part for part in site.parts() if part.name == SHARD)
    assert _Writer(site, _Folder(str(tmp_path))).write(shard, [0]).unreadable == {}
    assert [pair["picture"] for pair in read(tmp_path, "pairs/00000")["pairs"]][:3] == [-1, -1, 1]


def test_a_report_shows_the_run_as_it_was_when_it_began(images: Path, tmp_path: Path) -> None:
    """A shard comes in between that and the writers' start."""
    run = make(tmp_path / "run", kinds.SPATIAL, list(range(PAIRS)), 3, spatial, str(images))
    uncommit(run, 0, 2)
    site = Site([run])
    late = make(tmp_path / "late", kinds.SPATIAL, list(range(PAIRS)), 3, spatial, str(images))
    for kind in ("points", "spatial"):
        shutil.copy(f"{late.root}/{kind}/shard-000000.parquet", f"{run.root}/{kind}/shard-000000.parquet")
    write_site(site, str(tmp_path / "site"), Console(quiet=True))
    assert read(tmp_path / "site", "index-000")["state"] == "mmmrfrm"
    pairs = read(tmp_path / "site", "pairs/00000")["pairs"]
    assert [bool(pair["points"]) for pair in pairs] == [False, False, False, True, False, True, False]


def test_hits_follow_the_rule_that_is_asked_for(two: list[Run], tmp_path: Path) -> None:
    strict = load(Site(two, rule=Rule(0.0))["data/index-000.js"])["hits"]["rise"]
    kind = load(Site(two)["data/index-000.js"])["hits"]["rise"]
    assert strict != kind
    result = CliRunner().invoke(
        app, ["report", *(run.uri for run in two), "--tolerance", "0", "--out", str(tmp_path / "site")]
    )
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "site", "index-000")["hits"]["rise"] == strict
    assert ["rule of a hit", str(Rule(0.0))] in read(tmp_path / "site", "overview")["facts"]
