"""Reports of real runs in a real browser: what the pages show against the Parquet of the runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import torch
from browsing import check_accessible, choose, drawn, needs_chromium, new_page, shown
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from runs import SETTINGS, compute
from torch import Tensor, nn
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.options import assemble
from extremal.jobs.report.serve import Server
from extremal.jobs.report.site import Site
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.config import merge
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.storage import Run
from extremal.workers.images import Preprocess

pytestmark = needs_chromium
CARDS, TOP, TOLERANCE_PX = 24, 10, 15
PAIRS_OPENED, CLASSES_OPENED = 5, 3  # at most about so many
METHODS = ("grad_cam", "gradient")
OUTCOMES = {"h": "hit", "m": "miss", "s": "skipped", "n": "none"}

# Outputs of the network of our own, and files of its images: what could be taken for markup, an escape, a
# query or an object's key, or turns the direction of writing, or ends a line.
NAMES = (
    "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "&lt;b&gt; &amp; 100% #1?c=0&i=1",
    "猫 🐈 é \u202e\u2028x", "__proto__", "`${alert(1)}` \\u003cb\\",
)  # fmt: skip
FILES = (
    "<script>alert(1)</script>.png", "\"><img src=x onerror=alert(1)>.jpg", "100% &amp; 50%25 #1?i=2&c=0.png",
    "it's \"quoted\" \\ `${alert(1)}`.jpeg", "猫 🐈 e\u0301 \u202e\u2028x.png", "%2e%2e%2f%3Cb%3E +.jpg",
    "javascript:alert(1).png", "constructor.png",
)  # fmt: skip
BROKEN = "broken <b>&#39; %s {} \n.png"


class ByColour(nn.Module):
    """Six outputs: how red, green, blue, cyan, magenta and yellow an image is."""

    classes = NAMES
    preprocess = Preprocess(48, None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 5, stride=2, bias=False)
        colours = torch.cat([torch.eye(3), -torch.eye(3)])
        self.features.weight.data = (colours[:, :, None, None] / 25).expand(6, 3, 5, 5).clone()

    def forward(self, x: Tensor) -> Tensor:
        return 100 * self.features(x).relu().mean((2, 3))


def by_colour() -> nn.Module:
    return ByColour()


def draw_own_images(root: Path) -> None:
    """A disc of some colour on its opposite, in every file; and one that is no image."""
    y, x = np.mgrid[:45, :60]
    for i, name in enumerate(FILES):
        colour = np.array([255 * (i % 6 % 3 == channel) for channel in range(3)])
        colour = 255 - colour if i % 6 > 2 else colour
        disc = np.hypot(y - 18 - i, x - 25) < 6 + 2 * i
        path = root / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.where(disc[..., None], colour, 128).astype(np.uint8)).save(path)
    (root / BROKEN).write_bytes(b"no image")


# ---- real runs ------------------------------------------------------------------------------------


def run_all(place: Path, settings: dict[str, Any], inverted: int) -> list[Run]:
    """Masks, maps and channels of the same pairs; inversions of the first `inverted` and of channels."""

    def one(name: str, flags: dict[str, Any]) -> Run:
        return compute(assemble(None, "torchray", flags, "cpu"), place / name)

    spatial = one("spatial", merge(settings, {}))
    maps = one("maps", merge(settings, {"method": ",".join(METHODS), "saliency": {"maps": 12}}))
    channels = one("channels", merge(settings, {"method": "channel"}))
    inversion = {"method": "inversion", "steps": 3, "inversion": {"channels": channels.uri, "jitter": 2}}
    pairs = one("inversions", merge(inversion, {"dataset": {"limit": inverted}}))
    pictures = one("pictures", merge(inversion, {"inversion": {"subject": "channels"}}))
    return [spatial, maps, channels, pairs, pictures]


def voc_runs(place: Path, shared: Path) -> list[Run]:
    settings = {
        "dataset": {"name": "voc", "root": str(shared), "split": "2007:test", "limit": 6},
        "network": {"name": "squeezenet1_1", "weights": f"{shared}/weights/squeezenet1_1.pth", "resize": 80},
        "spatial": {
            "areas": [0.05, 0.3], "mask": {"step": 7, "sigma": 14.0},
            "schedule": {"steps": 6, "lr": 0.1},
        },
        "channel": {"layer": "features.12", "counts": [1, 50, 250], "schedule": {"steps": 8}},
        "batch": 6,
    }  # fmt: skip
    return run_all(place, settings, 3)


def shapes_runs(place: Path) -> list[Run]:
    make_shapes(place / "shapes", train=1, test=15)
    (place / "shapes/VOCdevkit/VOC2007/JPEGImages/000004.jpg").write_bytes(b"no image")
    return run_all(place, merge(SETTINGS, {"dataset": {"root": str(place / "shapes")}, "shard_size": 8}), 6)


def own_runs(place: Path) -> list[Run]:
    draw_own_images(place / "images")
    settings = {
        "dataset": {"name": "folder", "root": str(place / "images")},
        "network": {"name": f"{__name__}:by_colour"},
        "spatial": {
            "areas": [0.1, 0.4], "mask": {"step": 6, "sigma": 6.0}, "schedule": {"steps": 20, "lr": 0.1},
            "tau": 0.9,
        },
        "channel": {"layer": "features", "counts": [1, 3], "schedule": {"steps": 4}},
        "saliency": {"layers": {"cam": "features"}},
        "shard_size": 4, "batch": 4,
    }  # fmt: skip
    return run_all(place, settings, 3)


# ---- reports of them ------------------------------------------------------------------------------


def parquet(run: Run, name: str, columns: Sequence[str]) -> pd.DataFrame:
    return pd.read_parquet(Path(run.uri) / name, columns=list(columns))


@dataclass(frozen=True)
class Report:
    """Where a report's pages are, and what they must show.

    Attributes:
        base: URL of the site.
        runs: spatial, saliency, channel, inversions of pairs, of channels.
        selective: filters that select some of its pairs and not all.
    """

    base: str
    runs: list[Run]
    selective: frozenset[str]

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """By pair: image, label, state, a_star and, by `outcome METHOD`, a letter."""
        found = parquet(self.runs[0], "plan.parquet", ["pair", "image_id", "path", "class_id", "class_name"])
        found = found.set_index("pair")
        results = parquet(self.runs[0], "spatial", ["pair", "target", "target_name", "a_star"])
        found = found.join(results.set_index("pair"))
        found["state"] = ["f" if pd.isna(target) else "r" for target in found["target"]]
        unknown = found["class_id"] < 0
        found.loc[unknown, "class_id"] = found["target"].fillna(-1)
        found["label"] = found["class_name"].where(~unknown, found["target_name"].fillna("unknown"))
        for run in self.runs[:3]:
            points = parquet(run, "points", ["pair", "image_id", "method", "distance2", "all_difficult"])
            assert (points["image_id"].to_numpy() == found["image_id"][points["pair"]].to_numpy()).all()
            for method, of_method in points.groupby("method"):
                outcomes = of_method.set_index("pair").apply(outcome, axis=1)
                found[f"outcome {method}"] = outcomes.reindex(found.index, fill_value="n")
        return found

    @cached_property
    def classes(self) -> list[str]:
        """Labels in the order of their numbers."""
        return list(dict.fromkeys(self.pairs.sort_values(["class_id", "label"])["label"]))

    @property
    def methods(self) -> list[str]:
        return sorted(name.removeprefix("outcome ") for name in self.pairs if name.startswith("outcome "))

    def ids(self, chosen: pd.Series) -> list[int]:
        return [int(pair) for pair in self.pairs.index[chosen]]

    def row(self, run: int, kind: str, pair: int, columns: Sequence[str]) -> Any:
        """The row of a pair, None if the run has none."""
        found = parquet(self.runs[run], kind, ["pair", *columns])
        found = found[found["pair"] == pair]
        return found.iloc[0] if len(found) else None


def outcome(point: pd.Series) -> str:
    """Of the pointing game."""
    if point["all_difficult"]:
        return "s"
    if pd.isna(point["distance2"]):
        return "n"
    return "h" if point["distance2"] < TOLERANCE_PX**2 else "m"


def written(runs: list[Run], out: Path, selective: Sequence[str]) -> Report:
    """The report of `extremal report`, on disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extremal.jobs.report.write.WRITERS", 1)
        result = CliRunner().invoke(app, ["report", *(run.uri for run in runs), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return Report(out.as_uri(), runs, frozenset(selective))


@contextmanager
def serving(runs: list[Run]) -> Iterator[str]:
    with Server(Site(runs), 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


WITH_TRUTH = ("class", "method outcome", "disagree")


@pytest.fixture(scope="module")
def voc(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    place = tmp_path_factory.mktemp("voc")
    return written(voc_runs(place, shared_data), place / "site", WITH_TRUTH)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Report:
    place = tmp_path_factory.mktemp("shapes")
    return written(shapes_runs(place), place / "site", (*WITH_TRUTH, "amin amax", "anone", "state"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Report:
    place = tmp_path_factory.mktemp("own")
    return written(own_runs(place), place / "site", ("class", "amin amax", "state"))


@pytest.fixture(scope="module", params=["voc", "shapes", "own"])
def report(request: pytest.FixtureRequest) -> Report:
    found: Report = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page for all tests, since each of its own would cost a process, and what has gone wrong in it."""
    faults: list[str] = []
    page = new_page(browser, faults)
    yield page, faults
    page.context.close()


@pytest.fixture
def page(tab: tuple[Page, list[str]]) -> Iterator[Page]:
    tab[1].clear()
    yield tab[0]
    assert tab[1] == []


# ---- the pages ------------------------------------------------------------------------------------


def texts(nodes: Locator) -> list[str]:
    """Texts to the letter, which expect() does not compare."""
    return nodes.all_text_contents()


def loaded(nodes: Locator) -> list[tuple[str, int, int]]:
    """Address, width and height of images or of the pictures behind tiles, each of which must load."""
    script = """nodes => Promise.all(nodes.map(async node => {
        const image = node.tagName === "IMG" ? node : new Image();
        if (image !== node) image.src = getComputedStyle(node).backgroundImage.slice(5, -2);
        image.loading = "eager";
        await image.decode();
        return [image.src, image.naturalWidth, image.naturalHeight];
    }))"""
    found = nodes.evaluate_all(script)
    assert all(width > 0 and height > 0 for _, width, height in found), found
    return [(address, width, height) for address, width, height in found]


def contents(nodes: Locator) -> list[bytes]:
    """The files of images, each of which must load."""
    return [_read(address) for address, _, _ in loaded(nodes)]


def _read(address: str) -> bytes:
    with urlopen(address) as file:
        return bytes(file.read())


def cells(rows: Locator) -> list[list[str]]:
    return [texts(row.locator("td")) for row in rows.all()]


def section(page: Page, title: str) -> Locator:
    return page.locator("section").filter(has=page.get_by_role("heading", name=title, exact=True))


def goto(page: Page, report: Report, name: str) -> None:
    page.goto(f"{report.base}/{name}")
    drawn(page)


def check_text_only(page: Page) -> None:
    """No name became an element."""
    assert page.locator("main script, main b, img[src=x]").count() == 0
    assert page.locator("script:not([src])").count() == 0


def test_the_overview_shows_counts_and_scores(report: Report, page: Page) -> None:
    goto(page, report, "index.html")
    states = list(report.pairs["state"])
    counts = [len(states), states.count("r"), states.count("f"), 0]
    assert texts(page.locator(".count strong")) == [str(n) for n in counts]
    assert len(texts(section(page, "Runs").locator("tbody tr"))) == len(report.runs)
    found = cells(page.locator("section tbody tr"))
    for method in report.methods:
        outcomes = list(report.pairs[f"outcome {method}"])
        hits, misses = outcomes.count("h"), outcomes.count("m")
        (pooled,) = {row[3] for row in found if row[:2] == [method, "all"]} or {"-"}
        assert pooled.endswith(f"({hits}/{hits + misses})") or not hits + misses, method
    spatial = parquet(report.runs[0], "spatial", ["areas", "score_preserve"])
    for area, scores in zip(spatial["areas"][0], zip(*spatial["score_preserve"], strict=True), strict=True):
        (mean,) = [row[2] for row in found if row[:2] == ["mask", f"{area:.4g}"]]
        assert mean == f"{np.mean(scores):.4g} ({len(spatial)})"
    failed = report.pairs[report.pairs["state"] == "f"]
    assert [row[1] for row in found if row[3:4] == ["decode"]] == list(failed["image_id"])
    check_text_only(page)


def queries(report: Report, option: dict[str, str]) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Filters and the pairs they select. option: value of the menu's option of each class."""
    pairs = report.pairs
    for label, value in option.items():
        yield {"class": value}, report.ids(pairs["label"] == label)
    for method in report.methods:
        for letter in sorted(set(pairs[f"outcome {method}"])):
            yield {"method": method, "outcome": letter}, report.ids(pairs[f"outcome {method}"] == letter)
    for area in parquet(report.runs[0], "spatial", ["areas"])["areas"][0]:
        near = np.isclose(pairs["a_star"].astype(float), area)
        yield {"amin": f"{area:.4g}", "amax": f"{area:.4g}"}, report.ids(pd.Series(near, pairs.index))
    yield {"anone": "on"}, report.ids(pairs["a_star"].isna() & (pairs["state"] == "r"))
    for state in "rfm":
        yield {"state": state}, report.ids(pairs["state"] == state)
    columns = pairs[[f"outcome {method}" for method in report.methods if method != "center"]]
    yield {"disagree": "on"}, report.ids((columns == "h").any(axis=1) & (columns == "m").any(axis=1))
    yield {"sort": "a-up"}, [int(pair) for pair in pairs.sort_values("a_star", kind="stable").index]


def test_filters_select_what_the_parquet_says(report: Report, page: Page) -> None:
    goto(page, report, "gallery.html")
    total = len(report.pairs)
    menu = page.locator("[name=class] option")
    names = menu.evaluate_all("nodes => nodes.map(n => [n.textContent, n.value])")
    sizes = report.pairs["label"].value_counts()
    option = {label: dict(names)[f"{label} ({sizes[label]})"] for label in report.classes}
    assert len(names) == len(option) + 1
    selective = set()
    for query, ids in queries(report, option):
        choose(page, query)
        expect(page.locator("#status")).to_have_text(f"{len(ids)} of {total} pairs")
        assert shown(page) == ids[:CARDS], query
        assert texts(page.locator(".card .name")) == list(report.pairs["label"][ids[:CARDS]])
        assert texts(page.locator(".card .image")) == list(report.pairs["image_id"][ids[:CARDS]])
        if 0 < len(ids) < total:
            selective.add(" ".join(query))
    assert selective >= report.selective
    check_text_only(page)


def test_pages_turn_and_cards_have_pictures(report: Report, page: Page) -> None:
    goto(page, report, "gallery.html")
    ids = list(report.pairs.index)
    pages = [ids[start : start + CARDS] for start in range(0, len(ids), CARDS)]
    further = page.get_by_role("button", name="Next page").first
    for number, some in enumerate(pages, 1):
        expect(page.locator(".pager span").first).to_have_text(f"page {number} of {len(pages)}")
        assert shown(page) == some
        readable = report.pairs["state"][some] == "r"
        assert len(loaded(page.locator(".card img"))) == sum(readable)
        page.locator(".card").last.scroll_into_view_if_needed()
        expect(page.locator(".card .tile")).to_have_count(sum(readable))
        loaded(page.locator(".card .tile"))
        if number < len(pages):
            further.click()
    expect(further).to_be_disabled()
    name = report.pairs["label"].iloc[-1]
    page.locator(".card").last.click()
    drawn(page)
    assert texts(page.locator("h1")) == [f"{name}, pair {ids[-1]}"]


def number(text: str) -> float:
    """Of a page, which groups thousands."""
    return float(text.replace(",", ""))


def check_viewer(report: Report, page: Page, pair: int) -> None:
    """The picture, and over it the maps of every run with the scores of the masks."""
    spatial = report.row(0, "spatial", pair, ["areas", "score_preserve", "score_delete"])
    layer = report.row(2, "channel", pair, ["layer"])["layer"]
    names = [f"extremal, area {area:.3g}" for area in spatial["areas"]] + [*METHODS, f"channels of {layer}"]
    buttons = page.locator(".tiles button")
    assert texts(buttons.locator("> span:nth-child(2)")) == ["picture", *names]
    assert len(loaded(page.locator(".viewer img"))) == len(names) + 2
    strips = set(loaded(page.locator(".viewer .tile")))
    ((address, _, height),) = strips
    assert address.endswith(f"strips/000/{pair:06d}.png")
    assert height % len(names) == 0
    scores = [number(text) for text in texts(buttons.locator(".small")) if text]
    assert scores == pytest.approx(list(spatial["score_preserve"]), rel=1e-2)
    last = len(scores) - 1
    buttons.filter(has_text=names[last]).click()
    expect(page.locator(".big figcaption")).to_contain_text(names[last])
    (caption,) = texts(page.locator(".big figcaption"))
    told, kept, deleted = caption.split(" · ")
    assert told == names[last]
    assert number(kept.removeprefix("score ")) == pytest.approx(spatial["score_preserve"][last], rel=1e-3)
    assert number(deleted.removeprefix("deleted ")) == pytest.approx(spatial["score_delete"][last], rel=1e-3)


def check_curves(report: Report, page: Page, pair: int) -> None:
    """Score against area and against channels, in numbers and with a*."""
    wanted = (
        (0, "spatial", "areas", "score_preserve", "score_delete"),
        (2, "channel", "counts", "score_binary", "score"),
    )
    figures = page.locator(".curve")
    assert figures.count() == len(wanted)
    for i, (run, kind, *columns) in enumerate(wanted):
        row, figure = report.row(run, kind, pair, [*columns, "a_star"]), figures.nth(i)
        assert figure.locator(".dot").count() == 2 * len(row[columns[0]]) + 2  # those of the legend
        found = [[number(cell) for cell in line] for line in cells(figure.locator("tbody tr"))]
        np.testing.assert_allclose(np.transpose(found), [*row[columns]], rtol=1e-3)
        has_star = not pd.isna(row["a_star"])
        star = f"a* = {row['a_star']:.3g}" if has_star else "no a*: no size keeps the full score"
        assert texts(figure.locator("> figcaption > .note")) == [f" {star}"]
        assert figure.locator(".astar").count() == has_star


def check_inversion(report: Report, page: Page, pair: int) -> None:
    """The stored pictures, or nothing where the pair has not been inverted."""
    row = report.row(3, "inversion", pair, ["image", "image_masked"])
    stored = [] if row is None else [row["image"], row["image_masked"]]
    assert contents(page.locator("img.inverted")) == 2 * stored  # alone, and then for their difference
    assert section(page, "Feature inversion").count() == (row is not None)


def test_a_pair_has_its_picture_overlays_curves_and_inversions(report: Report, page: Page) -> None:
    results = report.ids(report.pairs["state"] == "r")
    for pair in results[:: 1 + len(results) // PAIRS_OPENED]:
        known = report.pairs.loc[pair]
        goto(page, report, f"pair.html?i={pair}")
        assert texts(page.locator("h1")) == [f"{known['label']}, pair {pair}"]
        assert page.title().startswith(f"{' '.join(known['label'].split())}, pair {pair}")
        facts = dict(zip(texts(page.locator("dt")), texts(page.locator("dd")), strict=True))
        assert (facts["image"], facts["file"]) == (known["image_id"], known["path"])
        assert texts(page.get_by_role("link", name="All of")) == [f"All of {known['label']}"]
        check_viewer(report, page, pair)
        check_curves(report, page, pair)
        check_inversion(report, page, pair)
        found = {row[0]: row[1] for row in cells(section(page, "Points").locator("tbody tr"))}
        assert found == {method: OUTCOMES[known[f"outcome {method}"]] for method in report.methods}
        check_text_only(page)


@pytest.mark.parametrize("report", ["shapes", "own"], indirect=True)
def test_a_failed_pair_says_why(report: Report, page: Page) -> None:
    for pair in report.ids(report.pairs["state"] == "f"):
        error = report.row(0, "failures", pair, ["stage", "error_type", "error"])
        goto(page, report, f"pair.html?i={pair}")
        assert texts(page.locator("h1")) == [f"{report.pairs['label'][pair]}, pair {pair}"]
        told = f"Failed at {error['stage']}: {error['error_type']} {error['error']}"
        assert texts(page.locator(".failure")) == [told]
        assert page.locator("main img").count() == 0
        check_text_only(page)


def test_a_class_has_its_channels_and_their_pictures(report: Report, page: Page) -> None:
    goto(page, report, "classes.html")
    assert texts(page.locator("table").first.locator("tbody tr td:first-child")) == report.classes
    loaded(page.locator("main img"))
    channel_rows = class_channels(report.runs[2], TOP).to_pylist()
    rows = {(row["class_id"], row["class_name"]): row for row in channel_rows}
    pictures = parquet(report.runs[4], "inversion", ["channel", "image"]).set_index("channel")["image"]
    for number, label in enumerate(report.classes[:CLASSES_OPENED]):
        mine = report.pairs[report.pairs["label"] == label]
        goto(page, report, f"class.html?c={number}")
        assert texts(page.locator("h1")) == [label]
        assert shown(page) == list(mine.index)
        row = rows.get((mine["class_id"].iloc[0], label), {})
        channels = [*(row.get("top_channels") or []), *(row.get("specific_channels") or [])]
        found = [int(text.split()[1]) for text in texts(page.locator(".channel h3"))]
        assert found == channels
        wanted = [pictures[channel] for channel in channels if channel in pictures]
        assert contents(page.locator("img.inverted")) == wanted
        assert wanted or not channels
        check_examples(report, page)
        assert (page.locator(".examples li").count() > 0) == bool(channels)
        check_text_only(page)


def check_examples(report: Report, page: Page) -> None:
    """Each example is the picture of a pair, with its class's name."""
    examples = page.locator(".examples li")
    assert len(loaded(examples.locator("img"))) == examples.count()
    addresses = examples.locator("a").evaluate_all("nodes => nodes.map(n => n.search)")
    named = [report.pairs["label"][int(address.removeprefix("?i="))] for address in addresses]
    assert [text.rsplit(" ", 1)[0] for text in texts(examples)] == named


def test_axe_finds_nothing(report: Report, page: Page) -> None:
    failed = report.ids(report.pairs["state"] == "f")
    pairs = [f"pair.html?i={pair}" for pair in (0, *failed[:1])]
    for name in ("index.html", "gallery.html", *pairs, "classes.html", "class.html?c=0"):
        goto(page, report, name)
        check_accessible(page)


def said(page: Page, report: Report, name: str) -> tuple[str, list[tuple[str, int, int]]]:
    """What a page says, and its pictures without their place."""
    goto(page, report, name)
    pictures = loaded(page.locator("main img, .viewer .tile"))
    return page.locator("main").inner_text(), [(urlsplit(a).path[-10:], w, h) for a, w, h in pictures]


def test_serve_shows_the_same_pages(own: Report, page: Page) -> None:
    names = ["index.html", "gallery.html", "pair.html?i=0", "pair.html?i=8", "classes.html", "class.html?c=1"]
    disk = [said(page, own, name) for name in names]
    with serving(own.runs) as base:
        served = Report(base, own.runs, own.selective)
        for name, wanted in zip(names, disk, strict=True):
            assert said(page, served, name) == wanted, name
            check_text_only(page)
        goto(page, served, "gallery.html")
        expect(page.locator(".card .tile")).to_have_count(len(FILES))
        loaded(page.locator(".card .tile"))
