"""The table of methods. A new one is a function from a Batch to Maps, and an entry here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workers.points import UNSMOOTHED, Smooth
from workers.saliency.batch import Batch, Maps


@dataclass(frozen=True)
class Method:
    """A saliency method.

    Attributes:
        title: its name in tables.
        compute: maps of a batch.
        smooth: blur of the map, drawn on the original image, before its maximum is taken (items 12 to 17).
        needs: names of the layers in `Layers` that it reads.
    """

    title: str
    compute: Callable[[Batch], Maps]
    smooth: Smooth = UNSMOOTHED
    needs: tuple[str, ...] = ()


METHODS: Mapping[str, Method] = {}


def attribute(batch: Batch, methods: Sequence[str]) -> dict[str, Maps]:
    """Maps of the named methods, which share what they can."""
    return {name: METHODS[name].compute(batch) for name in methods}
