"""The table of methods. A new one is a file with a function from a Batch to Maps, and an entry here."""

from collections.abc import Mapping, Sequence

from workers.saliency.batch import Batch, Maps, Method
from workers.saliency.channel import CHANNEL
from workers.saliency.extremal import EXTREMAL
from workers.saliency.occlusion import OCCLUSION
from workers.saliency.rise import RISE

METHODS: Mapping[str, Method] = {
    "rise": RISE,
    "occlusion": OCCLUSION,
    "extremal": EXTREMAL,
    "channel": CHANNEL,
}


def attribute(batch: Batch, methods: Sequence[str]) -> dict[str, Maps]:
    """Maps of the named methods, which share what they can."""
    return {name: METHODS[name].compute(batch) for name in methods}
