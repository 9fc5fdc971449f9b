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
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.recorded_pass import ACTIVATIONS, INPUT, Recording, Trace, read, trial

# A ReLU may be written like this, but so may be anything.
CLAMPS = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, Tensor.clip, F.threshold}


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
    r"""(N,H,W): the largest |gradient| over colours (CMP-2 to CMP-4, protocol item 12).

    ```math
    s_u = \max_c \left| \frac{\partial \Phi}{\partial x_{cu}} \right|
    ```

    plain: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014;
    deconvnet: Zeiler and Fergus, ECCV 2014; guided: Springenberg et al., "Striving for Simplicity", ICLR
    workshop 2015.
    """
    return trace.back(INPUT, rule).abs().amax(1)


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""ReLU of the channels' sum, each weighted by its mean gradient: (N,K,h,w) twice -> (N,h,w).

    Selvaraju et al., "Grad-CAM", ICCV 2017 (CMP-8). With the gradient $`g`$ of the score and the activation
    $`x`$ of a layer, P positions,

    ```math
    s_u = \max\left(0, \sum_c \left( \frac{1}{P} \sum_v g_{cv} \right) x_{cu} \right)
    ```

    Example:
        >>> activation = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
        >>> gradient = torch.tensor([[[[1.0, 3.0]], [[-1.0, -1.0]]]])  # means 2 and -1
        >>> grad_cam(activation, gradient)
        tensor([[[0., 4.]]])
    """
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(1).clamp(min=0)


def linear_approximation(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""Sum over channels of gradient times activation: (N,K,h,w) twice -> (N,h,w), signed.

    Rebuffi et al., "There and Back Again", CVPR 2020 (CMP-10):

    ```math
    s_u = \sum_c g_{cu} x_{cu}
    ```
    """
    return (gradient * activation).sum(1)


def norm_grad(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""|gradient| |activation|, norms over channels: (N,K,h,w) twice -> (N,h,w).

    Rebuffi, Fong, Ji and Vedaldi, "There and Back Again: Revisiting Backpropagation Saliency Methods",
    CVPR 2020 (NG-3): the norm of what each position adds to the weights' gradient of a virtual 1x1 identity
    convolution,

    ```math
    s_u = \| g_u x_u^\top \|_F = \|g_u\| \, \|x_u\|
    ```

    Example:
        >>> activation = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]]])  # norms 5 and 1
        >>> gradient = torch.tensor([[[[-2.0, 0.0]], [[0.0, 3.0]]]])  # norms 2 and 3
        >>> norm_grad(activation, gradient)
        tensor([[[10.,  3.]]])
    """
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=1) * torch.linalg.vector_norm(activation, dim=1)
    return norms


def selective_norm_grad(activation: Tensor, gradient: Tensor) -> Tensor:
    r"""Norm over channels of the positive part of gradient times activation: (N,K,h,w) twice -> (N,h,w).

    Rebuffi et al., CVPR 2020 (NG-4): the same of a virtual scaling layer, of which only what raises the
    class score is kept,

    ```math
    s_u = \| \max(0, g_u \odot x_u) \|
    ```
    """
    norm: Tensor = torch.linalg.vector_norm((gradient * activation).clamp(min=0), dim=1)
    return norm


RECORDING = Recording(lambda layers: layers.names("cam"), lambda batch: ReluRules())


def _input_method(rule: str) -> Method:
    def compute(batch: Batch) -> Maps:
        return read(batch, RECORDING, lambda trace: at_input(trace, rule))

    def check(batch: Batch) -> None:
        trace = trial(batch, RECORDING)
        if rule != "plain" and trace.rules.calls == 0:
            raise LayerError("it changes how ReLUs pass gradients back, and the network calls none")
        others = trace.rules.others if isinstance(trace.rules, ReluRules) else set()
        if rule != "plain" and others:
            names = ", ".join(sorted(others))
            raise LayerError(f"it changes how ReLUs pass gradients back, and the network also calls {names}")
        at_input(trace, rule)

    return Method(compute, recorded=True, check=check)


def _layer_method(maps: Callable[[Tensor, Tensor], Tensor]) -> Method:
    def compute(batch: Batch) -> Maps:
        layer = batch.layers.single("cam")
        return read(batch, RECORDING, lambda t: maps(t.at(layer), t.back(layer, "plain")))

    def check(batch: Batch) -> None:
        trace = trial(batch, RECORDING)
        check_map(trace, "cam", batch.layers.single("cam"))
        trace.back(batch.layers.single("cam"), "plain")

    return Method(compute, recorded=True, check=check)


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
