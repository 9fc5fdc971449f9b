"""Augmentations: what they show, and what they depend on."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from toy_training import SMALL, draw

from extremal.storage.folder import open_root
from extremal.workers.training.augmentations import crop_and_flip
from extremal.workers.training.batches import Images, Labelled


def test_variations_depend_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    colours = draw(tmp_path / "data")
    names = [f"VOCdevkit/VOC2007/JPEGImages/{n:06d}.jpg" for n in range(3)]
    listed = [Labelled(name, name, (0,)) for name in names]
    images = Images(open_root(str(colours)), listed, SMALL, 32, 0, 2, crop_and_flip)
    fewer = replace(images, images=listed[2:])
    before = torch.get_rng_state()
    once = images.input(2, epoch=4)[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images.input(2, epoch=4)[1], once)
    assert torch.equal(fewer.input(0, epoch=4)[1], once)
    assert once.shape == (3, 32, 32)
    assert not torch.equal(images.input(2, epoch=5)[1], once)
    assert not torch.equal(replace(images, seed=1).input(2, epoch=4)[1], once)
    with Image.open(colours / names[2]) as picture:
        assert torch.equal(replace(images, augmentation=None).input(2, epoch=4)[1], SMALL(picture))


def test_variations_are_parts_of_the_image_of_many_sizes_mirrored_or_not() -> None:
    ramp = np.linspace(0, 255, 80).astype(np.uint8)  # its columns tell where a part was taken
    picture = Image.fromarray(np.broadcast_to(ramp[None, :, None], (60, 80, 3)).copy())
    parts = [crop_and_flip(picture, 32, InterpolationMode.BILINEAR, random.Random(n)) for n in range(300)]
    rows = np.array([np.asarray(part)[16, :, 0].astype(int) for part in parts])
    slopes = rows[:, -1] - rows[:, 0]
    widths = np.abs(slopes) / 255
    assert {part.size for part in parts} == {(32, 32)}
    assert 0.4 < (slopes < 0).mean() < 0.6
    assert 0.3 < widths.min() < 0.5  # a quarter of the area: half of a side, times the square root of 3/4
    assert widths.max() > 0.9
    thin = crop_and_flip(Image.new("RGB", (500, 1)), 8, InterpolationMode.BILINEAR, random.Random(0))
    assert thin.size == (8, 8)
