"""The quality benchmark: its statistics, its curves, its measures and its folders, on a toy network."""

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from extremal.workers import Network, Preprocess, SpatialConfig, extremal_perturbation, spatial_preset
from extremal.workers.extremal.perturbation import gaussian_blur
from extremal.workers.extremal.settings import with_steps

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
quality = importlib.import_module("quality")

SIDE = 24
AREAS = (0.1, 0.3)


class Linear(nn.Module):
    """Two logits, each a weighted sum of the pixels: what a curve must be can be written down."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.05 * torch.randn(2, 3, SIDE, SIDE, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x, self.weight)


def toy() -> Network:
    preprocess = Preprocess(SIDE, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Network("toy", Linear().eval().requires_grad_(False), preprocess, None, "0")


def toy_image() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def short(steps: int) -> SpatialConfig:
    config = spatial_preset("torchray")
    return SpatialConfig(areas=AREAS, schedule=with_steps(config.schedule, steps))


# -- statistics


def test_the_bootstrap_of_a_normal_sample_gives_its_textbook_interval() -> None:
    sample = np.random.default_rng(1).normal(0.3, 2.0, size=400)
    found = quality.bootstrap(sample)
    half = 1.96 * sample.std() / 20
    assert found.mean == sample.mean()
    assert found.high - found.mean == pytest.approx(half, rel=0.06)
    assert found.mean - found.low == pytest.approx(half, rel=0.06)
    assert found == quality.bootstrap(sample)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    found = [quality.bootstrap(generator.normal(size=46), resamples=400) for _ in range(300)]
    # Percentiles of 46 images are a little narrow: 0.94 is expected, 0.014 is one standard error.
    assert 0.90 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.98


def values(score: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of n images and areas: the given scores, ones otherwise."""
    return {name: np.ones_like(score) for name in quality.DECIMALS} | {"score": score}


def test_differences_are_paired_by_image() -> None:
    baseline = np.random.default_rng(3).normal(20, 10, size=(40, 2))
    found = quality.compare("fast", values(baseline + 0.5), values(baseline), AREAS)
    overall = next(d for d in found if (d.measure, d.area) == ("score", None))
    for end in (overall.absolute.low, overall.absolute.mean, overall.absolute.high):
        assert end == pytest.approx(0.5)  # the spread of the images cancels
    assert overall.percent.mean == pytest.approx(50 / baseline.mean())
    assert [d.area for d in found if d.measure == "score"] == [None, *AREAS]


def test_more_areas_of_the_same_images_are_no_more_evidence() -> None:
    one = np.random.default_rng(4).normal(size=(40, 1))
    three = np.repeat(one, 3, axis=1)
    narrow = quality.compare("fast", values(three), values(np.ones((40, 3))), (0.1, 0.2, 0.3))[0]
    wide = quality.compare("fast", values(one), values(np.ones((40, 1))), (0.1,))[0]
    assert narrow.absolute.low == pytest.approx(wide.absolute.low)
    assert narrow.absolute.high == pytest.approx(wide.absolute.high)


@pytest.mark.parametrize(
    ("score", "binary", "term", "accepted"),
    [
        (-1.0, -1.0, 0.0, True),
        (3.0, 2.0, -0.001, True),
        (-1.1, 2.0, 0.0, False),
        (2.0, -1.1, 0.0, False),
        (2.0, 2.0, 0.001, False),
    ],
)
def test_the_verdict(score: float, binary: float, term: float, accepted: bool) -> None:
    def difference(measure: str, low: float) -> object:
        interval = quality.Interval(low, low, low + 1)
        return quality.Difference("fast", measure, None, 20.0, interval, interval)

    worse_at_one_area = quality.Difference("fast", "score", 0.1, 1.0, *2 * [quality.Interval(-9, -9, -9)])
    found = [difference("score", score), difference("binary score", binary), difference("area term", term)]
    assert quality.judge([*found, worse_at_one_area])[0] is accepted


# -- measures


def test_binary_masks_show_the_image_or_the_strongest_blur() -> None:
    network, image, config = toy(), toy_image(), short(1)
    params = torch.zeros(2, 4, 4)
    params[0, 0, 0] = params[1, 2:, 3] = 1
    found = quality.measure(network, image, 1, params, config, 4, 2)
    masks = quality.mask_family(SIDE, SIDE, config.mask).draw(params)
    masks = quality.mask_family(SIDE, SIDE, config.mask).crop(masks)
    kept = (masks >= 0.5).float().mean((1, 2))
    assert ((kept > 0) & (kept < 1)).all()
    blurred = gaussian_blur(image, config.sigma_max)
    for i, mask in enumerate(masks):
        logit = network(torch.where(mask >= 0.5, image, blurred))[0, 1]
        assert found["binary score"][i] == pytest.approx(logit.item(), abs=1e-4)
        assert found["binary area"][i] == pytest.approx(kept[i].item())


def test_score_and_area_term_are_those_of_the_optimization() -> None:
    network, image, config = toy(), toy_image(), short(3)
    result = extremal_perturbation(network, image, torch.tensor([1]), config=config)
    found = quality.measure(network, image, 1, result.params[0], config, 4, 12)
    np.testing.assert_allclose(found["score"], result.scores[0], atol=1e-4)
    np.testing.assert_allclose(found["area term"], result.area_term[0], atol=1e-6)


# -- the command


def test_images_are_spread_over_the_list(tmp_path: Path) -> None:
    lines = ["file,label,name", *(f"{i}.png,{i % 7},x" for i in range(500))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    chosen = quality.choose(tmp_path / "labels.csv", 11, 46)
    assert [e.file for e in chosen] == [f"{i}.png" for i in range(0, 500, 11)]
    assert [e.index for e in chosen] == list(range(46))
    assert chosen[3].label == 33 % 7


def test_names_of_settings() -> None:
    assert quality.parse_setting("torchray", AREAS).config.schedule.steps == 800
    assert quality.parse_setting("torchray-100", AREAS).config.schedule.steps == 100
    for name in ("torchray-", "nosuch", "torchray-0", "torchray-x"):
        with pytest.raises(SystemExit):
            quality.parse_setting(name, AREAS)


def test_a_folder_of_another_configuration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, setting = toy(), quality.parse_setting("torchray-2", AREAS)
    folder = tmp_path / setting.name
    quality.check_folder(folder, quality.identity(network, setting))
    quality.check_folder(folder, quality.identity(network, setting))
    other = quality.identity(network, quality.parse_setting("torchray-3", AREAS))
    with pytest.raises(SystemExit, match=r"spatial\.schedule\.steps: 2 -> 3"):
        quality.check_folder(folder, other)
    (folder / "config.json").unlink()
    (folder / "000.npz").touch()
    quality.check_folder(folder, other)
    assert "taken as they are" in capsys.readouterr().err
    assert not (folder / "config.json").exists()  # it would claim what nobody knows


def test_the_command_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "load_network", lambda name, weights: toy())
    generator = np.random.default_rng(5)
    with (tmp_path / "labels.csv").open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(("file", "label"))
        for i in range(3):
            pixels = generator.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            rows.writerow((f"{i}.png", i % 2))
    command = ["--images", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--every", "1"]
    command += ["--settings", "torchray-2", "torchray-1", "--baseline", "torchray-2", "--areas", "0.1", "0.3"]
    command += ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "q.json"), "--curve-steps", "4"]

    quality.main([*command, "--part", "0/2"])
    assert "2 of 3 images are ready" in capsys.readouterr().err
    assert not (tmp_path / "q.json").exists()
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*.npz")}
    assert len(made) == 4
    quality.main([*command, "--table"])
    assert "2 of 3 images" in capsys.readouterr().out
    quality.main([*command, "--part", "1/2"])
    assert "3 of 3 images" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())

    with np.load(tmp_path / "out/torchray-2/001.npz") as stored:
        assert (str(stored["name"]), int(stored["label"])) == ("1.png", 1)
        assert stored["params"].shape == (2, 4, 4)
        assert stored["scores"].shape == (2,)
        scores = stored["scores"]
    numbers = json.loads((tmp_path / "q.json").read_text())
    np.testing.assert_allclose(numbers["values"]["torchray-2"]["score"][1], scores, atol=1e-4)
    assert numbers["settings"]["torchray-1"]["steps"] == 1
    assert set(numbers["accepted"]) == {"torchray-1"}

    for path in tmp_path.glob("out/*/config.json"):
        path.unlink()
    with pytest.raises(SystemExit, match=r"other --labels, --every or --areas"):
        quality.main([*command, "--areas", "0.1"])
