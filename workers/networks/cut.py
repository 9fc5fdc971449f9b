"""A network cut in two at a layer: the head runs once an image, the tail once a step.

The cut is made in the network's torch.fx graph. Networks that cannot be traced run whole each step, with the
layer's output replaced by a hook.
"""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from extremal.workers.errors import LayerError
from extremal.workers.networks.network import Network, computed, pool_logits
from extremal.workers.networks.precision import Precision

# Images of the trial at construction, and repeats of each. A mistaken cut changes logits grossly; reduced
# float32 precision on GPUs (TF32) changes them by up to about this fraction of the largest.
TRIAL_BATCH = 2
TRIAL_REPEATS = 2
TOLERANCE = 1e-2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Activation:
    """What the head hands to the tail for B images.

    Attributes:
        value: the layer's output, (B, K, h, w), tokens (B, T, K) or (B, K).
        others: whatever else the tail needs, such as the input of a residual connection.
    """

    value: Tensor
    others: tuple[Any, ...]


class _Parts(Protocol):
    """A way to cut; there are two."""

    def head(self, x: Tensor) -> Activation: ...

    def tail(self, value: Tensor, activation: Activation, images: Tensor) -> object: ...


@dataclass(frozen=True)
class Split:
    """A network cut after a layer; made by `split_network`, on the device where it is used.

    Attributes:
        channels: K, the number of channels of the layer's output.
        channels_last: the layer gives tokens (B, T, K), or maps (B, h, w, K) as Swin transformers do.
        traced: whether the head runs once; if not, each call of the tail costs the whole network.
    """

    layer: str
    channels: int
    channels_last: bool
    traced: bool
    precision: Precision
    _parts: _Parts

    def channel_dim(self, value: Tensor) -> int:
        """The dimension of the channels in the layer's output: 1, or the last if `channels_last`."""
        return value.ndim - 1 if self.channels_last else 1

    def head(self, x: Tensor) -> Activation:
        """(B, 3, H, W) -> the layer's output and what else the tail needs, without gradients."""
        with torch.no_grad(), self._autocast(x):
            return self._parts.head(x)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the layer's output alone, float32, with gradients to x where they are enabled."""
        with self._autocast(x):
            return self._parts.head(x).value.float()

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def tail(self, value: Tensor, activation: Activation, images: Tensor) -> Tensor:
        """Logits (N, C) from changed outputs of the layer.

        Args:
            value: (N, ...). Gradients flow to it; it is left unchanged.
            activation: of the B images, from `head`; left unchanged.
            images: (N,) the image, 0 to B-1, that each value belongs to.
        """
        return computed(self.precision, self._parts.tail, value, activation, images)


def layer_names(network: Network) -> tuple[str, ...]:
    """Names of all layers of a network, in the order of their definition."""
    return tuple(name for name, _ in network.module.named_modules() if name)


def split_network(network: Network, layer: str, size: tuple[int, int] | None = None) -> Split:
    """Cut a network after a layer, named as in `layer_names`; costs a few forward passes of two images.

    Args:
        size: (H, W) of the input on which the cut is tried; None for the square of the preprocessing.

    Raises:
        LayerError: no such layer; a layer that is not called exactly once, that does not return one tensor of
            2 to 4 dimensions, or on which the output does not depend.
    """
    if layer not in layer_names(network):
        raise LayerError(unknown_layer(network, layer))
    h, w = size or (network.side, network.side)
    x = torch.randn(TRIAL_BATCH, 3, h, w, generator=torch.Generator().manual_seed(0)).to(network.device)
    hooks = _HookParts(network.module, layer)
    with torch.no_grad():
        shape = hooks.head(x).value.shape
    parts, traced = _cut(network, layer, x, hooks)
    # A square image gives square maps, so equal sizes in the middle mean that the channels are last.
    last = len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
    return Split(layer, shape[-1] if last else shape[1], last, traced, network.precision, parts)


def unknown_layer(network: Network, layer: str) -> str:
    """What to say of a layer that does not exist: names that do."""
    close = difflib.get_close_matches(layer, layer_names(network))
    hint = f"; close: {', '.join(close)}" if close else ""
    top = ", ".join(name for name, _ in network.module.named_children())
    return f"{network.name} has no layer {layer!r}{hint}; its top-level layers: {top}"


def _cut(network: Network, layer: str, x: Tensor, hooks: "_HookParts") -> tuple[_Parts, bool]:
    """The parts by tracing if that reproduces the logits of the trial x, else those by hooks."""
    try:
        with torch.no_grad():
            parts = _GraphParts(network.module, layer, x)
            _check(parts, x, pool_logits(network.module(x)))
        return parts, True
    except LayerError:
        raise
    # Tracing runs the network on stand-ins, for which its code may raise anything.
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("%s: no cut at %s (%s); every step runs it whole", network.name, layer, cause)
        return hooks, False


def _check(parts: _Parts, x: Tensor, logits: Tensor) -> None:
    activation = parts.head(x)
    images = torch.arange(TRIAL_BATCH, device=x.device).repeat(TRIAL_REPEATS)
    value, wanted = activation.value[images], logits[images]
    limit = TOLERANCE * wanted.abs().max().item()
    for _ in range(2):  # twice, so that operations in place show if they change what they are given
        if not torch.allclose(pool_logits(parts.tail(value, activation, images)), wanted, rtol=0, atol=limit):
            raise ValueError("head and tail together do not give the network's output")


class _Tracer(fx.Tracer):
    """Keeps the layer as one node of the graph, whatever it is made of."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self._layer or super().is_leaf_module(m, module_qualified_name)


class _GraphParts:
    """Two graphs: the layer's descendants are the tail, all other operations the head."""

    def __init__(self, module: nn.Module, layer: str, x: Tensor) -> None:
        graph = _Tracer(layer).trace(module)
        (node,) = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
        after = _descendants(node)
        if not any(n.op == "output" for n in after):
            raise LayerError(f"the network's output does not depend on layer {layer!r}")
        crossing = [
            n for n in graph.nodes if n not in after and n is not node and not after.isdisjoint(n.users)
        ]
        self._head = fx.GraphModule(module, _head_graph(graph, after, node, crossing))
        self._tail = fx.GraphModule(module, _tail_graph(graph, after, node, crossing))
        value, others = self._head(x)
        # Weights and numbers cross the cut as they are; what has a row an image is repeated.
        self._repeated = [isinstance(o, Tensor) and o.ndim > 0 and len(o) == TRIAL_BATCH for o in others]
        self._changed = _changed_in_place(self._tail, [value, *others])

    def head(self, x: Tensor) -> Activation:
        value, others = self._head(x)
        return Activation(value, tuple(others))

    def tail(self, value: Tensor, activation: Activation, images: Tensor) -> object:
        inputs = [value]
        for other, repeated in zip(activation.others, self._repeated, strict=True):
            inputs.append(other[images] if repeated else other)
        copied = [v.clone() if changed else v for v, changed in zip(inputs, self._changed, strict=True)]
        return self._tail(*copied)


def _descendants(node: fx.Node) -> set[fx.Node]:
    descendants: set[fx.Node] = set()
    waiting = list(node.users)
    while waiting:
        current = waiting.pop()
        if current not in descendants:
            descendants.add(current)
            waiting.extend(current.users)
    return descendants


def _head_graph(graph: fx.Graph, after: set[fx.Node], node: fx.Node, crossing: list[fx.Node]) -> fx.Graph:
    head = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for n in graph.nodes:
        if n not in after:
            copies[n] = head.node_copy(n, copies.__getitem__)
    head.output((copies[node], tuple(copies[n] for n in crossing)))
    return head


def _tail_graph(graph: fx.Graph, after: set[fx.Node], node: fx.Node, crossing: list[fx.Node]) -> fx.Graph:
    tail = fx.Graph()
    copies = {n: tail.placeholder(f"input{i}") for i, n in enumerate([node, *crossing])}
    for n in graph.nodes:
        if n in after:
            copies[n] = tail.node_copy(n, copies.__getitem__)
    return tail


def _changed_in_place(tail: fx.GraphModule, inputs: Sequence[Any]) -> list[bool]:
    """Which of the inputs the tail overwrites (ReLU in place, +=); PyTorch counts the writes to a tensor."""
    copies = [v.clone() if isinstance(v, Tensor) else v for v in inputs]
    tail(*copies)
    return [isinstance(v, Tensor) and v._version > 0 for v in copies]


class _HookParts:
    """The whole network each time, with the layer's output replaced on the way."""

    def __init__(self, module: nn.Module, layer: str) -> None:
        self._module = module
        self._layer = layer

    def head(self, x: Tensor) -> Activation:
        outputs: list[Any] = []

        def keep(layer: nn.Module, args: object, output: object) -> None:
            # A copy, because the rest of the network may overwrite it.
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

        with self._module.get_submodule(self._layer).register_forward_hook(keep):
            self._module(x)
        if len(outputs) != 1:
            raise LayerError(f"layer {self._layer!r} is called {len(outputs)} times; give one called once")
        (value,) = outputs
        if not isinstance(value, Tensor) or not 2 <= value.ndim <= 4:
            output = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise LayerError(
                f"layer {self._layer!r} must return one tensor of 2 to 4 dimensions, not {output}"
            )
        return Activation(value, (x,))

    def tail(self, value: Tensor, activation: Activation, images: Tensor) -> object:
        (x,) = activation.others
        layer = self._module.get_submodule(self._layer)
        with layer.register_forward_hook(lambda *_: value.clone()):
            return self._module(x[images])
