"""Channel attribution as one of several saliency methods."""

from extremal.workers.extremal.channel import channel_attribution
from extremal.workers.saliency.batch import Batch, Maps, Method


def channel(batch: Batch) -> Maps:
    """Maps (B,h,w) of the layer's size: activations weighted by the channel mask of a*, summed (eq. 11)."""
    found = channel_attribution(
        batch.network,
        batch.images,
        batch.targets,
        config=batch.channel,
        split=batch.split,
        slots=batch.fitted.get("channel", batch.slots),
        image=batch.image,
    )
    batch.fitted["channel"] = found.slots
    return Maps(found.saliency, {"a_star": found.a_star})


CHANNEL = Method(channel)
