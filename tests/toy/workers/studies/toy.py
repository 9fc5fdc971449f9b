"""The study `toy`: how bright the input of a pair is, and a point at its brightest cell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extremal.storage import Run
    from extremal.workers.config import RunConfig
    from extremal.workers.networks.network import Network
    from extremal.workers.shard.rows import Item
    from extremal.workers.studies.computation import Outcome


@dataclass(frozen=True)
class ToyConfig:
    """Brightness of images.

    Attributes:
        gain: that it is multiplied by.
    """

    gain: float = 1.0


class Toy:
    """A `Computation`."""

    slots = None

    def __init__(self, network: "Network", config: "RunConfig", run: "Run") -> None:
        self._network, self._gain = network, config.settings(ToyConfig).gain

    def compute(self, items: "list[Item]") -> "list[Outcome]":
        # The card reads the settings above, and needs no torch: a study with more code has two files.
        from extremal.storage.kinds import POINTS
        from extremal.workers.pointing.smooth import UNSMOOTHED
        from extremal.workers.studies.computation import Outcome, explained, map_points, pair_batch

        batch = pair_batch(self._network, items)
        maps = batch.images[batch.image].mean(1).cpu()
        points = map_points(items, "toy", maps, UNSMOOTHED)
        bright = (self._gain * maps).mean((1, 2)).tolist()
        outcomes = [
            Outcome([{"brightness": value}], {POINTS: point})
            for value, point in zip(bright, points, strict=True)
        ]
        return explained(self._network, batch, outcomes)
