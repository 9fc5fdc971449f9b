"""A sign of life: how much this process has done, in pieces far smaller than a batch."""


class Pulse:
    """Counts iterations and decoded images. A driver that sees it stand still knows that the process hangs."""

    beats = 0

    def beat(self) -> None:
        """Something was done."""
        self.beats += 1


PULSE = Pulse()
