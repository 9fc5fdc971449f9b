"""The pointing game's networks: VGG16 and ResNet50 as converted from Caffe, fully convolutional.

Protocol items 6 and 8 to 11. They take whole images, short side at least 224, and differ from torchvision's:
max-pools round the size of their output up, dense layers are convolutions, ResNet50 strides in 1x1 ones.
"""

import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess
from extremal.workers.networks.pointing_game_input import ANTIALIAS, MEAN, STD
from extremal.workers.networks.weights import fill

PREPROCESS = Preprocess(resize=224, crop=None, mean=MEAN, std=STD, antialias=ANTIALIAS)
VOC_OUTPUTS, COCO_OUTPUTS = 20, 80
POOL = 7  # side of the last map of a 224x224 input

log = logging.getLogger(__name__)


class FullyConvolutional(nn.Sequential):
    """Layers in torchvision's order and names; (B, 3, H, W) -> maps of logits (B, C, h, w)."""

    def dense(self) -> nn.Module:
        """The same layers, but for an adaptive average pool, which becomes one of 7x7 with stride 1.

        The protocol reads gradients and excitations through it (item 10); without such a pool it is the
        module itself. The two share weights and layers, so that a hook on one is a hook on the other.
        """
        layers = OrderedDict(self.named_children())
        if not isinstance(layers.get("avgpool"), nn.AdaptiveAvgPool2d):
            return self
        layers["avgpool"] = nn.AvgPool2d(POOL, stride=1)
        dense = FullyConvolutional(layers)
        dense.training = self.training  # alone: train() would reach the layers
        return dense


def fully_convolutional_vgg16(outputs: int, width: int = 64) -> FullyConvolutional:
    """VGG16, (B, 3, H, W) -> (B, outputs, h, w): one place for each 7x7 window of the last pool's map.

    Args:
        width: channels of the first layer; all others are multiples of it.
    """
    layers: list[nn.Module] = []
    before = 3
    for block, convolutions in enumerate((2, 2, 3, 3, 3)):
        channels = width * min(2**block, 8)
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
            before = channels
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    hidden = 64 * width
    classifier = nn.Sequential(
        nn.Conv2d(before, hidden, POOL),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Conv2d(hidden, outputs, 1),
    )
    return FullyConvolutional(OrderedDict(features=nn.Sequential(*layers), classifier=classifier))


def fully_convolutional_resnet50(outputs: int, width: int = 64) -> FullyConvolutional:
    """Caffe's ResNet50, (B, 3, H, W) -> (B, outputs, 1, 1), or a map by `dense`.

    Args:
        width: channels within the first stage's bottlenecks; the stages' own outputs do not depend on it.
    """
    vision: Any = models  # torchvision's functions carry no types
    usual = vision.resnet50(weights=None, width_per_group=width)
    layers: OrderedDict[str, Any] = OrderedDict(usual.named_children())
    layers["conv1"] = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    layers["maxpool"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for stage in ("layer2", "layer3", "layer4"):
        first = layers[stage][0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    layers["fc"] = nn.Conv2d(usual.fc.in_features, outputs, 1)
    return FullyConvolutional(layers)


BENCHMARK: dict[str, Callable[[], FullyConvolutional]] = {
    "vgg16_voc": partial(fully_convolutional_vgg16, VOC_OUTPUTS),
    "vgg16_coco": partial(fully_convolutional_vgg16, COCO_OUTPUTS),
    "resnet50_voc": partial(fully_convolutional_resnet50, VOC_OUTPUTS),
    "resnet50_coco": partial(fully_convolutional_resnet50, COCO_OUTPUTS),
}

# The published files keep Caffe's order of layers: VGG16's classifier is counted without dropout, and each
# of ResNet50's normalisations is two layers, 0 for the statistics and 1 for scale and bias.
_CAFFE_NAMES = (
    (r"^classifier\.2\.", "classifier.3."),
    (r"^classifier\.4\.", "classifier.6."),
    (r"\b(bn\d|downsample\.1)\.[01]\.", r"\1."),
)


def fill_benchmark(module: FullyConvolutional, state: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into one of these networks, all or nothing.

    Caffe's names mean the published layout, whose first convolution reads BGR and is turned to RGB here.
    torchvision's names mean RGB, the network as this function or another loader left it. With either the
    classifier may have the shape of dense layers.

    Raises:
        NetworkError: names or shapes differ, or two tensors have one name; `path` is for the message.
    """
    names = {key: _torchvision_name(key) for key in state}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise NetworkError(f"{path}: mixes Caffe's names and torchvision's: two tensors are {twice[0]}")
    tensors = module.state_dict()
    fill(module, {name: _as_convolution(state[key], tensors.get(name)) for key, name in names.items()}, path)
    caffe = any(key != name for key, name in names.items())
    log.info("%s: %s layout", path, "Caffe's, BGR" if caffe else "torchvision's, RGB")
    if caffe:
        first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            first.weight.copy_(first.weight.flip(1))


def _torchvision_name(key: str) -> str:
    for pattern, name in _CAFFE_NAMES:
        key = re.sub(pattern, name, key)
    return key


def _as_convolution(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """Weights of a dense layer, (outputs, inputs * h * w), as a convolution's; other tensors as they are."""
    if expected is None or expected.ndim != 4 or tensor.layout is not torch.strided:
        return tensor
    is_dense = tensor.shape[:2] == expected.flatten(1).shape and tensor.numel() == expected.numel()
    return tensor.reshape(expected.shape) if is_dense else tensor
