"""Networks by name, ready for use: module, preprocessing, class names."""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess
from extremal.workers.networks.classifier import fit_head
from extremal.workers.networks.pointing_game import FullyConvolutional
from extremal.workers.networks.precision import Precision
from extremal.workers.networks.weights import fill, fingerprint, read_state_dict
from extremal.workers.networks.zoo import IMAGENET, RANDOM, Known, load_known, seeded

__all__ = ["IMAGENET", "RANDOM", "Network", "frozen", "load_network", "pool_logits"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A classifier in evaluation mode whose parameters take no gradients.

    Attributes:
        classes: names of the outputs (not always distinct: ImageNet has two cranes); None if unknown.
        fingerprint: SHA-256, hex, of all weights and buffers.
        precision: float32, or bf16 for autocast; logits are float32 with either.
        randomized: names of the weight layers that were re-initialised, from the output.
        plain: where there are any, the network before that: it chooses which output is explained.
    """

    name: str
    module: nn.Module
    preprocess: Preprocess
    classes: tuple[str, ...] | None
    fingerprint: str
    precision: Precision = "float32"
    randomized: tuple[str, ...] = ()
    plain: "Network | None" = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, C)."""
        return computed(self.precision, self.module, x)

    @cached_property
    def dense(self) -> nn.Module:
        """The module that methods with a backward pass go through: (B, 3, H, W) -> (B, C) or (B, C, h, w).

        It is `module`, but for the benchmark's ResNet50, whose average pool becomes one of 7x7 (item 10);
        all other layers are the same objects, by the same names. Masks are scored by the network itself.
        """
        return self.module.dense() if isinstance(self.module, FullyConvolutional) else self.module

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU if there are none."""
        return next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))

    @property
    def side(self) -> int:
        """Height and width of the input made from a square image, pixels."""
        return self.preprocess.crop or self.preprocess.resize

    @cached_property
    def outputs(self) -> int:
        """Number of classes, from one forward pass of zeros."""
        x = torch.zeros(1, 3, self.side, self.side, device=self.device)
        try:
            with torch.no_grad():
                return self(x).shape[1]
        except (Exception, SystemExit) as error:  # whatever the network's code raises
            raise NetworkError(
                f"{self.name} fails on a float32 image of 3x{self.side}x{self.side}: {error}. "
                "Give --resize and --crop that fit it; a network of another dtype is converted with .float()"
            ) from error

    @property
    def original(self) -> "Network":
        """The network before its weights were randomized; itself if they were not."""
        return self if self.plain is None else replace(self.plain, precision=self.precision)

    def to(self, device: torch.device | str) -> "Network":
        """The network on another device; as with nn.Module.to, the module itself moves.

        On a GPU convolutions get the channels-last layout, which they run fastest in, and float32 means
        float32: TF32, which would round to 10 bits, is switched off for the process.
        """
        module = self.module.to(device)
        if torch.device(device).type == "cuda":
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            module = module.to(memory_format=torch.channels_last)
        return replace(self, module=module, plain=self.plain and self.plain.to(device))


def load_network(
    name: str,
    weights: str | Path | None = None,
    *,
    resize: int | None = None,
    crop: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Network:
    """A network ready for use, on the CPU.

    Args:
        name: a torchvision classification model, `bvlc_googlenet`, one of the pointing game's (`vgg16_voc`,
            `vgg16_coco`, `resnet50_voc`, `resnet50_coco`), `shapes_cnn`, or `module:function`, a
            function of your own that returns an nn.Module, weights included, found from the current
            folder too. The module may have the attributes `preprocess` and `classes`.
        weights: a state dict's file, which may have another number of outputs in an otherwise equal head;
            the name of one of torchvision's own sets of weights, downloaded;
            "random" for random weights, the same each time; None for torchvision's default set, or for
            what your function put in.
        resize, crop, mean, std: replace the preprocessing that belongs to the weights; None keeps it, and
            a crop of 0 means the whole image,
            its short side as long as the crop would be.

    Raises:
        NetworkError: unknown name, weights that cannot be had, read or fitted, impossible preprocessing.
    """
    built = _from_function(name, weights) if ":" in name else load_known(name, weights)
    preprocess = _adjusted(name, built.preprocess, resize=resize, crop=crop, mean=mean, std=std)
    try:
        module = built.module.eval().requires_grad_(False)
        return Network(name, module, preprocess, built.classes, fingerprint(module))
    except Exception as error:  # modules of the user's own: without weights yet, on no device, compiled
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NetworkError(
            f"{name}: its weights cannot be frozen and read ({cause}); "
            "return a plain nn.Module in float32 with all its weights in it"
        ) from error


def _adjusted(name: str, preprocess: Preprocess, **wanted: Any) -> Preprocess:
    changes = {key: value for key, value in wanted.items() if value is not None}
    if changes.get("crop") == 0:
        # The whole image at the scale the network knows: the short side as long as its crop was.
        changes = {"resize": preprocess.crop or preprocess.resize, **changes, "crop": None}
    try:
        return replace(preprocess, **changes)
    except ValueError as error:
        raise NetworkError(f"{name}: {error}; a crop of 0 keeps the whole image") from None


@contextmanager
def frozen(network: Network | nn.Module) -> Iterator[Network]:
    """A network or any classifier module as a frozen Network; a module is put back as it was at the end.

    A bare module gets its attribute `preprocess`, or ImageNet's, and an empty fingerprint.
    """
    if isinstance(network, Network):
        yield network
        return
    training = {module: module.training for module in network.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.eval().requires_grad_(False)
    try:
        yield Network(type(network).__name__, network, getattr(network, "preprocess", IMAGENET), None, "")
    finally:
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


def computed(precision: Precision, module: Callable[..., Any], *inputs: Any) -> Tensor:
    """Logits (B, C) of a module or a part of one, which ends in logits, in float32 or bf16 autocast."""
    if precision == "float32":
        return pool_logits(module(*inputs))
    with torch.autocast(inputs[0].device.type, torch.bfloat16):
        return pool_logits(module(*inputs)).float()


def pool_logits(output: object) -> Tensor:
    """A network's output as logits (B, C); maps (B, C, h, w) are averaged over space.

    Raises:
        NetworkError: the output is something else.
    """
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.mean(dim=(2, 3))
    if isinstance(output, Tensor) and output.ndim == 2:
        return output
    kind = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise NetworkError(f"a network must return a tensor (B, C) or (B, C, h, w), not {kind}")


def _from_function(name: str, weights: str | Path | None) -> Known:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:  # an installed command has its own folder there, not the current one
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        module = seeded(function)
    except (Exception, SystemExit) as error:  # whatever the user's code raises, scripts that end too
        raise NetworkError(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise NetworkError(f"{name}: must return an nn.Module, not {type(module).__name__}")
    lazy = [key for key, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise NetworkError(
            f"{name}: {lazy[0]} has no shape yet (a lazy layer); pass an image through the network before "
            "returning it"
        )
    classes = getattr(module, "classes", None)
    if weights is not None and weights != RANDOM:
        state = read_state_dict(Path(weights))
        if fit_head(module, state):  # a file of `extremal finetune`
            log.info("%s: as many outputs as %s has", name, weights)
            classes = None
        fill(module, state, Path(weights))
    preprocess = getattr(module, "preprocess", None)
    if preprocess is None:
        log.warning("%s: no attribute `preprocess`, so ImageNet's is used: %s", name, IMAGENET)
        preprocess = IMAGENET
    if not isinstance(preprocess, Preprocess):
        raise NetworkError(f"{name}: its `preprocess` must be a extremal.workers.images.Preprocess")
    if classes is not None and not (
        isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes)
    ):
        raise NetworkError(f"{name}: its `classes` must be a list of names, one per output")
    return Known(module, preprocess, None if classes is None else tuple(classes))


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,C) logits and (N,) classes -> (N,) scores."""
    return logits.gather(1, targets[:, None])[:, 0]
