"""The saliency methods: a card for each. A new one is a file with its function and Method, and a card here.

Readers of a store take titles and settings from the cards, so this file needs no torch: what computes is
imported when it is first asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from extremal.workers.pointing.smooth import UNSMOOTHED, Smooth
from extremal.workers.saliency.settings import OcclusionConfig, RiseConfig

if TYPE_CHECKING:
    from extremal.workers.saliency.batch import Batch, Maps, Method


@dataclass(frozen=True)
class Card:
    """What is known of a method without computing anything.

    Attributes:
        name: in commands, files and tables of a run. title: in tables for people.
        source: authors, venue and year.
        home: where its `Method` stands, `.module:ATTRIBUTE` of this package, or `module:ATTRIBUTE`.
        settings: dataclass of its section `[saliency.NAME]`, with a default for each field.
        layers: names of the roles in `Layers` that it reads.
        smoothing: blur of its map, drawn on the original image, before the maximum is taken (items 12 to
            17); by default, where settings decide it (`Maps.smoothing`).
        reads: the section of another study that it reads, such as `spatial`; see `Batch.settings`.
    """

    name: str
    title: str
    source: str
    home: str
    settings: type | None = None
    layers: tuple[str, ...] = ()
    smoothing: Smooth = UNSMOOTHED
    reads: str | None = None

    @property
    def method(self) -> "Method":
        """What computes it."""
        module, _, attribute = self.home.partition(":")
        method: Method = getattr(import_module(module, __package__), attribute)
        return method

    @property
    def section(self) -> tuple[str, ...]:
        """Where a run's configuration holds what decides its maps, besides seed, precision and network."""
        if self.reads is not None:
            return (self.reads,)
        return ("saliency", "layers" if self.settings is None else self.name)


_AT_INPUT = Smooth(0.02, "long", "replicate")  # protocol item 12
_CAM, _EXCITATION = ("cam",), ("excitation",)

# In the order of tables: as in the paper's Table 1, then the others.
CARDS = (
    Card(
        "gradient", "Gradient", "Simonyan et al., ICLR workshop 2014", ".gradients:GRADIENT",
        smoothing=_AT_INPUT,
    ),
    Card(
        "deconvnet", "DeconvNet", "Zeiler and Fergus, ECCV 2014", ".gradients:DECONVNET", smoothing=_AT_INPUT
    ),
    Card(
        "guided", "Guided", "Springenberg et al., ICLR workshop 2015", ".gradients:GUIDED",
        smoothing=_AT_INPUT,
    ),
    Card("mwp", "MWP", "Zhang et al., ECCV 2016", ".excitation:MWP", layers=_EXCITATION),
    Card(
        "cmwp", "cMWP", "Zhang et al., ECCV 2016", ".excitation:CMWP",
        layers=("excitation", "contrast", "classifier"),
    ),
    Card("rise", "RISE", "Petsiuk et al., BMVC 2018", ".rise:RISE", settings=RiseConfig),
    Card("grad_cam", "Grad-CAM", "Selvaraju et al., ICCV 2017", ".gradients:GRAD_CAM", layers=_CAM),
    Card(
        "extremal", "Extremal", "Fong et al., ICCV 2019", ".extremal:EXTREMAL", reads="spatial",
        smoothing=Smooth(0.09),  # `spatial.smooth` decides
    ),
    Card(
        "linear_approximation", "Linear approx.", "Rebuffi et al., CVPR 2020",
        ".gradients:LINEAR_APPROXIMATION", layers=_CAM,
    ),
    Card("norm_grad", "NormGrad", "Rebuffi et al., CVPR 2020", ".gradients:NORM_GRAD", layers=_CAM),
    Card(
        "selective_norm_grad", "Sel. NormGrad", "Rebuffi et al., CVPR 2020",
        ".gradients:SELECTIVE_NORM_GRAD", layers=_CAM,
    ),
    Card(
        "occlusion", "Occlusion", "Zeiler and Fergus, ECCV 2014", ".occlusion:OCCLUSION",
        settings=OcclusionConfig,
    ),
    Card("channel", "Channel", "Fong et al., ICCV 2019", ".channel:CHANNEL", reads="channel"),
)  # fmt: skip

METHODS: Mapping[str, Card] = {card.name: card for card in CARDS}


def attribute(batch: "Batch", methods: Sequence[str]) -> "dict[str, Maps]":
    """Maps of the named methods, which share what they can."""
    return {name: METHODS[name].method.compute(batch) for name in methods}
