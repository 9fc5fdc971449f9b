"""A classifier's head, its last layer with weights: found, and replaced by one for other classes."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from extremal.workers.errors import NetworkError

Head = nn.Linear | nn.Conv2d

# torchvision's GoogLeNet and Inception take inputs normalised by ImageNet's colours and turn them into these.
_COLOURS = torch.tensor([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])
_HALF = 0.5


def find_head(module: nn.Module, outputs: int) -> str:
    """Dotted name of the head: the last linear layer or 1x1 convolution, as defined, with so many outputs.

    Raises:
        NetworkError: there is none.
    """
    names = [name for name, layer in module.named_modules() if _outputs(layer) == outputs]
    if not names:
        raise NetworkError(
            f"{type(module).__name__}: no linear layer and no 1x1 convolution has the network's {outputs} "
            "outputs, so there is no head to replace; end the network in an nn.Linear"
        )
    return str(names[-1])


def _outputs(layer: nn.Module) -> int | None:
    # Attention's output projection is a Linear whose forward is never called.
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return None
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        return layer.out_channels
    return None


def replace_head(module: nn.Module, name: str, outputs: int) -> Head:
    """Put a fresh layer with `outputs` outputs in the place of a head, and return it.

    Its numbers come from torch's generator. Raises NetworkError if the module itself is the head.
    """
    old = module.get_submodule(name)
    bias = old.bias is not None
    new: Head
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, outputs, bias)
    elif isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, outputs, 1, old.stride, old.padding, bias=bias)  # type: ignore[arg-type]
    else:
        raise TypeError(f"{name} is a {type(old).__name__}, no head")
    if not name:
        raise NetworkError(f"the network is one {type(old).__name__}; put it into an nn.Sequential")
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, new)
    return new


def fit_head(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Replace the head if the state dict differs from the module in the number of its outputs alone.

    Returns:
        Whether it did.
    """
    tensors = module.state_dict()
    odd = [key for key, tensor in tensors.items() if key in state and state[key].shape != tensor.shape]
    layers = {key.rpartition(".")[0] for key in odd}
    if len(layers) != 1:
        return False
    (name,) = layers
    weight = state.get(f"{name}.weight")
    fits = weight is not None and weight.ndim > 0 and weight.shape[1:] == tensors[f"{name}.weight"].shape[1:]
    if not name or not fits or _outputs(module.get_submodule(name)) is None:
        return False
    replace_head(module, name, len(state[f"{name}.weight"]))
    return True


@torch.no_grad()
def fold_input(module: nn.Module) -> None:
    """Move GoogLeNet's and Inception's `transform_input`, which no state dict holds, into their first layer.

    They compute s x + t of each colour first; the convolution takes s, its batch norm's running mean t.
    Exact but for GoogLeNet's border: its padding stands for ImageNet's mean colour then, not for grey.
    """
    if not getattr(module, "transform_input", False):
        return
    conv = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))
    if norm.running_mean is None:
        raise NetworkError(f"{type(module).__name__}: its first batch norm keeps no mean to fold into")
    mean, std = _COLOURS.to(conv.weight).unbind(1)
    norm.running_mean -= (conv.weight * ((mean - _HALF) / _HALF)[:, None, None]).sum(dim=(1, 2, 3))
    conv.weight *= (std / _HALF)[:, None, None]
    module.transform_input = False  # type: ignore[assignment]


@torch.no_grad()
def rectified(network: Callable[[Tensor], Tensor], head: Head, x: Tensor) -> bool:
    """Whether a ReLU follows the head, as in SqueezeNet: its logits cannot be negative.

    Raises:
        NetworkError: something else follows, such as a softmax, or the outputs come from another layer.
    """
    before = {name: parameter.clone() for name, parameter in head.named_parameters()}
    head.weight.zero_()
    bias = 0.0
    if head.bias is not None:
        head.bias.fill_(bias := -1.0)
    logits = network(x)
    for name, parameter in head.named_parameters():
        parameter.copy_(before[name])
    if torch.allclose(logits, torch.full_like(logits, bias), atol=1e-3):  # a mean over space rounds
        return False
    if (logits == 0).all():
        return True
    raise NetworkError(
        f"with its last layer constant at {bias:g} the network gives {logits.flatten()[0].item():.3g}: what "
        "follows that layer changes it (a softmax, a sigmoid?); let the network return plain logits"
    )
