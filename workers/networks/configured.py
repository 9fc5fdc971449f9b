"""The network of a configuration."""

from extremal.workers.config import NetworkConfig
from extremal.workers.networks.network import Network, load_network


def configured_network(config: NetworkConfig) -> Network:
    """The network, loaded on the CPU, with as many layers randomized as asked for.

    Raises:
        NetworkError: as `load_network`.
    """
    return load_network(
        config.name,
        config.weights,
        resize=config.resize,
        crop=config.crop,
        mean=config.mean,
        std=config.std,
        randomized=config.randomized,
        randomize_seed=config.randomize_seed,
    )
