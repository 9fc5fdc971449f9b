"""The GoogLeNet of the papers: BVLC's Caffe model, in torchvision's names.

torchvision's GoogLeNet follows a TensorFlow port and differs from it in three ways, which are undone here.
"""

from typing import cast

from torch import nn
from torchvision import models

CLASSES = 1000


def bvlc_googlenet(num_classes: int = CLASSES) -> nn.Module:
    """BVLC GoogLeNet with PyTorch's default initialisation, (B, 3, H, W) -> (B, num_classes).

    It takes the usual ImageNet mean and std; Caffe's own input scale belongs in the weights of conv1.
    `inception4d` has 528 channels, 14x14 for an input of 224x224.
    """
    network = models.googlenet(
        weights=None, num_classes=num_classes, aux_logits=False, transform_input=False, init_weights=False
    )
    for name, block in network.named_children():
        if name.startswith("inception"):
            _widen_branch3(block)
    network.maxpool1 = nn.Sequential(network.maxpool1, _response_norm())
    network.maxpool2 = nn.Sequential(_response_norm(), network.maxpool2)
    network.maxpool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return cast(nn.Module, network)


def _widen_branch3(inception: nn.Module) -> None:
    """A true 5x5 convolution in place of torchvision's 3x3 (pytorch/vision issue 906)."""
    unit = inception.get_submodule("branch3.1")
    narrow = cast(nn.Conv2d, unit.conv)
    unit.conv = nn.Conv2d(narrow.in_channels, narrow.out_channels, kernel_size=5, padding=2, bias=False)


def _response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=1.0)
