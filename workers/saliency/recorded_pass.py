"""One recorded forward pass, through which signals are sent back several times, by several rules.

While it runs, the functions of a network whose backward rule changes are replaced (`Rules`). A replaced one
asks for the rule when a signal comes back, so one forward pass serves them all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extremal.workers.errors import LayerError
from extremal.workers.networks.backward_rules import Rules
from extremal.workers.networks.cut import TOLERANCE
from extremal.workers.networks.network import pool_logits
from extremal.workers.saliency.batch import Batch, Maps
from extremal.workers.saliency.settings import Layers

INPUT = ""  # no layer is called so

# Activations that are no ReLU: what rules for ReLUs, or for excitation, do not speak of.
ACTIVATIONS = {
    F.silu, F.gelu, F.hardswish, F.leaky_relu, F.elu, F.selu, F.celu, F.mish, F.softplus, F.prelu, F.tanh,
    torch.tanh, Tensor.tanh, torch.prelu,
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """A recorded forward pass of N inputs.

    Attributes:
        output: of the network, (N,C) or (N,C,h,w), float32 also where it computes in bf16.
        targets: (N,) int64, the classes to explain.
        outputs: name of a layer -> its output; INPUT -> the input, (N,3,H,W). All are part of the graph.
    """

    output: Tensor
    targets: Tensor
    outputs: Mapping[str, Tensor]
    rules: Rules
    _signals: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def start(self) -> Tensor:
        """(N,C[,h,w]): a one for the class's logit; for maps the softmax over space of the class's map.

        The protocol's 'Gradient start'.
        """
        rows = torch.arange(len(self.targets), device=self.output.device)
        scores = self.output.detach()[rows, self.targets]
        start = torch.zeros_like(self.output)
        start[rows, self.targets] = scores.reshape(len(rows), -1).softmax(1).view_as(scores)
        return start

    def at(self, layer: str) -> Tensor:
        """A layer's output, detached, in at least float32."""
        return wide(self.outputs[layer].detach())

    def back(self, layer: str, rule: str) -> Tensor:
        """The signal that comes back from the output to a layer by a rule, kept for who asks next.

        Raises:
            LayerError: the output does not depend on the layer.
        """
        key = (layer, rule)
        if key not in self._signals:
            self._signals[key] = self.send(None, self.start(), layer, rule)
        return self._signals[key]

    def send(self, top: str | None, signal: Tensor, layer: str, rule: str) -> Tensor:
        """The signal at a layer that follows from one at a higher layer (None = at the output)."""
        above = self.output if top is None else self.outputs[top]
        self.rules.rule = rule
        (received,) = torch.autograd.grad(
            above, self.outputs[layer], signal.to(above.dtype), retain_graph=True, allow_unused=True
        )
        if received is None:
            raise LayerError(f"{'the output' if top is None else top} does not depend on layer {layer!r}")
        return wide(received)


def wide(x: Tensor) -> Tensor:
    """The tensor in float32, unless it is wider already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def record(batch: Batch, layers: Sequence[str], rules: Rules) -> Trace:
    """Run a batch's network under rules on the image of each pair; network and images stay as they were.

    Raises:
        LayerError: one of the layers is not called exactly once, or returns no tensor.
    """
    network, inputs = batch.network, batch.inputs.detach().requires_grad_()
    outputs = {INPUT: inputs}
    bf16 = network.precision == "bf16"
    with torch.enable_grad(), _kept(network.dense, layers, outputs):
        with rules, torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
            output = network.dense(inputs.clone())  # it may work in place on what it is given
        for layer in layers:
            if layer not in outputs:
                raise LayerError(f"layer {layer!r} is never called; give one called once")
        return Trace(wide(output), batch.targets, outputs, rules)


@contextmanager
def _kept(module: nn.Module, layers: Sequence[str], outputs: dict[str, Tensor]) -> Iterator[None]:
    """Keeps the outputs of layers; the network goes on with copies, which it may overwrite."""

    def hook(name: str) -> Callable[[nn.Module, object, object], Tensor]:
        def keep(layer: nn.Module, args: object, output: object) -> Tensor:
            if name in outputs or not isinstance(output, Tensor):
                raise LayerError(f"layer {name!r} is called twice or returns no tensor; give another")
            outputs[name] = output
            return output.clone()

        return keep

    with ExitStack() as hooks:
        for name in dict.fromkeys(layers):
            hooks.enter_context(module.get_submodule(name).register_forward_hook(hook(name)))
        yield


@dataclass(frozen=True)
class Recording:
    """A kind of recorded pass: methods that name the same one, of one network and layers, share it.

    Attributes:
        layers: names of the layers to keep, of the batch's.
        rules: the backward rules of a batch's network.
    """

    layers: Callable[[Layers], Sequence[str]]
    rules: Callable[[Batch], Rules]

    def make(self, batch: Batch) -> Trace:
        """The pass, run."""
        return record(batch, self.layers(batch.layers), self.rules(batch))

    def of(self, batch: Batch) -> Trace:
        """The pass of the batch's network and layers, run when first asked for."""
        key = (self, batch.network, batch.layers)
        if key not in batch.shared:
            batch.shared[key] = self.make(batch)
        trace: Trace = batch.shared[key]
        return trace


def trial(batch: Batch, recording: Recording) -> Trace:
    """The recorded pass of a trial batch, after a check that it gives the network's own logits.

    Raises:
        LayerError: it does not.
    """
    trace = recording.of(batch)
    network = batch.network
    if not trace.output.isfinite().all():
        raise LayerError("the network's output for an image of noise is not finite; check its weights")
    with torch.no_grad():  # of the module that is recorded, whose map may be of more than one place
        wanted = replace(network, module=network.dense)(batch.inputs)
    logits = pool_logits(trace.output.detach())
    if not torch.allclose(logits, wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max())):
        raise LayerError("its forward pass does not give the network's logits while it is recorded")
    return trace


def read(batch: Batch, recording: Recording, maps: Callable[[Trace], Tensor]) -> Maps:
    """Maps (N,h,w) of a batch from a recorded pass, which its methods share.

    Only a batch that exceeds its slots goes in parts, and again for each method: kept, the parts would fill
    the memory that slots are to bound.
    """
    count = len(batch.targets)
    slots = batch.slots or count
    if slots >= count:
        return Maps(maps(recording.of(batch)).float())
    parts = (slice(i, i + slots) for i in range(0, count, slots))
    return Maps(torch.cat([maps(recording.make(part(batch, at))).float() for at in parts]))


def part(batch: Batch, at: slice) -> Batch:
    """Some of the pairs of a batch, over the same images."""
    return replace(batch, image=batch.image[at], targets=batch.targets[at], seeds=batch.seeds[at], slots=None)
