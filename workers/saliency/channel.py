"""Channel attribution as one of several saliency methods."""

from extremal.workers.extremal.channel import channel_attribution
from extremal.workers.extremal.settings import ChannelConfig
from extremal.workers.saliency.batch import Batch, Maps, Method


def channel(batch: Batch) -> Maps:
    r"""Maps (B,h,w) of the layer's size: activations weighted by the channel mask of a*, summed (eq. 11).

    Fong et al., ICCV 2019: $`s = \sum_c m_{a^*,c} \phi_c(x)`$; see `channel_attribution`.
    """
    result = channel_attribution(
        batch.network,
        batch.images,
        batch.targets,
        config=batch.settings(ChannelConfig),
        split=batch.split,
        slots=batch.fitted.get("channel", batch.slots),
        image=batch.image,
    )
    batch.fitted["channel"] = result.slots
    return Maps(result.saliency, {"a_star": result.a_star})


CHANNEL = Method(channel)
