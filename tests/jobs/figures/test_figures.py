"""Figures from the store: what is in their axes, against the stored rows and pictures made independently."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from helpers import row, rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.drawing import ORANGE, encode, heat
from extremal.jobs.figures import (
    area_growth,
    channel_curve,
    channels_of_classes,
    compare_methods,
    inversion_difference,
    inversions_of_classes,
    masks_of_areas,
    save,
    score_curve,
)
from extremal.jobs.figures.write import PER_CLASS, PER_PAIR
from extremal.pipeline.errors import DatasetError
from extremal.storage import Run, RunError, kinds
from extremal.storage.kinds import PAIR, Kind
from extremal.storage.manifest import Data, DatasetRecord, Manifest, Model
from extremal.workers.extremal.masks import mask_family, render_masks
from extremal.workers.extremal.settings import MaskConfig, SpatialConfig

HEIGHT, WIDTH = 32, 48
AREAS = [0.125, 0.25, 0.5]
COUNTS = [1, 2, 4]
MASK = MaskConfig(step=8, sigma=8.0)
MODEL = Model("toy", resize=HEIGHT, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
HOSTILE = r"$\frac$ <b>'\"& ü 犬"
NAMES = ["cat", "dog", HOSTILE, "cat"]
RNG = np.random.default_rng(0)


def key(i: int) -> dict[str, Any]:
    name = NAMES[i]
    return {"image_id": f"im{i}", "path": f"im{i}.png", "class_id": NAMES.index(name), "class_name": name}


def make(
    path: Path,
    kind: Kind,
    pairs: Sequence[int],
    tables: dict[int, Any],
    channels: Run | None = None,
    **config: Any,
) -> Run:
    """A run of these pairs, each in a shard of its own.

    Args:
        tables: what a pair has, none = not committed. channels: the channel run of inversions.
    """
    data = Data(channels=channels.manifest.config_hash if channels else None)
    head = Manifest(kind.name, config, MODEL, data, dataset=DatasetRecord(str(path.parent / "images")))
    plan = [row(PAIR.plan, **key(i), pair=place, shard=place) for place, i in enumerate(pairs)]
    run = Run.create(str(path), head, pa.Table.from_pylist(plan, schema=PAIR.plan))
    for place, i in enumerate(pairs):
        if i in tables:
            own = {k: [{**key(i), "pair": place, **v} for v in values] for k, values in tables[i].items()}
            run.commit(place, {kind: rows(kind), **{k: rows(k, *values) for k, values in own.items()}})
    return run


def png(pixels: np.ndarray) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "png")
    return sink.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images; they are as large as the network's input, so that resizing changes nothing."""
    folder = tmp_path_factory.mktemp("runs") / "images"
    folder.mkdir()
    for i in range(4):
        pixels = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        (folder / f"im{i}.png").write_bytes(png(pixels))
    return folder


def pixels_of(images: Path, i: int) -> np.ndarray:
    return np.asarray(Image.open(images / f"im{i}.png"), float) / 255


def spatial_row(i: int, **values: Any) -> dict[str, Any]:
    shape = mask_family(HEIGHT, WIDTH, MASK).param_shape
    params = np.random.default_rng(i).random((3, *shape)).round().astype(np.float16)
    return {
        "input_shape": [HEIGHT, WIDTH],
        "areas": AREAS,
        "params_shape": list(params.shape),
        "params": params.ravel(),
        "score_full": 4.0 + i,
        "score_perturbed": -1.0,
        "score_preserve": [1.0 + i, 4.5 + i, 9.0 + i],
        "score_delete": [3.0, 1.0, -2.0],
        "a_star": 0.25,
        **values,
    }


def channel_row(i: int, **values: Any) -> dict[str, Any]:
    random = np.random.default_rng(10 + i)
    return {
        "layer": "block4",
        "counts": COUNTS,
        "masks_shape": [3, 4],
        "masks": random.random(12).astype(np.float16),
        "score_full": 5.0,
        "score_perturbed": -2.0,
        "score": [1.0, 4.0, 5.5],
        "score_binary": [0.5, 5.25, 5.0],
        "a_star": 2,
        "saliency_shape": [2, 3],
        "saliency": random.random(6),
        "activations": random.random(4),
        **values,
    }


def spatial_run(path: Path, pairs: Sequence[int] = (0, 1, 2, 3), **only: Any) -> Run:
    tables = only.get("tables") or {i: {kinds.SPATIAL: [spatial_row(i)]} for i in pairs}
    return make(path, kinds.SPATIAL, pairs, tables, spatial=asdict(SpatialConfig(mask=MASK)))


@pytest.fixture(scope="module")
def spatial(images: Path) -> Run:
    return spatial_run(images.parent / "spatial")


@pytest.fixture(scope="module")
def channel(images: Path) -> Run:
    """Two pairs have no a*: the second of its class, and that of `dog`, which is alone."""
    made = {i: {kinds.CHANNEL: [channel_row(i, a_star=None if i in (1, 3) else 2)]} for i in range(4)}
    return make(images.parent / "channel", kinds.CHANNEL, range(4), made)


def shown(axis: Axes) -> np.ndarray:
    """The picture in axes."""
    (image,) = axis.get_images()
    return np.asarray(image.get_array())


def notes(figure: Figure) -> list[str]:
    """The texts that stand in place of pictures, as one line each."""
    return [re.sub(r"\s+", " ", text.get_text()) for axis in figure.axes for text in axis.texts]


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


PAIRS, CHANNELS = {"subject": "pairs"}, {"subject": "channels"}


def full_masks(i: int) -> np.ndarray:
    stored = spatial_row(i)
    params = torch.tensor(stored["params"].astype(np.float32)).reshape(stored["params_shape"])
    return render_masks(params, (HEIGHT, WIDTH), MASK).numpy()


def test_masks_of_areas_shows_image_masks_scores_and_frames_a_star(spatial: Run, images: Path) -> None:
    figure = masks_of_areas(spatial, pairs=[2, 0])
    assert len(figure.axes) == 2 * 4
    assert figure.axes[1].get_title() == "area 0.125: 3.0"
    for start, i in ((0, 2), (4, 0)):
        pixels = pixels_of(images, i)
        np.testing.assert_allclose(shown(figure.axes[start]), pixels, atol=1e-6)
        dark = 0.25 * pixels.mean(2)[..., None]
        for axis, mask in zip(figure.axes[start + 1 : start + 4], full_masks(i), strict=True):
            expected = mask[..., None] * pixels + (1 - mask[..., None]) * dark
            np.testing.assert_allclose(shown(axis), expected, atol=1e-6)
        framed = [axis.spines["top"].get_visible() for axis in figure.axes[start : start + 4]]
        assert framed == [False, False, True, False]


def test_pairs_by_number_by_image_by_class_and_by_default(spatial: Run) -> None:
    assert len(masks_of_areas(spatial.uri).axes) == 4 * 4
    assert titles(masks_of_areas([spatial], pairs=["im1"]))[0] == "dog: 5.0"
    assert titles(masks_of_areas(spatial, classes=["cat"]))[::4] == ["cat: 4.0", "cat: 7.0"]
    assert titles(masks_of_areas(spatial, classes=[1]))[::4] == ["dog: 5.0"]
    assert titles(masks_of_areas(spatial, pairs=[3, 0], classes=["cat"]))[::4] == ["cat: 7.0", "cat: 4.0"]
    for wrong in ({"pairs": [4]}, {"pairs": [10**30]}, {"pairs": [1], "classes": ["cat"]}, {"pairs": ["no"]}):
        with pytest.raises(RunError, match=r"There is no (pair|image) .*, which has [24], from "):
            masks_of_areas(spatial, **wrong)
    with pytest.raises(RunError, match=r"There is no class 'fish'. There are: .*cat, dog"):
        masks_of_areas(spatial, classes=["fish"])
    with pytest.raises(RunError, match="0 pairs were chosen"):
        masks_of_areas(spatial, pairs=[])


@pytest.mark.parametrize(("a_star", "title", "area"), [(None, "no a*: area 0.5", 2), (0.2, "area 0.25", 1)])
def test_compare_methods_joins_runs_whose_pairs_are_in_another_order(
    spatial: Run, images: Path, tmp_path: Path, a_star: float | None, title: str, area: int
) -> None:
    """Also what stands for the mask of a* where there is none, or where it lies between two areas."""
    (tmp_path / "images").symlink_to(images)
    order = [3, 1, 0]
    maps = {(i, m): np.random.default_rng(i + len(m)).random((4, 6)) for i in order for m in ("grad", "rise")}
    made = {
        i: {
            kinds.SALIENCY: [
                {"method": m, "input_shape": [HEIGHT, WIDTH], "map_shape": [4, 6], "map": maps[i, m].ravel()}
                for m in ("grad", "rise")
            ]
        }
        for i in order
    }
    methods = make(tmp_path / "methods", kinds.SALIENCY, order, made, saliency={"methods": ["grad", "rise"]})
    tables = {i: {kinds.SPATIAL: [spatial_row(i, a_star=a_star)]} for i in range(4)}
    figure = compare_methods([spatial_run(tmp_path / "s", tables=tables), methods], pairs=[1, 2, 3])
    assert titles(figure)[:4] == ["dog", figure.axes[1].get_title(), "grad", "rise"]
    assert title in figure.axes[1].get_title()
    for start, i in ((0, 1), (8, 3)):
        pixels = pixels_of(images, i)
        mask = full_masks(i)[area][..., None]
        expected = mask * pixels + (1 - mask) * 0.25 * pixels.mean(2)[..., None]
        np.testing.assert_allclose(shown(figure.axes[start + 1]), expected, atol=1e-6)
        for axis, method in zip(figure.axes[start + 2 : start + 4], ("grad", "rise"), strict=True):
            stored = maps[i, method].astype(np.float16).astype(np.float32)
            np.testing.assert_allclose(shown(axis), heat(pixels, stored), atol=1e-6)
    assert [note.startswith("not among the pairs of") for note in notes(figure)] == [True, True]
    # Maps that were not kept are named with their fix.
    bare = {0: {kinds.SALIENCY: [{"method": "grad", "input_shape": [HEIGHT, WIDTH]}]}}
    run = make(tmp_path / "bare", kinds.SALIENCY, [0], bare, saliency={"methods": ["grad"]})
    assert "maps = 28" in notes(compare_methods(run))[0]


def test_heat_is_cividis_of_the_bilinear_map() -> None:
    image, cells = RNG.random((20, 30, 3)), RNG.normal(size=(4, 6))
    large = F.interpolate(torch.tensor(cells)[None, None], size=(20, 30), mode="bilinear")[0, 0].numpy()
    scaled = (large - large.min()) / (large.max() - large.min())
    expected = 0.55 * matplotlib.colormaps["cividis"](scaled)[..., :3] + 0.45 * image.mean(2)[..., None]
    assert np.abs(heat(image, cells) - expected).max() < 0.01  # a step of the 256 colours
    assert np.isfinite(heat(image, np.zeros((4, 6)))).all()


def lines(axis: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axis.get_lines()}


def test_score_curve_draws_the_stored_scores_and_leads_to_them(spatial: Run) -> None:
    figure = score_curve(spatial, pairs=[1])
    assert len(figure.axes) == 5
    drawn = lines(figure.axes[-1])
    for name, scores in (("preserve", [2.0, 5.5, 10.0]), ("delete", [3.0, 1.0, -2.0])):
        np.testing.assert_array_equal(drawn[name].get_xdata(), AREAS)
        np.testing.assert_array_equal(drawn[name].get_ydata(), scores)
    assert list(drawn["whole image"].get_ydata()) == [5.0, 5.0]
    assert list(drawn["fully perturbed"].get_ydata()) == [-1.0, -1.0]
    assert list(drawn["a* = 0.25"].get_xdata()) == [0.25, 0.25]
    assert [patch.xy2 for patch in figure.artists] == [(0.125, 2.0), (0.25, 5.5), (0.5, 10.0)]


def test_bars_of_area_growth_are_shares_of_the_full_score_up_to_a_quarter_more(tmp_path: Path) -> None:
    made = {0: {kinds.SPATIAL: [spatial_row(0)]}, 1: {kinds.SPATIAL: [spatial_row(1, score_full=-0.5)]}}
    figure = area_growth(spatial_run(tmp_path / "run", [0, 1], tables=made))
    (bars,) = figure.axes[4].containers
    np.testing.assert_allclose(bars.datavalues, [1 / 4, 4.5 / 4, 1.25])
    assert [text.get_text() for text in figure.axes[4].texts] == ["0.25", "1.12", "2.25"]
    assert figure.axes[9].containers == []
    assert "the whole image's score, -0.5, is not positive" in notes(figure)


def test_channel_curve(channel: Run, images: Path) -> None:
    figure = channel_curve(channel, pairs=[0, 3])
    assert len(figure.axes) == 6
    saliency = np.reshape(channel_row(0)["saliency"], (2, 3))
    np.testing.assert_allclose(shown(figure.axes[1]), heat(pixels_of(images, 0), saliency), atol=1e-6)
    drawn = lines(figure.axes[2])
    np.testing.assert_array_equal(drawn["best channels, exactly"].get_xdata(), COUNTS)
    np.testing.assert_array_equal(drawn["best channels, exactly"].get_ydata(), [0.5, 5.25, 5.0])
    np.testing.assert_array_equal(drawn["mask"].get_ydata(), [1.0, 4.0, 5.5])
    assert figure.axes[1].get_title() == "a* = 2 of 4 channels"
    assert figure.axes[4].get_title() == "no a*: 4 of 4 channels"
    assert not any(label.startswith("a*") for label in lines(figure.axes[5]))


def test_inversions_and_where_they_differ(channel: Run, images: Path, tmp_path: Path) -> None:
    whole, masked = (RNG.integers(0, 256, (20, 20, 3)).astype(np.uint8) for _ in range(2))
    common = {"layer": "block4", "image": png(whole)}
    both = {**common, "image_masked": png(masked), "a_star": 2, "cosine_between": 0.25}
    made = {
        0: {kinds.INVERSION: [both]},
        1: {kinds.INVERSION: [{**common, "image_masked": png(masked)}]},
        2: {kinds.INVERSION: [{"image": b"x"}]},
    }
    inversions = make(tmp_path / "inversions", kinds.INVERSION, [0, 1, 2], made)
    figure = inversion_difference([channel, inversions], pairs=[0])
    assert len(figure.axes) == 5
    np.testing.assert_allclose(shown(figure.axes[0]), pixels_of(images, 0), atol=1e-6)
    np.testing.assert_allclose(shown(figure.axes[2]), whole / 255, atol=1e-6)
    np.testing.assert_allclose(shown(figure.axes[3]), masked / 255, atol=1e-6)
    distance = np.linalg.norm(whole / 255 - masked / 255, axis=2)
    np.testing.assert_allclose(shown(figure.axes[4]), heat(whole / 255, distance), atol=1e-6)
    assert "0.25" in figure.axes[4].get_title()
    others = inversion_difference([inversions], pairs=[0, 1, 2], root=str(images))
    said = notes(others)
    assert said[:2] == ["no channel run was given", "no channel run was given"]
    assert "no a*: largest count" in titles(others)
    assert "cannot be decoded" in said[-1]


def test_channels_of_classes(channel: Run, images: Path, tmp_path: Path) -> None:
    masks = np.array([channel_row(i)["masks"].reshape(3, 4)[1] for i in range(4)], float)
    star = int(masks[0].argmax())
    picture = RNG.integers(0, 256, (20, 20, 3)).astype(np.uint8)
    others = [{"layer": "block4", "channel": None, "image": b"an image"}]
    mine = {"layer": "block4", "channel": star, "image": png(picture)}
    made = {0: {kinds.INVERSION: others}, 1: {kinds.INVERSION: [{**mine, "channel": star + 1}, mine]}}
    inversions = make(tmp_path / "inversions", kinds.INVERSION, [0, 1], made, channel)
    # The layer of the same name of another channel run.
    foreign = {0: {kinds.INVERSION: [{**mine, "image": b"another network"}]}}
    other = make(tmp_path / "other", kinds.INVERSION, [0], foreign, inversions)
    figure = channels_of_classes([channel, other, inversions], classes=["cat", "dog"])
    bars = figure.axes[0].containers[0]
    np.testing.assert_allclose(bars.datavalues, masks[0], atol=1e-6)  # the other cat has no a*
    assert figure.axes[0].get_title() == "cat (n = 1)"
    marked = [k for k, bar in enumerate(bars) if matplotlib.colors.to_hex(bar.get_facecolor()) == ORANGE]
    assert marked == [star]
    np.testing.assert_allclose(shown(figure.axes[1]), picture / 255, atol=1e-6)
    activations = np.array([channel_row(i)["activations"][star] for i in range(4)])
    for axis, i in zip(figure.axes[2:6], np.argsort(-activations), strict=True):
        np.testing.assert_allclose(shown(axis), pixels_of(images, int(i)), atol=1e-6)
    assert notes(figure) == ["no pair of this class has an a*"]
    assert titles(channels_of_classes(channel, classes=[2]))[0] == f"{HOSTILE} (n = 1)"


def test_contact_sheet_of_classes(channel: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.array([channel_row(i)["masks"].reshape(3, 4)[1] for i in range(4)], float)
    star = int(masks[0].argmax())
    pictures = [RNG.integers(0, 256, (20, 20, 3)).astype(np.uint8) for _ in range(5)]
    made = {i: {kinds.INVERSION: [{"image": png(pictures[i]), "cosine": 0.5}]} for i in (0, 3)}
    of_pairs = make(tmp_path / "pairs", kinds.INVERSION, [0, 1, 3], made, channel, inversion=PAIRS)
    mine = {0: {kinds.INVERSION: [{"layer": "block4", "channel": star, "image": png(pictures[4])}]}}
    of_channels = make(tmp_path / "channels", kinds.INVERSION, [0], mine, channel, inversion=CHANNELS)
    figure = inversions_of_classes([channel, of_channels, of_pairs])
    assert len(figure.axes) == 2 + 2
    assert titles(figure)[0] == f"top: channel {star}"
    np.testing.assert_allclose(shown(figure.axes[0]), pictures[4] / 255, atol=1e-6)
    for axis, i in zip(figure.axes[2:4], (0, 3), strict=True):
        np.testing.assert_allclose(shown(axis), pictures[i] / 255, atol=1e-6)
        assert axis.get_title() == "cat: cosine 0.50"
    assert len(inversions_of_classes(of_pairs, classes=["cat"]).axes) == 2
    with pytest.raises(RunError, match=r"There is no class .dog.. There are: cat"):
        inversions_of_classes(of_pairs, classes=["dog"])
    # Where the dataset knows no class it is the output that was explained.
    own = {"class_id": -1, "class_name": "", "image": png(pictures[0]), "cosine": 0.5}
    told = {i: {kinds.INVERSION: [{**own, "target": i, "target_name": f"t{i}"}]} for i in (0, 3)}
    folder = make(tmp_path / "folder", kinds.INVERSION, [0, 3], told, channel, inversion=PAIRS)
    assert titles(inversions_of_classes(folder, classes=["t3"])) == ["t3: cosine 0.50"]
    monkeypatch.setattr("extremal.jobs.figures.inversions.MOST", 1)
    with pytest.raises(RunError, match="2 classes have inversions; a sheet shows 1 to 1"):
        inversions_of_classes(folder)
    with pytest.raises(RunError, match="needs inversions of pairs"):
        inversions_of_classes([channel, of_channels])


def test_an_image_counts_once_among_those_that_excite_a_channel(images: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(images)
    again = [channel_row(0), channel_row(0, class_id=9, class_name="other")]
    made = {0: {kinds.CHANNEL: again}, 1: {kinds.CHANNEL: [channel_row(1)]}}
    figure = channels_of_classes(make(tmp_path / "run", kinds.CHANNEL, [0, 1], made), classes=["cat"])
    assert sum(title.startswith("activation") for title in titles(figure)) == 2


def test_what_is_missing_is_said_in_its_panel_and_the_rest_is_drawn(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "im1.png").write_bytes((images / "im1.png").read_bytes())
    Image.open(images / "im2.png").resize((HEIGHT, HEIGHT)).save(folder / "im2.png")
    made = {i: {kinds.SPATIAL: [spatial_row(i)]} for i in range(3)}
    made[3] = {kinds.FAILURES: [{"stage": "decode", "error": "im3 is broken"}]}
    run = spatial_run(tmp_path / "run", tables=made)
    for draw in (masks_of_areas, score_curve, area_growth):
        figure = draw(run)
        said = notes(figure)
        assert any("no image: " in note and "no such file" in note for note in said)
        assert any("another shape" in note for note in said)
        assert "failed (decode): im3 is broken" in said
        assert sum(len(axis.get_images()) for axis in figure.axes) == 3 + 4 + 3
        assert titles(figure)[-1] == "cat"
    assert notes(masks_of_areas(run, pairs=[0], root=str(images))) == []
    unfinished = spatial_run(tmp_path / "unfinished", [1, 0], tables={1: made[1]})
    assert notes(masks_of_areas(unfinished))[-1].startswith("not computed yet in")


DRAWN = [masks_of_areas, score_curve, area_growth, channel_curve, channels_of_classes]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "draw", [masks_of_areas, score_curve, area_growth, channel_curve, channels_of_classes]
)
def test_any_class_name_is_drawn_as_it_is_and_files_are_the_same_each_time(
    draw: Callable[..., Figure], spatial: Run, channel: Run, tmp_path: Path
) -> None:
    runs = [spatial, channel]
    figure = draw(runs, classes=[HOSTILE])
    assert titles(figure)[0].startswith(HOSTILE)
    for suffix in ("png", "pdf"):
        figure = draw(runs, classes=[HOSTILE])  # anew: a layout that was found before begins elsewhere
        save(figure, tmp_path / f"figure.{suffix}")
        assert encode(draw(runs, classes=[HOSTILE]), suffix) == (tmp_path / f"figure.{suffix}").read_bytes()
    with Image.open(tmp_path / "figure.png") as opened:
        opened.load()
        assert min(opened.size) > 300
        assert opened.info.keys() <= {"dpi", "Software"}
    content = (tmp_path / "figure.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in content  # TrueType outlines: type 42
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_letters_without_a_picture_are_replaced_and_long_names_cut(images: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(images)
    name = "a\x00b\nc" + 100 * "x"
    run = spatial_run(tmp_path / "run", [0], tables={0: {kinds.SPATIAL: [spatial_row(0, class_name=name)]}})
    title = titles(masks_of_areas(run))[0].replace("\n", "")
    assert title.startswith("a\ufffdb")
    assert title.isprintable()
    assert len(title) <= 61


runner = CliRunner()


def test_the_command_writes_a_figure(spatial: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "masks.PDF"
    command = ["figure", "masks-of-areas", spatial.uri, "--pairs", "0,2", "--out", str(out)]
    result = runner.invoke(app, command)
    assert (result.exit_code, result.output.strip()) == (0, str(out))
    assert out.read_bytes() == encode(masks_of_areas(spatial, pairs=[0, 2]), "pdf")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["circles", "RUN"], "There is no figure 'circles'. There are: masks-of-areas, "),
        (["masks-of-areas", "RUN", "--pairs", "7"], "There is no pair 7 in RUN, which has 4, from 0 to 3."),
        (["masks-of-areas", "RUN", "--pairs", "one"], "--pairs takes numbers"),
        (["masks-of-areas", "RUN", "--pairs", "1", "--image", "im1"], "not both"),
        (["masks-of-areas", "RUN", "--classes", "cat,bird"], "There is no class 'bird'. There are: "),
        (["masks-of-areas", "RUN", "--out", "x.svg"], "--out is a file that ends in .png or .pdf"),
        (["masks-of-areas", "RUN", "--out", "RUN/run.json/x.png"], "Cannot write the figure to "),
        (["channel-curve", "RUN"], "This figure needs a run of kind channel; given: RUN (spatial). Add one."),
        (["channels-of-classes", "RUN", "--pairs", "1"], "give --classes instead of --pairs"),
        (["masks-of-areas", "RUN/images"], "No run at "),
    ],
)
def test_bad_input_gets_one_line_that_says_what_there_is(
    spatial: Run, arguments: list[str], said: str
) -> None:
    result = runner.invoke(app, ["figure", *(text.replace("RUN", spatial.uri) for text in arguments)])
    assert result.exit_code == 2
    assert said.replace("RUN", spatial.uri) in result.output
    assert result.output.count("\n") == 1


def test_the_functions_take_what_python_has_for_places_numbers_and_names(spatial: Run, images: Path) -> None:
    run, root = Path(spatial.uri), images
    wanted = titles(masks_of_areas(spatial, pairs=[1]))
    for pairs in ([np.int64(1)], np.array([1]), 1, "im1", ["im1"]):
        assert titles(masks_of_areas(run, pairs=pairs, root=root)) == wanted
    assert titles(masks_of_areas(run, classes="dog")) == wanted
    with pytest.raises(RunError, match="No class was chosen"):
        masks_of_areas(run, classes=[])
    with pytest.raises(RunError, match="51 pairs were chosen: a figure shows 1 to 50"):
        masks_of_areas(run, pairs=[0] * 51)
    with pytest.raises(DatasetError, match="cannot be read: no such folder"):
        masks_of_areas(run, root=images / "nowhere")


def test_compare_without_maps_or_masks_says_so(channel: Run) -> None:
    with pytest.raises(RunError, match="needs a spatial run or one of saliency methods"):
        compare_methods(channel)


def test_credentials_are_asked_for_again(images: Path, tmp_path: Path) -> None:
    run = spatial_run(tmp_path / "run", [0])
    object.__setattr__(run.manifest.dataset, "root", "s3://***@bucket/images")
    with pytest.raises(RunError, match="give --root again"):
        masks_of_areas(run)
    assert notes(masks_of_areas(run, root=str(images))) == []


def test_help_names_every_figure() -> None:
    text = runner.invoke(app, ["figure", "--help"]).output
    assert all(name in text for name in PER_PAIR | PER_CLASS)
