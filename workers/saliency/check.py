"""Whether the methods can work on a network: a trial of each, before anything is planned."""

import torch

from extremal.workers.errors import LayerError
from extremal.workers.networks.network import Network
from extremal.workers.saliency.batch import Batch
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.methods import METHODS, Card


def check_methods(network: Network, config: SaliencyConfig, sections: tuple[object, ...]) -> None:
    """Refuse a network on which one of the methods cannot work; costs a few passes of one image.

    Args:
        sections: settings of the run's sections that the methods read, as in `Batch`.

    Raises:
        LayerError: it names the method, the reason and what to do.
    """
    batch = _trial(network, config, sections)
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


def _trial(network: Network, config: SaliencyConfig, sections: tuple[object, ...]) -> Batch:
    """One image of noise, of the network's own size, and its best class."""
    _ = network.outputs  # which says best what is wrong with a network that fails
    shape = (1, 3, network.side, network.side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(network.device)
    with torch.no_grad():
        targets = network(images.clone()).argmax(1)
    return Batch(
        network=network,
        images=images,
        image=[0],
        targets=targets,
        seeds=[0],
        layers=layers_of(network, config.layers),
        config=config,
        sections=sections,
    )


def _check(card: Card, batch: Batch) -> None:
    missing = [role for role in card.layers if not batch.layers.names(role)]
    if missing:
        keys = ", ".join(f'{role} = "..."' for role in missing)
        raise LayerError(
            f"no table says where to read it; name the layer: [saliency.layers] {keys} in the TOML"
        )
    if card.method.check is not None:
        card.method.check(batch)
