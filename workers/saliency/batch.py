"""What a saliency method is, what it is given, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from extremal.workers.config import ChannelConfig, Layers, SaliencyConfig, SpatialConfig
from extremal.workers.networks.cut import Split
from extremal.workers.networks.network import Network
from extremal.workers.pointing.point import UNSMOOTHED, Smooth


@dataclass(frozen=True)
class Maps:
    """Saliency of B pairs.

    Attributes:
        maps: (B,h,w) float32, at the method's own resolution; it covers the network's input.
        diagnostics: name -> (B,) float32, whatever else the method found out.
    """

    maps: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """B pairs over I images of one shape. Methods leave the network and the tensors as they were.

    Attributes:
        images: (I,3,H,W) float32, preprocessed, on the network's device.
        image: the image, 0 to I-1, of each pair.
        targets: (B,) int64, the output to explain.
        seeds: one for each pair, from run seed, image and class.
        seed: the run's own, for draws that all pairs share.
        slots: most network inputs at once, None = as many as the method likes.
        split: the network cut at channel.layer; None = cut it for this batch.
        fitted: method -> how many masks it found to fit the memory in an earlier batch, for the methods that
            measure it.
        shared: what the methods of a batch compute once, by name.
    """

    network: Network
    images: Tensor
    image: Sequence[int]
    targets: Tensor
    seeds: Sequence[int]
    seed: int
    layers: Layers
    config: SaliencyConfig
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    slots: int | None = None
    split: Split | None = None
    fitted: dict[str, int] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> Tensor:
        """(B,3,H,W): the image of each pair."""
        return self.images[list(self.image)]


@dataclass(frozen=True)
class Method:
    """A saliency method.

    Attributes:
        compute: maps of a batch.
        smooth: blur of the map, drawn on the original image, before its maximum is taken (items 12 to 17).
        needs: names of the layers in `Layers` that it reads.
        recorded: it reads a recorded pass from `Batch.shared`.
        check: refuses a network, by a trial batch, that it cannot work on: it raises a LayerError.
    """

    compute: Callable[[Batch], Maps]
    smooth: Smooth = UNSMOOTHED
    needs: tuple[str, ...] = ()
    recorded: bool = False
    check: Callable[[Batch], object] | None = None
