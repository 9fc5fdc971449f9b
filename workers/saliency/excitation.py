"""Excitation backpropagation (Zhang et al., 2016): MWP and its contrastive variant (CMP-5, CMP-6, item 14).

A probability, one at the class, goes down the network. Each unit hands its share p to the units x below it
in proportion to what they excite it by: p_in = x * W+^T(p / (W+ x)), with the positive part of the weights
and without biases; inputs count by their positive part. So it is for convolutions, linear layers, averages,
scalings, and sums of two activations (residual connections: weights of one). ReLUs pass p on. So does batch
normalisation in evaluation mode: folded into the convolution before it, it only scales that one's weights,
and p_in does not change with a positive scale; a negative one turns the signs of the weights, which is done.
Maximum pooling and concatenation hand p on by their gradient. What a unit owes to its bias alone is lost;
otherwise the sum over a layer stays one.

The authors mark the method as patent-pending and for non-commercial use: no default names it.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.errors import LayerError
from extremal.workers.networks.backward_rules import Rules, relu_call
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.gradients import check_map
from extremal.workers.saliency.recorded_pass import ACTIVATIONS, Recording, Trace, read, trial, wide

# Units excited by less give nothing on: the quotient would overflow.
TINY = 1e-20
# A sum of shares may exceed one by this, from rounding.
SLACK = 1e-3

_WEIGHTED = {
    torch.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    F.linear: ("input", "weight", "bias"),
}
_AVERAGES = {F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, Tensor.mean, torch.sum, Tensor.sum}
_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_PRODUCTS = {torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__}
_QUOTIENTS = {torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.__itruediv__}
_IN_PLACE = {
    Tensor.add_, Tensor.__iadd__, Tensor.mul_, Tensor.__imul__, Tensor.div_, Tensor.__itruediv__,
}  # fmt: skip
_PASSING = {F.batch_norm, F.local_response_norm}
# What it would be wrong to hand the signal on by the gradient of.
_UNRULED = ACTIVATIONS | {
    F.sigmoid, torch.sigmoid, Tensor.sigmoid, F.hardsigmoid, F.layer_norm, F.group_norm,
    F.softmax, torch.softmax, Tensor.softmax, F.scaled_dot_product_attention,
}  # fmt: skip


class Excitation(Rules):
    """Shares p among a unit's inputs: `excitation`, or `contrast` with the classifier's weights negated."""

    rule = "excitation"

    def __init__(self, classifier: Tensor | None) -> None:
        """
        Args:
            classifier: the weights that change sign.
        """
        super().__init__()
        self._classifier = classifier

    def replacement(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        rule = _RULES.get(func)
        if rule is not None:
            return rule(self, func, args, kwargs)
        relu = relu_call(func, args, kwargs)
        if relu is None:
            return None
        y: Tensor = _Pass.apply(lambda x: x.clamp(0, relu.ceiling), relu.x)
        return relu.answer(y)

    def weighted(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A convolution or a linear layer."""
        given = {**dict(zip(_WEIGHTED[func], args, strict=False)), **kwargs}
        x, weight, fold = given.pop("input"), given["weight"], _Fold()

        def excite(x: Tensor) -> Tensor:
            signed = wide(weight)
            if fold.sign is not None:
                signed = signed * fold.sign.reshape(-1, *[1] * (weight.ndim - 1))
            if self.rule == "contrast" and weight is self._classifier:
                signed = -signed
            y: Tensor = func(x, **{**given, "weight": signed.clamp(min=0), "bias": None})
            return y

        y: Tensor = _Share.apply(lambda x: func(x, **given), excite, x)
        y.fold = fold  # type: ignore[attr-defined]
        return y

    def average(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """A mean or a sum over positions: a weighted layer whose weights are equal."""
        if not args or not _recorded(args[0]):
            return None
        x, *rest = args

        def average(x: Tensor) -> Tensor:
            y: Tensor = func(x, *rest, **kwargs)
            return y

        y: Tensor = _Share.apply(average, average, x)
        return y

    def sum(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Of two activations; of different shapes, the smaller one is a bias."""
        if kwargs or not all(map(_recorded, args)) or args[0].shape != args[1].shape:
            return None
        return _written(func, args[0], lambda a: _Share.apply(torch.add, torch.add, a, args[1]))

    def scaling(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """By constants: one with a negative sign excites nothing."""
        x, scale = args[:2] if func in _QUOTIENTS or _recorded(args[0]) else args[1::-1]
        if _recorded(scale):
            raise _unruled(func)
        if kwargs or not _recorded(x):
            return None
        call = torch.div if func in _QUOTIENTS else torch.mul

        def excite(x: Tensor) -> Tensor:
            return call(x, scale).clamp(min=0)

        return _written(func, x, lambda x: _Share.apply(lambda x: call(x, scale), excite, x))

    def passing(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A normalisation by constants, or nearly so."""
        x, *rest = args
        scale = kwargs.get("weight", args[3] if len(args) > 3 else None)
        fold = getattr(x, "fold", None)
        if func is F.batch_norm and fold is not None and scale is not None:
            fold.sign = torch.where(scale < 0, -1.0, 1.0)
        y: Tensor = _Pass.apply(lambda x: func(x, *rest, **kwargs), x)
        return y

    def unruled(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Refused."""
        raise _unruled(func)


_RULES: dict[Any, Callable[[Excitation, Any, tuple[Any, ...], dict[str, Any]], Tensor | None]] = {
    **dict.fromkeys(_WEIGHTED, Excitation.weighted),
    **dict.fromkeys(_AVERAGES, Excitation.average),
    **dict.fromkeys(_SUMS, Excitation.sum),
    **dict.fromkeys(_PRODUCTS | _QUOTIENTS, Excitation.scaling),
    **dict.fromkeys(_PASSING, Excitation.passing),
    **dict.fromkeys(_UNRULED, Excitation.unruled),
}


def _recorded(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _unruled(func: Any) -> LayerError:
    name = func.__name__.strip("_")
    return LayerError(f"it has no rule for a function that the network calls on activations: {name}")


def _written(func: Any, target: Tensor, call: Callable[[Tensor], Any]) -> Tensor:
    """The result of a call on a tensor, which an operation in place leaves in that tensor too."""
    if func not in _IN_PLACE:
        y: Tensor = call(target)
        return y
    return target.copy_(call(target.clone()))


class _Fold:
    """What a weighted layer's output is told by the batch normalisation that follows it.

    Attributes:
        sign: of each channel's scale; None = no such normalisation.
    """

    sign: Tensor | None = None


class _Share(torch.autograd.Function):
    """An operation whose backward gives its inputs x: x+ * (dz/dx)^T (p / z), with z = excite(x+)."""

    @staticmethod
    def forward(
        ctx: Any, call: Callable[..., Tensor], excite: Callable[..., Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.excite = excite
        return call(*inputs)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        inputs = [wide(x).clamp(min=0).requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            z = ctx.excite(*inputs)
        share = torch.where(z > TINY, wide(signals[0]) / z, 0).detach()
        pulled = torch.autograd.grad(z, inputs, share)
        return None, None, *(x.detach() * g for x, g in zip(inputs, pulled, strict=True))


class _Pass(torch.autograd.Function):
    """An operation whose backward leaves the signal as it is."""

    @staticmethod
    def forward(ctx: Any, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return call(x)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        return None, signals[0]


def marginal(trace: Trace, layer: str) -> Tensor:
    r"""MWP, (N,h,w): the share p of each position of a layer, summed over channels (CMP-5).

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016:

    ```math
    s_u = \sum_c p_{cu}
    \qquad
    p_\text{in} = x^+ \odot W_+^\top \left( p \oslash W_+ x^+ \right)
    ```
    """
    return trace.back(layer, "excitation").sum(1)


def contrastive(trace: Trace, contrast: str, layer: str) -> Tensor:
    r"""cMWP, (N,h,w): MWP less what it would be with negated classifier weights, at least zero (CMP-6).

    Zhang et al., ECCV 2016. With the signals $`p`$ and $`\bar p`$ of the class and its dual at the contrast
    layer, and the linear way $`E`$ from there down to the other layer,

    ```math
    s_u = \max\left(0, \sum_c E(p - \bar p)_{cu} \right)
    ```

    The two are subtracted at the contrast layer, and the difference goes on down with its signs: just below
    a linear classifier the two have no unit in common, and clamped there, nothing of the contrast would be
    left. It is the map that is clamped at zero (item 14), as the reference maps show.
    """
    signal = trace.back(contrast, "excitation") - trace.back(contrast, "contrast")
    return trace.send(contrast, signal, layer, "excitation").sum(1).clamp(min=0)


def _rules(batch: Batch) -> Excitation:
    if batch.layers.classifier is None:
        return Excitation(None)
    classifier = batch.network.dense.get_submodule(batch.layers.single("classifier"))
    return Excitation(getattr(classifier, "weight", None))


RECORDING = Recording(lambda layers: layers.names("excitation", "contrast"), _rules)


def _mwp(batch: Batch) -> Maps:
    return read(batch, RECORDING, lambda trace: marginal(trace, batch.layers.single("excitation")))


def _cmwp(batch: Batch) -> Maps:
    contrast, layer = batch.layers.single("contrast"), batch.layers.single("excitation")
    return read(batch, RECORDING, lambda trace: contrastive(trace, contrast, layer))


def _check_mwp(batch: Batch) -> None:
    trace, layer = trial(batch, RECORDING), batch.layers.single("excitation")
    if trace.rules.calls == 0:
        raise LayerError("it shares a signal among the inputs of convolutions, and the network calls none")
    check_map(trace, "excitation", layer)
    signal = trace.back(layer, "excitation")
    total, negative = signal.flatten(1).sum(1), signal.clamp(max=0).flatten(1).sum(1)
    if not (total.max() <= 1 + SLACK and negative.min() >= -SLACK):
        raise LayerError("its signal is not shared out by what the network does above the layer")


def _check_cmwp(batch: Batch) -> None:
    _check_mwp(batch)
    trace, contrast = trial(batch, RECORDING), batch.layers.single("contrast")
    if torch.equal(trace.back(contrast, "excitation"), trace.back(contrast, "contrast")):
        raise LayerError(
            f"the weights of {batch.layers.classifier!r} do not matter at layer {contrast!r}; name the "
            'classifier and a layer below it: [saliency.layers] classifier = "...", contrast = "..." in '
            "the TOML"
        )
    contrastive(trace, contrast, batch.layers.single("excitation"))


MWP = Method(_mwp, recorded=True, check=_check_mwp)
CMWP = Method(_cmwp, recorded=True, check=_check_cmwp)
