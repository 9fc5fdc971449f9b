"""How a batch of a study's units becomes rows: what all studies share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from extremal.storage import Run
from extremal.storage.kinds import POINTS, Kind
from extremal.workers.networks.network import Network
from extremal.workers.pointing.smooth import Smooth
from extremal.workers.shard.rows import Item, Row, is_finite, point_row, saliency_point

if TYPE_CHECKING:  # which knows the cards of the studies, and those their settings
    from extremal.workers.config import RunConfig


@dataclass(frozen=True)
class Outcome:
    """Of one unit: rows of the study's table, and of those beside it, or the error that there is instead.

    Of a unit's key and seed the worker knows itself.
    """

    rows: list[Row]
    beside: Mapping[Kind, list[Row]] = field(default_factory=dict)
    error: Exception | None = None


class Computation(Protocol):
    """A study on one network."""

    def __init__(self, network: Network, config: "RunConfig", run: Run) -> None:
        """
        Args:
            network: on its device. run: opened, for a study that reads more than its configuration.

        Raises:
            LayerError, RunError: with the fix.
        """

    @property
    def slots(self) -> int | None:
        """The fewest masks at once so far, where that is measured; else None."""

    def compute(self, items: list[Item]) -> list[Outcome]:
        """What comes of each unit; the items have one input shape. Any error is of all of them."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one input shape, ready for a network.

    Attributes:
        images: (I,3,H,W), each image once. image: (B) the image of each pair.
        targets: (B,) the output that is explained. score: (B,) its logit.
    """

    items: list[Item]
    images: Tensor
    image: list[int]
    targets: Tensor
    score: Tensor

    @property
    def seeds(self) -> list[int]:
        return [item.seed for item in self.items]

    @property
    def shape(self) -> tuple[int, ...]:
        """(3,H,W)."""
        return tuple(self.images.shape[1:])


def pair_batch(network: Network, items: list[Item]) -> PairBatch:
    """Images on the network's device, and for each pair the most confident of its class's outputs.

    A network with randomized weights explains what the original one is most confident of.

    Raises:
        FloatingPointError: the network's output is not finite for an image, which is named.
    """
    inputs = {item.row["path"]: item.input for item in items}
    index = {path: i for i, path in enumerate(inputs)}
    image = [index[item.row["path"]] for item in items]
    images = torch.stack(list(inputs.values())).to(network.device)
    with torch.no_grad():
        logits = network(images.clone())[image]  # a network may work in place on its input
        choosing = logits if network.plain is None else network.original(images.clone())[image]
    finite = (logits.isfinite() & choosing.isfinite()).all(1).tolist()
    if not all(finite):
        names = ", ".join(item.row["path"] for item, ok in zip(items, finite, strict=True) if not ok)
        raise FloatingPointError(f"the network's output is not finite for {names}")
    chosen = []
    for row_logits, item in zip(choosing.cpu(), items, strict=True):
        outputs = item.row["targets"]
        if outputs is None:
            chosen.append(int(row_logits.argmax()))
        else:
            chosen.append(outputs[int(row_logits[outputs].argmax())])
    targets = torch.tensor(chosen, device=images.device)
    return PairBatch(items, images, image, targets, logits.gather(1, targets[:, None])[:, 0])


def explained(network: Network, batch: PairBatch, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with the target in each row, and with the center of each image as a point."""
    names = network.classes
    for outcome, item, target in zip(outcomes, batch.items, batch.targets.tolist(), strict=True):
        for row in outcome.rows:
            row |= {"target": target, "target_name": names[target] if names else None}
        center = point_row(item, "center", item.width // 2, item.height // 2)
        outcome.beside[POINTS].insert(0, center)
    return list(outcomes)


def map_points(items: Sequence[Item], method: str, maps: Tensor, smooth: Smooth) -> list[list[Row]]:
    """The points of each pair's map (B,h,w); none from a map without space: it points at nothing."""
    if maps[0].numel() <= 1:
        return [[] for _ in items]
    return [
        [saliency_point(item, method, saliency, smooth)] for item, saliency in zip(items, maps, strict=True)
    ]


def pointed(
    items: Sequence[Item], method: str, rows: Sequence[Row], maps: Tensor, smooth: Smooth
) -> list[Outcome]:
    """Of each pair its row, with the point of its map (B,h,w); an error where a number is none."""
    points = map_points(items, method, maps.float().cpu(), smooth)
    mapped = maps.flatten(1).isfinite().all(1).tolist()
    return [
        Outcome([row], {POINTS: point}, None if is_finite(row) and ok else not_finite("a score or the map"))
        for row, point, ok in zip(rows, points, mapped, strict=True)
    ]


def not_finite(name: str) -> FloatingPointError:
    """The error of a pair whose numbers are none."""
    return FloatingPointError(f"{name} became infinite or not a number")


class FittedSlots:
    """Masks at once by input shape and method, as measured or as left when memory ran out."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, ...], dict[str, int]] = {}

    def of(self, shape: tuple[int, ...]) -> dict[str, int]:
        """Method -> masks at once, for inputs of a shape; may be written."""
        return self._shapes.setdefault(shape, {})

    @property
    def fewest(self) -> int | None:
        """Of all shapes and methods; None if nothing was measured."""
        return min((slots for fitted in self._shapes.values() for slots in fitted.values()), default=None)
