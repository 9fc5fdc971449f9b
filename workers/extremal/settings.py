"""Every number of the two optimizations, typed; a run stores those that differ from the defaults.

Needs no torch. Presets: `fast` was found by experiment (docs/benchmarks.md), `torchray` follows the
reference implementation, `paper` the text. Where the paper is silent (its gaps G1-G4, G10) the comment
beside the number says what was chosen and why.
"""

from dataclasses import dataclass, replace
from typing import Literal

Game = Literal["preserve", "delete", "hybrid"]
Kernel = Literal["torchray", "paper"]
Preset = Literal["fast", "torchray", "paper"]
Jitter = Literal["none", "alternate", "random"]

# fmt: off
PAPER_COUNTS = (
    1, 5, 10, 20, 25, 35, 40, 50, 60, 70, 80, 90, 100, 150, 200, 250, 300, 350, 400, 450, 528,
)
# fmt: on
PAPER_CHANNELS = 528


@dataclass(frozen=True)
class Schedule:
    """Gradient ascent with momentum, and the weight lambda of the penalty along it.

    Attributes:
        steps: evaluations of the objective; the last one is not followed by an update.
        lr: learning rate, at the start.
        momentum, dampening: of stochastic gradient descent; momentum is Adam's first beta.
        weight: lambda, in units of the reward per unit of the penalty.
        weight_rule: `growing` weight * growth**t; `doubling` weight doubled at 1/3 and 2/3 of the steps;
            `ramp` from 0 to weight over the first ramp steps; `geometric` from weight to final.
        growth: of a growing weight. ramp: steps of a ramp. final: end of a geometric weight.
        hold: part of the steps, at the end, in which a geometric weight stays final and lr decays.
        decay: fraction of lr left at the end of `hold`, linearly.
        optimizer: sgd or adam. second: Adam's second beta.
    """

    steps: int
    lr: float
    momentum: float
    dampening: float
    weight: float
    weight_rule: Literal["growing", "doubling", "ramp", "geometric"]
    growth: float = 1.0
    ramp: int = 0
    final: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    second: float = 0.99
    hold: float = 0.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if self.lr <= 0 or self.growth <= 0 or self.weight < 0 or self.ramp < 0:
            raise ValueError("lr and growth must be positive, weight and ramp not negative")
        if not (0 <= self.momentum < 1 and 0 <= self.dampening <= 1 and 0 <= self.second < 1):
            raise ValueError("momentum and second must be in [0, 1), dampening in [0, 1]")
        if not (0 <= self.hold < 1 and 0 <= self.decay <= 1):
            raise ValueError("hold must be in [0, 1) and decay in [0, 1]")
        if self.weight_rule == "geometric" and not (self.weight > 0 and self.final > 0):
            raise ValueError("a geometric weight must be positive at both ends: weight and final")

    def lr_at(self, step: int) -> float:
        """Learning rate at an iteration, counted from 0."""
        start = self._hold_from()
        part = max(0, step - start) / max(1, self.steps - 1 - start)
        return self.lr * (1 - (1 - self.decay) * part)

    def _hold_from(self) -> int:
        return round((self.steps - 1) * (1 - self.hold))

    def weight_at(self, step: int) -> float:
        """Lambda at an iteration, counted from 0."""
        if self.weight_rule == "growing":
            return self.weight * self.growth**step
        if self.weight_rule == "doubling":
            return self.weight * 2.0 ** (3 * step // self.steps)
        if self.weight_rule == "geometric":
            part = min(1.0, step / max(1, self._hold_from()))
            return float(self.weight * (self.final / self.weight) ** part)
        return self.weight * min(1.0, step / self.ramp) if self.ramp else self.weight


@dataclass(frozen=True)
class MaskConfig:
    """The mask family.

    Attributes:
        step: pixels between parameters.
        sigma: radius of the kernel and width of the margin, pixels.
        kernel: profile of the kernel.
        inverse_temperature: 1/T of the smooth max.
    """

    step: int = 7
    sigma: float = 21.0
    kernel: Kernel = "torchray"
    inverse_temperature: float = 20.0

    def __post_init__(self) -> None:
        if self.step < 1 or self.sigma <= 0 or self.inverse_temperature <= 0:
            raise ValueError("mask step, sigma and inverse_temperature must be positive")
        if self.step > self.sigma:
            raise ValueError(f"mask step {self.step} must be at most sigma {self.sigma}")
        if self.inverse_temperature > 60:
            raise ValueError(f"inverse_temperature {self.inverse_temperature} overflows float32: at most 60")


@dataclass(frozen=True)
class SpatialConfig:
    """Extremal perturbations (section 3 of the paper).

    Attributes:
        areas: fractions to keep, each an optimization of its own. They are fractions of the
            mask with its margin, as in the reference implementation: counted on the image alone, the
            part of a blob that lies beyond the border is free, and masks creep along the edges (G3).
        game: `preserve`, `delete` or `hybrid`.
        perturbation: `blur`, or `fade` to zero in the network's normalised input.
        levels: images in the perturbation pyramid.
        sigma_max: strongest blur, standard deviation in pixels.
        border: beyond the image, `zero` (the mean colour) or `renormalize` the kernel, as printed.
        jitter: flip left-right `none`, every `alternate` iteration, or at `random` from the pair's seed.
        tau: a* is the smallest area whose score reaches tau of the full score.
        search: find a* by bisection to this tolerance, an area, between the areas; 0 = only among them.
        warm_start: iterations spared by starting an area from the next larger one's mask; 0 = from ones.
        smooth: blur of the summed masks before pointing, fraction of the image's short side.
    """

    areas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    game: Game = "preserve"
    perturbation: Literal["blur", "fade"] = "blur"
    levels: int = 8
    sigma_max: float = 20.0
    border: Literal["zero", "renormalize"] = "zero"
    jitter: Jitter = "alternate"
    tau: float = 1.0
    search: float = 0.0
    warm_start: int = 0
    smooth: float = 0.09
    mask: MaskConfig = MaskConfig()
    schedule: Schedule = Schedule(800, 0.01, 0.9, 0.9, 300.0, "growing", growth=1.0035)

    def __post_init__(self) -> None:
        areas = self.areas
        if not areas or list(areas) != sorted(set(areas)) or areas[0] <= 0 or areas[-1] > 1:
            raise ValueError(f"areas must be ascending fractions in (0, 1], not {list(areas)}")
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, not {self.levels}")
        if self.sigma_max < 0 or self.smooth < 0 or self.search < 0:
            raise ValueError("sigma_max, smooth and search must not be negative")
        if 0 < self.search < 1e-3:
            raise ValueError(f"search is a tolerance of areas, 0 or at least 0.001, not {self.search}")
        if not 0 <= self.warm_start < self.schedule.steps:
            raise ValueError(f"warm_start must be less than the {self.schedule.steps} steps, not negative")


@dataclass(frozen=True)
class ChannelConfig:
    """Channel attribution (section 5 of the paper).

    Attributes:
        layer: dotted name of the layer whose channels are masked.
        counts: numbers of channels to keep, such as 1,10,50; empty = the paper's 21, scaled from 528.
        tau: a* is the smallest count whose score reaches tau of the full score.
        schedule: lambda rises from 0; the mean of squares, from ones (G3, G10: the sum drowns the score).
    """

    layer: str = "inception4d"
    counts: tuple[int, ...] = ()
    tau: float = 1.0
    schedule: Schedule = Schedule(300, 0.01, 0.9, 0.0, 1500.0, "ramp", ramp=150)

    def __post_init__(self) -> None:
        counts = self.counts
        if counts and (list(counts) != sorted(set(counts)) or counts[0] < 1):
            raise ValueError(f"counts must be ascending positive integers, not {list(counts)}")


def spatial_preset(preset: Preset) -> SpatialConfig:
    """All numbers of a preset.

    Raises:
        ValueError: there is no such preset.
    """
    if preset == "torchray":
        return SpatialConfig()
    if preset == "fast":
        return SpatialConfig(
            jitter="none",
            schedule=Schedule(
                100, 0.1, 0.9, 0.0, 300.0, "geometric", final=4450.0, hold=0.4, decay=0.05, optimizer="adam"
            ),
        )
    if preset == "paper":
        return SpatialConfig(
            border="renormalize",
            jitter="none",
            # The profile in cells needs five cells to die out: cut earlier, the mask has edges.
            mask=MaskConfig(sigma=35.0, kernel="paper"),
            # The learning rate is not printed: this one moves as far per step as the reference
            # implementation's 0.01 with dampening 0.9.
            schedule=Schedule(1600, 0.001, 0.9, 0.0, 300.0, "doubling"),
        )
    raise ValueError(f"preset must be fast, torchray or paper, not {preset}")


def default_counts(channels: int) -> tuple[int, ...]:
    """The paper's 21 counts for 528 channels, in proportion for any other number."""
    scaled = {max(1, round(count * channels / PAPER_CHANNELS)) for count in PAPER_COUNTS}
    return tuple(sorted(scaled))


def with_steps(schedule: Schedule, steps: int | None) -> Schedule:
    """The schedule with another number of steps; None leaves it as it is."""
    return schedule if steps is None else replace(schedule, steps=steps)
