"""The scores that channel attribution maximizes: those of masks over the channels of a layer."""

import torch
from torch import Tensor

from extremal.workers.extremal.area import RankedArea
from extremal.workers.extremal.problems import Problem, Rows
from extremal.workers.networks.cut import Activation, Split
from extremal.workers.networks.network import pick


class ChannelObjective:
    """Scores of channel masks on the activations of B pairs; an `Objective`. The head has run already."""

    def __init__(self, split: Split, activation: Activation, image: Tensor, targets: Tensor) -> None:
        """image: (B,) the activation of each pair."""
        self.split, self.activation = split, activation
        self.image, self.targets = image, targets
        value = activation.value
        self.dim = split.channel_dim(value)
        self.channels = value.shape[self.dim]

        self.area = RankedArea(int)

    def start(self, problem: Problem) -> Tensor:
        return self.everything()

    def everything(self) -> Tensor:
        """(K) the mask that keeps all channels."""
        # Masks and their optimization stay float32 whatever the network's precision.
        return self.activation.value.new_ones(self.channels, dtype=torch.float32)

    def project(self, params: Tensor, rows: Rows) -> None:
        params.clamp_(0, 1)

    def logits(self, masks: Tensor, items: Tensor) -> Tensor:
        """(N,K) masks of the pairs `items` (N,) -> (N,C) logits."""
        images, value = self.image[items], self.activation.value
        shape = [len(masks)] + [1] * (value.ndim - 1)
        shape[self.dim] = self.channels
        masked = value[images] * masks.view(shape).to(value.dtype)
        return self.split.tail(masked, self.activation, images)

    def score(self, masks: Tensor, items: Tensor) -> Tensor:
        """(N,K) masks of the pairs `items` (N,) -> (N,) logits of their targets."""
        return pick(self.logits(masks, items), self.targets[items])

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        return self.score(params, rows.items), self.area(params, rows)

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        counts = torch.tensor(self.area.ones(rows), device=params.device)
        return {"scores_binary": self.score(keep_largest(params, counts), rows.items)}


def keep_largest(masks: Tensor, counts: Tensor) -> Tensor:
    """(N,K) -> binary masks that keep the counts[i] largest channels, the lowest index first in a tie."""
    rank = masks.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return (rank < counts[:, None]).to(masks.dtype)
