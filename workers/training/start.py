"""The network that a training begins with: its new head, and whether it takes the images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from extremal.workers.errors import NetworkError
from extremal.workers.images import MAX_INPUT
from extremal.workers.networks.classifier import find_head, fold_input, replace_head
from extremal.workers.networks.network import Network
from extremal.workers.training.batches import Labelled, seed_of


def with_new_head(network: Network, classes: int, seed: int) -> dict[str, Tensor]:
    """Changes a network's head for a fresh one with `classes` outputs; its state dict, on the CPU.

    Raises:
        NetworkError: it has no head to replace.
    """
    fold_input(network.module)
    name = find_head(network.module, network.outputs)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "head"))
        replace_head(network.module, name, classes)
    return portable(network.module)


def portable(module: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU in the usual layout."""
    return {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}


def try_whole_image(network: Network, images: Sequence[Labelled]) -> None:
    """One forward pass of the first held-out image's shape: a network for squares should say so now.

    Raises:
        NetworkError: it does not take that shape.
    """
    sizes = ((image.width, image.height) for image in images)
    shapes = (network.preprocess.input_shape(w, h) for w, h in sizes if w and h)
    # An annotation that lies about its image must not decide for the others.
    shape = next((shape for shape in shapes if math.prod(shape) <= MAX_INPUT), (network.side,) * 2)
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *shape))
    except Exception as error:
        raise NetworkError(
            f"{network.name} does not take whole images ({shape[0]}x{shape[1]}): {error}. "
            "Give --crop (for example --crop 224) to measure on the central square."
        ) from error
