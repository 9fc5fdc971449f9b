"""Who still lives: signs of life of shards in work, and how long one may be silent."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

# So many times the longest pause between two signs so far, within these limits in seconds. Before the first
# sign nothing is known, and a network may be compiled: the upper limit holds.
FACTOR, LEAST_S, MOST_S = 10.0, 300.0, 3600.0

Key = TypeVar("Key", bound=Hashable)


class Watch(Generic[Key]):
    """Keeps when each key last gave a sign of life: a report, or a pulse that is not the one before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[Key, float] = {}
        self._beats: dict[Key, int] = {}
        self._longest_pause = 0.0

    def begin(self, key: Key) -> None:
        """From now on it is watched."""
        self._heard[key] = self._clock()

    def end(self, key: Key) -> None:
        """It is watched no more."""
        self._heard.pop(key, None)
        self._beats.pop(key, None)

    def sign(self, key: Key) -> None:
        """It did something."""
        now = self._clock()
        self._longest_pause = max(self._longest_pause, now - self._heard[key])
        self._heard[key] = now

    def pulse(self, key: Key, beats: int) -> None:
        """It has done so much up to now: a sign if that is another number than before."""
        if self._beats.setdefault(key, beats) != beats:
            self._beats[key] = beats
            self.sign(key)

    def limit(self) -> float:
        """Seconds of silence after which a key is taken to hang."""
        return min(MOST_S, max(LEAST_S, FACTOR * self._longest_pause)) if self._longest_pause else MOST_S

    def silent(self) -> list[Key]:
        """What has been silent for longer than that."""
        now, limit = self._clock(), self.limit()
        return [key for key, heard in self._heard.items() if now - heard > limit]
