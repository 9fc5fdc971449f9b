"""Signs of life against a clock of our own."""

from extremal.pipeline.driving.silence import FACTOR, LEAST_S, MOST_S, Watch
from extremal.workers.heartbeat import Pulse


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_silence_before_the_first_sign_may_be_long() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    watch.begin("a")
    clock.now = MOST_S
    assert watch.silent() == []
    clock.now += 1
    assert watch.silent() == ["a"]


def test_the_limit_follows_the_longest_pause() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    watch.begin("a")
    watch.begin("b")
    for pause, limit in ((1, LEAST_S), (60, FACTOR * 60), (5, FACTOR * 60), (MOST_S, MOST_S)):
        clock.now += pause
        watch.sign("a")
        assert watch.limit() == limit
    assert watch.silent() == ["b"], "each is judged by its own signs"
    watch.end("b")
    assert watch.silent() == []


def test_a_pulse_is_a_sign_only_if_it_moves() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    watch.begin("a")
    clock.now = 10
    watch.sign("a")
    for beats in (5, 5, 6):
        clock.now += LEAST_S - 1
        watch.pulse("a", beats)
    assert watch.silent() == [], "the last one moved"
    clock.now += FACTOR * 3 * LEAST_S
    watch.pulse("a", 6)
    assert watch.silent() == ["a"]


def test_beats_belong_to_the_shard_of_their_thread() -> None:
    pulse = Pulse()
    pulse.beat()  # of no shard
    pulse.begin(3)
    pulse.beat()
    pulse.beat()
    assert pulse.beats == {3: 2}
    pulse.end(3)
    pulse.beat()
    assert pulse.beats == {}
