"""A small network for drawn shapes: trained within a minute on a CPU, for the demo and for tests."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from extremal.workers.images import Preprocess

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PREPROCESS = Preprocess(resize=128, crop=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BATCH = 16
LEARNING_RATE = 8e-3

Progress = Callable[[int, int, float], None]

_FLIPS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x.flip(2),
    lambda x: x.flip(3),
    lambda x: x.transpose(2, 3),
)


class ShapesCNN(nn.Module):
    """Four blocks, an eighth of the input's size, then each channel's maximum and a linear layer.

    Two choices make it learn from few images: the first block takes absolute values, so that a dark shape
    on light and a light one on dark look alike; and the maximum, not the mean, sums up the image, because a
    shape covers a small part of it.
    """

    preprocess: Preprocess = PREPROCESS
    classes: tuple[str, ...] | None

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = SHAPES if classes == len(SHAPES) else None
        self.block1 = Contrast(3, 24)
        self.block2 = _block(24, 48, stride=1)
        self.block3 = _block(48, 64, stride=2)
        self.block4 = _block(64, 128, stride=1)
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.block4(self.block3(self.block2(self.block1(x))))
        logits: Tensor = self.fc(features.amax(dim=(2, 3)))
        return logits


class Contrast(nn.Module):
    """Size of the response of filters with stride 4, whatever its sign: (B, inputs, H, W) -> a quarter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=7, stride=4, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        response: Tensor = self.bn(self.conv(x).abs())
        return response


def shapes_cnn(classes: int = len(SHAPES)) -> nn.Module:
    """An untrained network, (B, 3, H, W) of any size -> (B, classes) multi-label logits.

    It has the attributes `preprocess` and `classes` (the names; None unless there are six).
    """
    return ShapesCNN(classes)


def train_shapes_cnn(
    images: Tensor, labels: Tensor, *, epochs: int, seed: int, progress: Progress | None = None
) -> tuple[nn.Module, float]:
    """Train on square images, (N, 3, H, H) uint8, with labels, (N, C) float multi-hot.

    Meant for shapes: classes that only differ in colour, or in which way up they are, cannot be learnt.

    Args:
        progress: called after each epoch with the epochs done, the epochs in all and the mean loss.

    Returns:
        The network in evaluation mode without gradients, and the fraction of the training images whose
        labels are all right. Both depend only on the arguments.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # Channels last is faster on CPUs; what is returned has the usual layout again.
        network = shapes_cnn(labels.shape[1]).to(memory_format=torch.channels_last)
        x = normalise(images).contiguous(memory_format=torch.channels_last)
        _optimize(network, x, labels, epochs, progress)
    network.to(memory_format=torch.contiguous_format)
    network.eval().requires_grad_(False)
    return network, _accuracy(network, normalise(images), labels)


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) to the float32 input that `PREPROCESS` makes of images of its size."""
    return images.float().div(255).sub(PREPROCESS.mean[0]).div(PREPROCESS.std[0])


def _optimize(network: nn.Module, x: Tensor, labels: Tensor, epochs: int, progress: Progress | None) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(x)).chunk(steps):
            logits = network(_vary(x[chosen]))
            loss = binary_cross_entropy_with_logits(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if progress is not None:
            progress(epoch + 1, epochs, total / len(x))


def _vary(x: Tensor) -> Tensor:
    """Each image of (B, 3, H, W) flipped at random in up to three ways, the batch's colours exchanged.

    Neither changes a shape's name, and without them a few hundred images are learnt by heart.
    """
    for flip in _FLIPS:
        chosen = torch.rand(len(x), 1, 1, 1) < 0.5
        x = torch.where(chosen, flip(x), x)
    return x[:, torch.randperm(3)]


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    logits = torch.cat([network(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])
    return ((logits > 0) == (labels > 0.5)).all(dim=1).float().mean().item()


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
