"""The settings of a run as options. A further flag is one line here: the field, and the setting's place in
a run's TOML file. Help is instant: nothing here needs torch or pyarrow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extremal.jobs.cli.options import Flag, given_settings, setting
from extremal.workers.config import RunConfig
from extremal.workers.study_cards import CARDS

_FORGIVING = " and ".join(card.name for card in CARDS if card.forgiving)


@dataclass(frozen=True)
class FileOptions:
    """The file that flags win over.

    Attributes:
        config: TOML file with the settings; flags win.
    """

    config: Path | None = None


@dataclass(frozen=True)
class DatasetOptions(FileOptions):
    """Which units."""

    dataset: Flag = setting("dataset", "name")
    root: Flag = setting("dataset", "root")
    split: Flag = setting("dataset", "split")
    labels: Flag = setting("dataset", "labels")
    difficult_list: Flag = setting("dataset", "difficult_list")
    limit: Flag = setting("dataset", "limit")


@dataclass(frozen=True)
class MethodOptions(FileOptions):
    """Which network and method.

    Attributes:
        preset: `fast`, `torchray` or `paper`; None = fast.
        steps: iterations; None = fast 100, torchray 800, paper 1600; channel 300; inversion 256.
    """

    target: Flag = setting("dataset", "target")
    network: Flag = setting("network", "name")
    weights: Flag = setting("network", "weights")
    method: Flag = setting("method")
    layer: Flag = setting("channel", "layer")
    areas: Flag = setting("spatial", "areas")
    counts: Flag = setting("channel", "counts")
    game: Flag = setting("spatial", "game")
    preset: str | None = None
    steps: int | None = None
    resize: Flag = setting("network", "resize")
    crop: Flag = setting("network", "crop")
    seed: Flag = setting("seed")

    def configuration(self, device: str | None, **fixed: Any) -> RunConfig:
        """The configuration of file and flags; see `assemble`."""
        from extremal.jobs.options import assemble
        from extremal.pipeline.config import merge
        from extremal.storage.trees import nested

        flags = merge(nested(given_settings(self)), fixed) | {"steps": self.steps}
        return assemble(self.config, self.preset, flags, device)


@dataclass(frozen=True)
class RunOptions(MethodOptions, DatasetOptions):
    """All settings that `extremal run` has flags for."""

    channels: Flag = setting("inversion", "channels", metavar="RUN")
    subject: Flag = setting("inversion", "subject")
    precision: Flag = setting("precision", default=f"bf16 on a GPU for {_FORGIVING}")
    batch: Flag = setting("batch")
    slots: Flag = setting("slots")
    shard_size: Flag = setting("shard_size")
    threads: Flag = setting("threads")
