"""What a saliency method is, what it is given, and what it returns."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor

from extremal.workers.networks.cut import Split
from extremal.workers.networks.network import Network
from extremal.workers.pointing.smooth import Smooth
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.settings import Layers

S = TypeVar("S")


@dataclass(frozen=True)
class Maps:
    """Saliency of B pairs.

    Attributes:
        maps: (B,h,w) float32, at the method's own resolution; it covers the network's input.
        diagnostics: name -> (B,) float32, whatever else the method measured.
        smoothing: blur before pointing, where settings decide it; None = the card's.
    """

    maps: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    smoothing: Smooth | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B pairs over I images of one shape. Methods leave the network and the tensors as they were.

    A wrapper gives its method a changed batch, `replace(batch, images=...)`, or the same pairs before
    another network, `batch.seen_by(...)`.

    Attributes:
        images: (I,3,H,W) float32, preprocessed, on the network's device.
        image: the image, 0 to I-1, of each pair.
        targets: (B,) int64, the output to explain.
        seeds: one for each pair, from run seed, image and class.
        seed: the run's own, for draws that all pairs share.
        sections: the run's sections that cards read besides `config`; see `settings`.
        slots: most network inputs at once, None = as many as the method likes.
        split: the network cut at channel.layer; None = cut it for this batch.
        fitted: method -> how many masks it found to fit the memory in an earlier batch, for the methods that
            measure it.
        shared: what methods compute once for this batch, such as recorded passes; a batch that is changed
            begins without.
    """

    network: Network
    images: Tensor
    image: Sequence[int]
    targets: Tensor
    seeds: Sequence[int]
    seed: int = 0
    layers: Layers = field(default_factory=Layers)
    config: SaliencyConfig = field(default_factory=SaliencyConfig)
    sections: tuple[object, ...] = ()
    slots: int | None = None
    split: Split | None = None
    fitted: dict[str, int] = field(default_factory=dict)
    shared: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @property
    def inputs(self) -> Tensor:
        """(B,3,H,W): the image of each pair."""
        return self.images[list(self.image)]

    def settings(self, of: type[S]) -> S:
        """The run's settings of a type: a section of its own, or that of a method.

        Raises:
            KeyError: neither `sections` nor `config` holds such settings.
        """
        for section in (*self.sections, *vars(self.config).values()):
            if isinstance(section, of):
                return section
        raise KeyError(f"a method reads {of.__name__}, which Batch.sections does not hold")

    def seen_by(self, network: Network, layers: Layers) -> "Batch":
        """The same pairs before another network, read at its layers; what is shared stays shared."""
        other = replace(self, network=network, layers=layers, split=None, fitted={})
        object.__setattr__(other, "shared", self.shared)
        return other


@dataclass(frozen=True)
class Method:
    """What computes a saliency method.

    Attributes:
        compute: maps of a batch.
        recorded: it reads a recorded pass from `Batch.shared`.
        check: refuses a network, by a trial batch, that it cannot work on: it raises a LayerError.
    """

    compute: Callable[[Batch], Maps]
    recorded: bool = False
    check: Callable[[Batch], object] | None = None
