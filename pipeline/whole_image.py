"""One forward pass of a whole image's shape: a network for squares only should say so at the start."""

import math
from collections.abc import Iterable

import torch

from extremal.pipeline.errors import ConfigError
from extremal.workers.images import MAX_INPUT
from extremal.workers.networks.network import Network


def try_whole_image(network: Network, sizes: Iterable[tuple[int | None, int | None]]) -> None:
    """Try the input shape of the first image whose size (width, height) is known.

    Raises:
        ConfigError: the network does not take it.
    """
    shapes = (network.preprocess.input_shape(w, h) for w, h in sizes if w and h)
    # An annotation that lies about its image must not decide for the others.
    shape = next((shape for shape in shapes if math.prod(shape) <= MAX_INPUT), None)
    if shape is None:
        return
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *shape, device=network.device))
    except Exception as error:
        raise ConfigError(
            f"{network.name} does not take whole images ({shape[0]}x{shape[1]}): {error}. "
            "Give --crop (for example --crop 224) to show it the central square."
        ) from error
