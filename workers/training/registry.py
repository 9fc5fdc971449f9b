"""The ways to train, by name. A further one is a file of its own and an entry here."""

from collections.abc import Mapping

from extremal.workers.training.finetuning import FINETUNE
from extremal.workers.training.training import TrainingMethod

TRAININGS: Mapping[str, TrainingMethod] = {"finetune": FINETUNE}
