"""Methods that read the gradient of the class score, at the input or at a layer.

All start from the class score, a one for its logit (`Trace.start`). The thesis starts NormGrad from the
cross-entropy loss (2.11; C15). Against the class score that turns the sign of what each position contributes,
and selective NormGrad would keep the evidence against the class; and in a network trained for several classes
an image, a softmax over them means nothing. The authors' published examples start from the class score, and
so do the methods that they are compared with: here too, which shares the gradient with Grad-CAM.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.errors import LayerError
from extremal.workers.networks.backward_rules import Rules, relu_call
from extremal.workers.pointing.point import Smooth
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.recorded_pass import ACTIVATIONS, INPUT, Trace, read, record, trial

# A ReLU may be written like this, but so may be anything.
CLAMPS = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, Tensor.clip, F.threshold}
AT_INPUT = Smooth(0.02, "long", "replicate")  # protocol item 12


class ReluRules(Rules):
    """Backward rules of ReLUs: `plain`, `deconvnet` or `guided`.

    Attributes:
        others: names of the activations that were called and are no ReLUs.
    """

    rule = "plain"

    def __init__(self) -> None:
        super().__init__()
        self.others: set[str] = set()

    def replacement(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        call = relu_call(func, args, kwargs)
        if call is None:
            if func in ACTIVATIONS or func in CLAMPS:
                self.others.add(func.__name__)
            return None
        y: Tensor = _Relu.apply(call.x, call.ceiling, self)
        return call.answer(y)


class _Relu(torch.autograd.Function):
    """max(0, min(ceiling, x)); backward by the rules' rule of that moment.

    plain: the signal where 0 < x < ceiling; deconvnet: its positive part, wherever x is (CMP-3); guided: its
    positive part where 0 < x < ceiling (CMP-4).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rules: Rules) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < ceiling))
        ctx.rules = rules
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        (signal,), (open_,), rule = signals, ctx.saved_tensors, ctx.rules.rule
        if rule != "plain":
            signal = signal.clamp(min=0)
        if rule != "deconvnet":
            signal = signal * open_
        return signal, None, None


def at_input(trace: Trace, rule: str) -> Tensor:
    """(N,H,W): the largest |gradient| over colours (CMP-2 to CMP-4, protocol item 12)."""
    return trace.back(INPUT, rule).abs().amax(1)


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """ReLU of the channels' sum, each weighted by its mean gradient (CMP-8): (N,K,h,w) twice -> (N,h,w)."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(1).clamp(min=0)


def linear_approximation(activation: Tensor, gradient: Tensor) -> Tensor:
    """Sum over channels of gradient times activation (CMP-10): (N,K,h,w) twice -> (N,h,w), signed."""
    return (gradient * activation).sum(1)


def norm_grad(activation: Tensor, gradient: Tensor) -> Tensor:
    """|gradient| |activation|, norms over channels: (N,K,h,w) twice -> (N,h,w).

    NG-3: the norm of what each position adds to the weights' gradient of a virtual 1x1 identity convolution.
    """
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=1) * torch.linalg.vector_norm(activation, dim=1)
    return norms


def selective_norm_grad(activation: Tensor, gradient: Tensor) -> Tensor:
    """Norm over channels of the positive part of gradient times activation: (N,K,h,w) twice -> (N,h,w).

    NG-4: the same of a virtual scaling layer, of which only what raises the class score is kept.
    """
    norm: Tensor = torch.linalg.vector_norm((gradient * activation).clamp(min=0), dim=1)
    return norm


def _record(batch: Batch) -> Trace:
    return record(batch, [batch.layers.cam] if batch.layers.cam else [], ReluRules())


def _input_method(rule: str) -> Method:
    def compute(batch: Batch) -> Maps:
        return read(batch, "gradients", _record, lambda trace: at_input(trace, rule))

    def check(batch: Batch) -> None:
        trace = trial(batch, "gradients", _record)
        if rule != "plain" and trace.rules.calls == 0:
            raise LayerError("it changes how ReLUs pass gradients back, and the network calls none")
        others = trace.rules.others if isinstance(trace.rules, ReluRules) else set()
        if rule != "plain" and others:
            names = ", ".join(sorted(others))
            raise LayerError(f"it changes how ReLUs pass gradients back, and the network also calls {names}")
        at_input(trace, rule)

    return Method(compute, AT_INPUT, recorded=True, check=check)


def _layer_method(maps: Callable[[Tensor, Tensor], Tensor]) -> Method:
    def compute(batch: Batch) -> Maps:
        layer = str(batch.layers.cam)
        return read(batch, "gradients", _record, lambda t: maps(t.at(layer), t.back(layer, "plain")))

    def check(batch: Batch) -> None:
        trace = trial(batch, "gradients", _record)
        check_map(trace, "cam", str(batch.layers.cam))
        trace.back(str(batch.layers.cam), "plain")

    return Method(compute, needs=("cam",), recorded=True, check=check)


def check_map(trace: Trace, role: str, layer: str) -> None:
    """Refuse a layer without maps (N,K,h,w) of more than one cell.

    Raises:
        LayerError: it names the key to set.
    """
    shape = tuple(trace.outputs[layer].shape)
    # A square image gives square maps, so equal sizes in the middle mean that the channels are last.
    last = len(shape) == 4 and shape[1] == shape[2] != shape[3]
    if len(shape) != 4 or last or shape[2] * shape[3] == 1:
        raise LayerError(
            f"layer {layer!r} gives {shape}, not maps (N, channels, height, width); name one that does: "
            f'[saliency.layers] {role} = "..." in the TOML'
        )


GRADIENT = _input_method("plain")
DECONVNET = _input_method("deconvnet")
GUIDED = _input_method("guided")
GRAD_CAM = _layer_method(grad_cam)
LINEAR_APPROXIMATION = _layer_method(linear_approximation)
NORM_GRAD = _layer_method(norm_grad)
SELECTIVE_NORM_GRAD = _layer_method(selective_norm_grad)
