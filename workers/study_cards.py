"""The studies: a card for each. A new one is a file in studies/ that computes it, and a card here.

Needs neither torch nor pyarrow: what computes is imported when it is first asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from extremal.workers.extremal.settings import ChannelConfig, SpatialConfig
from extremal.workers.inversion.settings import InversionConfig
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.methods import METHODS

if TYPE_CHECKING:
    from extremal.workers.studies.computation import Computation


def _nothing(settings: Any) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class Study:
    """What is known of a study without computing anything.

    Attributes:
        name: of its section of settings, its `--method` and its table.
        settings: dataclass of that section, with a default for each field.
        home: its `Computation`, `.module:CLASS` below workers/studies, or `module:CLASS`.
        unit: what it computes one after the other, by its settings: a name in `storage.kinds.UNITS`.
        reads: the other sections whose settings it reads.
        unread: keys of its own section that mean nothing beside the others.
        places: keys of its own section that are locations, and so no identity.
        rows: rows of its table for each unit.
        steps: where in the configuration its number of iterations stands.
        forgiving: whether bf16 is good enough on a GPU unless said otherwise: masks forgive it, small
            differences of logits and gradients, and the benchmark's protocol, do not.
    """

    name: str
    settings: type
    home: str
    unit: Callable[[Any], str] = lambda settings: "pair"
    reads: Callable[[Any], frozenset[str]] = _nothing
    unread: Callable[[Any], frozenset[str]] = _nothing
    places: tuple[str, ...] = ()
    rows: Callable[[Any], int] = lambda settings: 1
    steps: tuple[str, ...] = ()
    forgiving: bool = False

    @property
    def computation(self) -> "type[Computation]":
        """What computes it."""
        module, _, attribute = self.home.partition(":")
        computation: type[Computation] = getattr(import_module(module, f"{__package__}.studies"), attribute)
        return computation


def _read_by_methods(settings: SaliencyConfig) -> frozenset[str]:
    sections = (METHODS[name].reads for name in settings.methods if name in METHODS)
    return frozenset(section for section in sections if section is not None)


def _methods_left_out(settings: SaliencyConfig) -> frozenset[str]:
    cards = (card for card in METHODS.values() if card.settings is not None)
    return frozenset(card.name for card in cards if card.name not in settings.methods)


CARDS = (
    Study(
        "spatial", SpatialConfig, ".spatial:Spatial", steps=("spatial", "schedule", "steps"), forgiving=True
    ),
    Study(
        "channel", ChannelConfig, ".channel:Channel", steps=("channel", "schedule", "steps"), forgiving=True
    ),
    Study(
        "saliency", SaliencyConfig, ".saliency:Saliency",
        reads=_read_by_methods,
        unread=_methods_left_out,
        rows=lambda settings: len(settings.methods),
        steps=("spatial", "schedule", "steps"),  # of the methods, extremal takes steps
    ),
    Study(
        "inversion", InversionConfig, ".inversion:Inversion",
        unit=lambda settings: "channel" if settings.subject == "channels" else "pair",
        reads=lambda settings: frozenset({"channel"}),  # of the channel run
        unread=lambda settings: frozenset({"objective" if settings.subject == "channels" else "per_class"}),
        places=("channels",),
        steps=("inversion", "steps"),
    ),
)  # fmt: skip

STUDIES: Mapping[str, Study] = {study.name: study for study in CARDS}
