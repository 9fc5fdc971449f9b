"""Batches for the tests of saliency methods: any small module as a network, with images of noise."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from extremal.workers.images import Preprocess
from extremal.workers.networks.network import Network
from extremal.workers.saliency import Batch
from extremal.workers.saliency.settings import Layers

MEAN = (0.5, 0.5, 0.5)


def network_of(module: nn.Module, side: int = 16, name: str = "tiny", **changes: Any) -> Network:
    """A module as a network for square images, frozen and in evaluation mode."""
    module.eval().requires_grad_(False)
    return Network(name, module, Preprocess(side, side, MEAN, MEAN), None, "", **changes)


def batch_of(
    network: Network, images: Tensor, targets: Sequence[int], layers: Layers, **changes: Any
) -> Batch:
    """One pair for each image."""
    count = list(range(len(images)))
    return Batch(
        network=network,
        images=images,
        image=count,
        targets=torch.tensor(targets),
        seeds=count,
        layers=layers,
        **changes,
    )


def noise(count: int, side: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count,3,side,side) normal."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with parameters and statistics drawn at random, scales of either sign."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            spread = value[0].numel() ** -0.5 if value.ndim > 1 else 1.0
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return module
