"""Channel attribution as one of several saliency methods."""

from workers.channel import channel_attribution
from workers.saliency.batch import Batch, Maps, Method


def channel(batch: Batch) -> Maps:
    """Maps (B,h,w) of the layer's size: activations weighted by the channel mask of a*, summed (eq. 11)."""
    found = channel_attribution(
        batch.network,
        batch.images,
        batch.targets,
        config=batch.channel,
        split=batch.split,
        slots=batch.slots,  # of the tail, which takes more than the whole network: not worth sharing
        image=batch.image,
    )
    return Maps(found.saliency, {"a_star": found.a_star})


CHANNEL = Method(channel)
