"""A dataset that is learnt in seconds, networks that learn it, and `extremal finetune` of them."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from extremal.workers.images import Preprocess
from extremal.workers.training.batches import IGNORED, PRESENT

COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 240), "yellow": (240, 230, 20)}
SIDE = 48
TRAIN, TEST = 60, 32
SMALL = Preprocess(resize=32, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Tiny(nn.Module):
    """With a batch norm and dropout, whose states a resumed training must have too."""

    preprocess = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax((2, 3)))


def tiny() -> nn.Module:
    return Tiny()


class Squashed(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


def squashed() -> nn.Module:
    return Squashed()


class Slow(Tiny):
    """So slow that an epoch can be stopped in its middle."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.05)
        return super().forward(x)


def slow() -> nn.Module:
    return Slow()


def headless() -> nn.Module:
    network = Tiny()
    network.head = nn.Identity()
    return network


# ---- a dataset that is learnt in seconds: squares of one or two of four colours on grey ---------------


def draw(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "classes.txt").write_text("\n".join(COLOURS))
    for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
        for number in numbers:
            names = rng.choice(list(COLOURS), size=rng.integers(1, 3), replace=False)
            pixels = rng.normal(128, 15, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            objects = []
            for place, name in enumerate(names):
                x, y = rng.integers(0, 10) + 24 * place, rng.integers(0, 34)
                pixels[y : y + 14, x : x + 14] = COLOURS[name]
                objects.append((str(name), int(x), int(y), False))
            Image.fromarray(pixels).save(folder / f"JPEGImages/{number:06d}.jpg", quality=95)
            annotate(folder, number, objects)
    return root


def annotate(folder: Path, number: int, objects: list[tuple[str, int, int, bool]]) -> None:
    entries = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x + 1}</xmin>"
        f"<ymin>{y + 1}</ymin><xmax>{x + 14}</xmax><ymax>{y + 14}</ymax></bndbox></object>"
        for name, x, y, difficult in objects
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
    (folder / f"Annotations/{number:06d}.xml").write_text(f"<annotation>{size}{entries}</annotation>")


def command(root: Path, out: Path, *more: str) -> list[str]:
    places = ["--root", str(root), "--out", str(out), "--dataset", "voc"]
    splits = ["--split", "2007:train", "--test-split", "2007:test"]
    usual = ["--epochs", "3", "--batch", "16", "--lr", "0.1", "--workers", "1", "--device", "cpu"]
    network = [] if "--network" in more else ["--network", "toy_training:tiny"]
    return ["finetune", *places, *splits, *usual, *network, *more]


def metrics(out: Path) -> dict:
    return json.loads(out.with_name(out.name + ".json").read_text())


def weights_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(other[key], one[key]) for key in one)


def by_definition(scores: np.ndarray, labels: np.ndarray) -> float:
    """A pass over all images for each threshold."""
    known = [(s, label) for s, label in zip(scores, labels, strict=True) if label != IGNORED]
    positives = sum(label == PRESENT for _, label in known)
    total, before = 0.0, 0.0
    for threshold in sorted({s for s, _ in known}, reverse=True):
        taken = [label for s, label in known if s >= threshold]
        recall = sum(label == PRESENT for label in taken) / positives
        total += (recall - before) * sum(label == PRESENT for label in taken) / len(taken)
        before = recall
    return total
