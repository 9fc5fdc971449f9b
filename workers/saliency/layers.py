"""Where the methods read a network."""

from dataclasses import replace

from extremal.workers.errors import LayerError
from extremal.workers.networks.cut import layer_names, unknown_layer
from extremal.workers.networks.network import Network
from extremal.workers.saliency.layer_table import known_layers
from extremal.workers.saliency.settings import Layers


def layers_of(network: Network, chosen: Layers) -> Layers:
    """The layers of a network: those chosen, and the table's for the rest.

    Raises:
        LayerError: a chosen layer does not exist.
    """
    for name in chosen.names():
        if name not in layer_names(network):
            raise LayerError(unknown_layer(network, name))
    given = {key: value for key, value in vars(chosen).items() if value is not None}
    return replace(known_layers(network.name), **given)
