"""The networks known by name: torchvision's, BVLC's GoogLeNet, the pointing game's and the shapes network."""

import difflib
import http.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torchvision import models

from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess
from extremal.workers.networks.bvlc_googlenet import bvlc_googlenet
from extremal.workers.networks.pointing_game import BENCHMARK, PREPROCESS, fill_benchmark
from extremal.workers.networks.shapes_cnn import SHAPES, ShapesCNN, shapes_cnn
from extremal.workers.networks.weights import fill, read_state_dict

RANDOM = "random"
SEED = 0
IMAGENET_CLASSES = 1000
WITHOUT_DOWNLOAD = ("bvlc_googlenet", "shapes_cnn", *BENCHMARK)
IMAGENET = Preprocess(resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

Built = TypeVar("Built")
vision: Any = models  # torchvision's functions carry no types


@dataclass(frozen=True)
class Known:
    """A module with its weights, what its images must go through, and its classes' names if known."""

    module: nn.Module
    preprocess: Preprocess
    classes: tuple[str, ...] | None


def load_known(name: str, weights: str | Path | None) -> Known:
    """The network of that name; for the arguments and errors see `load_network`."""
    names = vision.list_models(module=models)
    if name in names:
        return _torchvision(name, weights)
    if name not in WITHOUT_DOWNLOAD:
        close = difflib.get_close_matches(name, [*names, *WITHOUT_DOWNLOAD])
        hint = f"; close: {', '.join(close)}" if close else ""
        raise NetworkError(
            f"unknown network {name!r}{hint}; give a torchvision classification model or module:function"
        )
    if weights is None:
        raise NetworkError(f'{name}: no weights to download; give the file of its weights, or "{RANDOM}"')
    if name in BENCHMARK:
        return _benchmark(name, weights)
    if name == "bvlc_googlenet":
        module = _build_filled(bvlc_googlenet, IMAGENET_CLASSES, weights)
        return Known(module, IMAGENET, _imagenet_names(module))
    shapes = cast(ShapesCNN, _build_filled(shapes_cnn, len(SHAPES), weights))
    return Known(shapes, shapes.preprocess, shapes.classes)


def seeded(build: Callable[[], Built]) -> Built:
    """Build with the same random numbers each time, and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        return build()


def _benchmark(name: str, weights: str | Path) -> Known:
    """Its classes are the dataset's, which are matched by their number: the names are not repeated here."""
    module = seeded(BENCHMARK[name])
    if weights != RANDOM:
        fill_benchmark(module, read_state_dict(Path(weights)), Path(weights))
    return Known(module, PREPROCESS, None)


def _build_filled(build: Callable[[int], nn.Module], classes: int, weights: str | Path) -> nn.Module:
    """A network of as many classes as the file has outputs, filled from it unless weights is "random"."""
    module = seeded(lambda: build(classes))
    if weights == RANDOM:
        return module
    state = read_state_dict(Path(weights))
    head = state.get(_classifier(module))
    if head is not None and head.ndim and len(head) != classes:
        module = build(len(head))
    fill(module, state, Path(weights))
    return module


def _classifier(module: nn.Module) -> str:
    """Name of the last tensor: the classifier's bias, or its weight where it has no bias."""
    return list(module.state_dict())[-1]


def _imagenet_names(module: nn.Module) -> tuple[str, ...] | None:
    """Names for a network of a thousand outputs, which are taken to be ImageNet's in the usual order."""
    if len(module.state_dict()[_classifier(module)]) != IMAGENET_CLASSES:
        return None
    return tuple(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _torchvision(name: str, weights: str | Path | None) -> Known:
    members = vision.get_model_weights(name).__members__
    is_file = weights is not None and Path(weights).is_file()
    if weights is None or (not is_file and str(weights) in members):
        return _downloaded(name, members[str(weights or "DEFAULT")])
    if weights != RANDOM and not is_file:
        raise NetworkError(f"{weights}: no such file, and {name} has only {', '.join(members)}, {RANDOM}")
    # A file that torchvision downloaded elsewhere keeps its name, and with it its preprocessing.
    original = next((m for m in members.values() if m.url.endswith("/" + Path(weights).name)), None)
    options = _options(name, original)
    module = _build_filled(
        lambda classes: vision.get_model(name, weights=None, num_classes=classes, **options),
        IMAGENET_CLASSES,
        weights,
    )
    usual = original or members.get("IMAGENET1K_V1")
    return Known(module, _preprocess_of(usual) if usual else IMAGENET, _imagenet_names(module))


def _options(name: str, original: Any) -> dict[str, object]:
    """What torchvision's own weights need of the architecture, if the file is one of them."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": False, "transform_input": original is not None}
    if name.startswith("vit_") and original is not None:
        return {"image_size": original.meta["min_size"][0]}
    return {}


def _downloaded(name: str, member: Any) -> Known:
    try:
        module = vision.get_model(name, weights=member, progress=False)
    # No network, no disk, a proxy's page in place of the file (a wrong hash is a RuntimeError).
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise NetworkError(
            f"{name}: could not download {member.url} ({error}); give the file of its weights"
        ) from error
    categories = member.meta["categories"]
    return Known(module, _preprocess_of(member), None if categories is None else tuple(categories))


def _preprocess_of(member: Any) -> Preprocess:
    """Preprocessing of a set of torchvision weights."""
    usual = member.transforms()
    (resize,), (crop,) = usual.resize_size, usual.crop_size
    return Preprocess(resize, crop, tuple(usual.mean), tuple(usual.std), usual.interpolation.value)
