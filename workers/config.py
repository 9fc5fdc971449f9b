"""The one configuration of a run, typed: what decides its result, for the command line as for a worker.

Needs neither torch nor pydantic; pipeline/config.py reads and checks it.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from extremal.workers.networks.precision import Precision
from extremal.workers.study_cards import CARDS, STUDIES, Study

S = TypeVar("S")
C = TypeVar("C")


@dataclass(frozen=True)
class DatasetConfig:
    """Which units. `root`, where they lie, is a location and no part of a run's identity.

    Attributes:
        name: `imagenet`, `voc`, `coco`, `folder` or `shapes`: the layout of the files.
        root: folder or URI of the dataset.
        split: for example `2007:test` of voc, `val2014` of coco, `test` of shapes, a sub-folder of imagenet.
        labels: file of labels (`file,label`) for a flat folder of ImageNet.
        difficult_list: file of VOC's Difficult subset; None = by the rule.
        target: output to explain where images have no labels; None = the network's own top-1.
        limit: only so many pairs, the first ones; None = all.
    """

    name: str
    root: str = ""
    split: str | None = None
    labels: str | None = None
    difficult_list: str | None = None
    target: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**31:
            raise ValueError("limit must be at least 1 and less than 2**31")


@dataclass(frozen=True)
class NetworkConfig:
    """Which network. `weights`, a location, is identified by the hash of what it holds.

    Attributes:
        name: a torchvision classifier, bvlc_googlenet, shapes_cnn, or module:function of your own.
        weights: file of a state_dict, name of torchvision weights, or random; None = torchvision's.
        resize: short side of the image, pixels; None = as the weights ask.
        crop: central square, pixels; 0 = the whole image; None = as the weights ask, whole for voc and coco.
        mean, std: of the RGB colours in 0 to 1 that the input is normalised by; None = as the weights ask.
        randomized: weight layers, counted from the output, that are re-initialised by draws of
            `randomize_seed`: the sanity check's (EP-11).
        randomize_seed: of those draws.
    """

    name: str
    weights: str | None = None
    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    randomized: int = 0
    randomize_seed: int = 0

    def __post_init__(self) -> None:
        if self.randomized < 0 or self.randomize_seed < 0:
            raise ValueError("randomized and randomize_seed must not be negative")


def _with_sections(of: type[C]) -> type[C]:
    """Adds a field to a class that becomes a dataclass: the settings of every study."""
    for study in CARDS:
        of.__annotations__[study.name] = study.settings
        setattr(of, study.name, field(default_factory=study.settings))
    return of


@dataclass(frozen=True)
@_with_sections
class RunConfig:
    """Everything that decides the result of a run.

    Each study has a section of its name, `[spatial]`.

    Attributes:
        method: a study (spatial, channel, inversion), or saliency methods to compare, such as
            grad_cam,rise,extremal. `saliency` compares the methods of its section.
        seed: seed of everything random.
        precision: `float32`, or `bf16` for autocast of the network with masks and optimizer in float32.
        batch: pairs whose masks form one queue; more fill a GPU. Rounding depends on it, so it is part of the
            identity; what shares a batch is fixed by the plan, never by actors or shards.
        slots: masks from that queue computed at once; None = what fits the GPU, 12 on a CPU.
        shard_size: pairs per shard, which is one commit; rounded up to whole batches.
        threads: CPU threads (and Ray CPUs) per actor.
    """

    dataset: DatasetConfig
    network: NetworkConfig
    method: str = "spatial"
    seed: int = 0
    precision: Precision = "float32"
    batch: int = 16
    slots: int | None = None
    shard_size: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        if self.method not in STUDIES:
            raise ValueError(f"method must be {', '.join(STUDIES)}, not {self.method}")
        for name in ("batch", "shard_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.slots is not None and self.slots < 1:
            raise ValueError("slots must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must not be negative")

    @property
    def study(self) -> Study:
        """What is computed."""
        return STUDIES[self.method]

    @property
    def own(self) -> Any:
        """The settings of the study."""
        return getattr(self, self.method)

    def settings(self, of: type[S]) -> S:
        """The section of a type, of which there is one.

        Raises:
            KeyError: no study has such settings.
        """
        for section in fields(self):
            if isinstance(value := getattr(self, section.name), of):
                return value
        raise KeyError(of.__name__)

    def with_settings(self, settings: object) -> "RunConfig":
        """The configuration with another section in the place of the one of its type."""
        name = next(study.name for study in CARDS if isinstance(settings, study.settings))
        return replace(self, **{name: settings})  # type: ignore[arg-type]  # a field of that name was added

    def sections(self) -> frozenset[str]:
        """The studies' sections of settings that the run reads."""
        return frozenset({self.method}) | self.study.reads(self.own)

    def read_sections(self) -> tuple[Any, ...]:
        """The settings of those sections, in the order of their names."""
        return tuple(getattr(self, name) for name in sorted(self.sections()))
