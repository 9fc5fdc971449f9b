"""Cascading randomization of a network's weights, for the sanity check (seeds EP-11, NG-8, 2.6)."""

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from extremal.workers.errors import NetworkError
from extremal.workers.networks.network import Network
from extremal.workers.networks.weights import fingerprint

log = logging.getLogger(__name__)

# Name of a weight layer -> names of the modules that are re-initialised with it, itself among them.
Cascade = dict[str, list[str]]


def randomized_network(network: Network, depth: int, seed: int) -> Network:
    """The network with a copy of its module whose last layers are re-initialised; see `randomize`.

    Raises:
        NetworkError: it has fewer layers, weights that cannot be re-initialised, or cannot be copied.
    """
    try:
        module = copy.deepcopy(network.module)
    except Exception as error:  # whatever a module of the user's own does not like of it
        raise NetworkError(f"{network.name} cannot be copied to be randomized: {error}") from error
    layers = _cascade(network)
    try:
        randomize(module, layers, depth, seed)
    except NetworkError as error:
        raise NetworkError(f"{network.name}: {error}") from None
    names = tuple(layers)[:depth]
    return replace(network, module=module, fingerprint=fingerprint(module), randomized=names, plain=network)


def weight_layers(network: Network) -> tuple[str, ...]:
    """Names of a network's convolutions and linear layers, from the output to the input; see `cascade`."""
    return tuple(_cascade(network))


def _cascade(network: Network) -> Cascade:
    _ = network.outputs  # a network that fails on an image of its own size says so better than `cascade`
    x = torch.zeros(1, 3, network.side, network.side, device=network.device)
    try:
        return cascade(network.module, x)
    except NetworkError as error:
        raise NetworkError(f"{network.name}: {error}") from None


def cascade(module: nn.Module, x: Tensor) -> Cascade:
    """The weight layers of a network, from the output to the input, in the order in which they run.

    A weight layer is a convolution or a linear layer, as the 16 of VGG16 that the paper counts. Whatever else
    has weights and runs after it and before the next one, such as batch norm, goes with it; what runs before
    the first goes with the first. A layer that runs twice has the later place.

    Args:
        x: (B,3,H,W), any image, for one forward pass. Layers that it does not reach keep their weights.

    Raises:
        NetworkError: there is no weight layer, or weights that cannot be re-initialised (attention, bare
            parameters) would stay trained.
    """
    names = {submodule: name for name, submodule in module.named_modules() if _has_state(submodule)}
    resettable = [submodule for submodule in names if hasattr(submodule, "reset_parameters")]
    for submodule, name in names.items():
        if submodule not in resettable and list(submodule.parameters(recurse=False)):
            kind = type(submodule).__name__
            raise NetworkError(
                f"weights of {name or 'the network itself'} ({kind}) cannot be randomized: they are in "
                "no convolution, linear layer or normalization, nor in a module with reset_parameters"
            )
    calls = _calls(module, resettable, x)
    silent = [names[submodule] for submodule in resettable if submodule not in calls]
    if silent:
        log.warning("the network runs without %s: their weights are not randomized", ", ".join(silent))
    layers: Cascade = {}
    first: list[str] = []
    members = first
    for submodule in calls:
        if _is_weight_layer(submodule):
            members = layers.setdefault(names[submodule], [])
        members.append(names[submodule])
    if not layers:
        raise NetworkError("a network without convolutions and linear layers has nothing to randomize")
    layers[next(iter(layers))] += first
    return dict(reversed(layers.items()))


def randomize(module: nn.Module, layers: Mapping[str, Sequence[str]], depth: int, seed: int) -> None:
    """Re-initialise the first `depth` layers of a cascade in place, each by its own `reset_parameters`.

    The new weights of a layer depend on the seed and its name alone: they are the same at any depth, and
    torch's generator is left as it was.

    Args:
        layers: of `cascade`. depth: 1 = the layer next to the output.

    Raises:
        NetworkError: there are fewer layers.
    """
    if depth > len(layers):
        raise NetworkError(
            f"{depth} layers cannot be randomized: the network has {len(layers)} weight layers"
        )
    for layer in list(layers)[:depth]:
        for name in layers[layer]:
            key = hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:8]
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int.from_bytes(key, "big") >> 1)
                module.get_submodule(name).reset_parameters()  # type: ignore[operator]


def _has_state(module: nn.Module) -> bool:
    """Whether a module itself, not one inside it, holds weights or running statistics."""
    return bool([*module.parameters(recurse=False), *module.buffers(recurse=False)])


def _is_weight_layer(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd | nn.Linear)


def _calls(module: nn.Module, wanted: Sequence[nn.Module], x: Tensor) -> list[nn.Module]:
    """The wanted modules in the order of their last call in a forward pass of x."""
    calls: dict[nn.Module, None] = {}

    def note(submodule: nn.Module, *_: object) -> None:
        calls.pop(submodule, None)
        calls[submodule] = None

    hooks = [submodule.register_forward_pre_hook(note) for submodule in wanted]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return list(calls)
