"""The table of methods. A new one is a file with a function from a Batch to Maps, and an entry here."""

from collections.abc import Mapping, Sequence

import torch

from extremal.workers.config import ChannelConfig, SaliencyConfig, SpatialConfig
from extremal.workers.errors import LayerError
from extremal.workers.networks.network import Network
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.channel import CHANNEL
from extremal.workers.saliency.excitation import CMWP, MWP
from extremal.workers.saliency.extremal import EXTREMAL
from extremal.workers.saliency.gradients import (
    DECONVNET,
    GRAD_CAM,
    GRADIENT,
    GUIDED,
    LINEAR_APPROXIMATION,
    NORM_GRAD,
    SELECTIVE_NORM_GRAD,
)
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.occlusion import OCCLUSION
from extremal.workers.saliency.rise import RISE

METHODS: Mapping[str, Method] = {
    "gradient": GRADIENT,
    "deconvnet": DECONVNET,
    "guided": GUIDED,
    "grad_cam": GRAD_CAM,
    "linear_approximation": LINEAR_APPROXIMATION,
    "norm_grad": NORM_GRAD,
    "selective_norm_grad": SELECTIVE_NORM_GRAD,
    "mwp": MWP,
    "cmwp": CMWP,
    "rise": RISE,
    "occlusion": OCCLUSION,
    "extremal": EXTREMAL,
    "channel": CHANNEL,
}


def attribute(batch: Batch, methods: Sequence[str]) -> dict[str, Maps]:
    """Maps of the named methods, which share what they can."""
    return {name: METHODS[name].compute(batch) for name in methods}


def check_methods(
    network: Network, config: SaliencyConfig, spatial: SpatialConfig, channel: ChannelConfig
) -> None:
    """Refuse a network on which one of the methods cannot work; costs a few passes of one image.

    Raises:
        LayerError: it names the method, the reason and what to do.
    """
    batch = _trial(network, config, spatial, channel)
    for name in config.methods:
        try:
            _check(METHODS[name], batch)
        # Recording runs the network's own code under other functions, where it may raise anything.
        except Exception as error:
            kind = "" if isinstance(error, LayerError) else f"{type(error).__name__}: "
            reason = f"{kind}{error}".splitlines()[0]
            raise LayerError(
                f"{name} cannot work on {network.name}: {reason}. Or leave {name} out of --method"
            ) from error


def _trial(network: Network, config: SaliencyConfig, spatial: SpatialConfig, channel: ChannelConfig) -> Batch:
    """One image of noise, of the network's own size, and its best class."""
    _ = network.outputs  # which says best what is wrong with a network that fails
    shape = (1, 3, network.side, network.side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(network.device)
    with torch.no_grad():
        targets = network(images.clone()).argmax(1)
    layers = layers_of(network, config.layers)
    return Batch(network, images, [0], targets, [0], 0, layers, config, spatial, channel)


def _check(method: Method, batch: Batch) -> None:
    missing = [need for need in method.needs if getattr(batch.layers, need) is None]
    if missing:
        keys = ", ".join(f'{need} = "..."' for need in missing)
        raise LayerError(
            f"no table says where to read it; name the layer: [saliency.layers] {keys} in the TOML"
        )
    if method.check is not None:
        method.check(batch)
