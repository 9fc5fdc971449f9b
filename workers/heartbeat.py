"""Signs of life: how much the shards in work have done, in pieces far smaller than a batch."""

import threading


class Pulse:
    """Counts iterations and decoded images, for each shard by the thread that works at it."""

    def __init__(self) -> None:
        self._here = threading.local()
        self.beats: dict[int, int] = {}

    def begin(self, shard: int) -> None:
        """This thread works at a shard from now on."""
        self._here.shard = shard
        self.beats[shard] = 0

    def end(self, shard: int) -> None:
        """The shard is no longer in work."""
        self._here.shard = None
        self.beats.pop(shard, None)

    def beat(self) -> None:
        """Something was done; of no account where no shard is in work."""
        shard = getattr(self._here, "shard", None)
        if shard is not None:
            self.beats[shard] += 1


PULSE = Pulse()
