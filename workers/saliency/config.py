"""The section `[saliency]` of a run: common settings, and a section for each method that has any."""

from dataclasses import dataclass, field
from typing import TypeVar

from extremal.workers.saliency.methods import CARDS
from extremal.workers.saliency.settings import Layers

C = TypeVar("C")


def _with_sections(of: type[C]) -> type[C]:
    """Adds a field to a class that becomes a dataclass: the settings of every method that has some."""
    for card in CARDS:
        if card.settings is not None:
            of.__annotations__[card.name] = card.settings
            setattr(of, card.name, field(default_factory=card.settings))
    return of


@dataclass(frozen=True)
@_with_sections
class SaliencyConfig:
    """Saliency methods compared on the same pairs.

    Each method that has settings of its own has a section of its name, `[saliency.rise]`.

    Attributes:
        methods: names from `workers.saliency.METHODS`. The center is pointed at in every run: naming it
            changes nothing.
        layers: None in a field = what the table says of the architecture.
        maps: side of the stored map, cells, for the longer side of the input; 0 = store none.
        fidelity: pixels per step of insertion and deletion (docs/fidelity.md); 0 = do not measure them.
    """

    methods: tuple[str, ...] = ("gradient", "grad_cam")
    layers: Layers = field(default_factory=Layers)
    maps: int = 0
    fidelity: int = 0

    def __post_init__(self) -> None:
        # Sorted: the order of names decides nothing, and must not tell two runs apart.
        names = sorted(name for name in self.methods if name != "center")
        object.__setattr__(self, "methods", tuple(names))
        if not self.methods:
            raise ValueError("methods must name one besides the center, which is in every run")
        if len(set(self.methods)) != len(self.methods):
            raise ValueError("methods must be named once each")
        if self.maps < 0 or self.fidelity < 0:
            raise ValueError("maps and fidelity must not be negative")
