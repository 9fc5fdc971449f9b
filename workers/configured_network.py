"""The network of a configuration."""

from extremal.workers.config import NetworkConfig
from extremal.workers.networks.network import Network, load_network
from extremal.workers.networks.randomize import randomized_network


def configured_network(config: NetworkConfig) -> Network:
    """The network, loaded on the CPU, with as many layers randomized as asked for.

    Raises:
        NetworkError: as `load_network` and `randomized_network`.
    """
    network = load_network(
        config.name,
        config.weights,
        resize=config.resize,
        crop=config.crop,
        mean=config.mean,
        std=config.std,
    )
    if not config.randomized:
        return network
    return randomized_network(network, config.randomized, config.randomize_seed)
