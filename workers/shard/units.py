"""From rows of a plan to items that a study computes, by its unit: an image to decode, or nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from extremal.storage.folder import Folder
from extremal.storage.kinds import CHANNEL_OF_LAYER, PAIR, Unit
from extremal.workers.errors import ImageError
from extremal.workers.heartbeat import PULSE
from extremal.workers.images import load
from extremal.workers.networks.network import Network
from extremal.workers.shard.rows import Item, Row, check_size, failure, unit_seed


@dataclass(frozen=True)
class Source:
    """What items are made of. unit: of the run, whose seeds come from it."""

    network: Network
    images: Folder
    unit: Unit
    seed: int

    def item(self, row: Row, tensor: torch.Tensor, region: tuple[float, float, float, float]) -> Item:
        """An item that fills its input."""
        side = self.network.side
        return Item(row, tensor, region, side, side, unit_seed(self.seed, self.unit, row))


Groups = list[list[Item]]  # of one input shape each


def without_image(source: Source, rows: list[Row]) -> tuple[Groups, list[Row]]:
    """Items with a blank input of the network's own size: there is nothing to decode."""
    side = source.network.side
    blank, region = torch.zeros(3, side, side), (0.0, 0.0, float(side), float(side))
    return [[source.item(row, blank, region) for row in rows]], []


def decoded(source: Source, rows: list[Row]) -> tuple[Groups, list[Row]]:
    """The decodable pairs of a batch, grouped by input shape, and a failure for each of the others.

    Pairs of one image share its tensor.
    """
    groups: dict[tuple[int, ...], list[Item]] = {}
    failures: list[Row] = []
    preprocess, path = source.network.preprocess, ""
    for row in rows:
        if row["targets"] == []:
            failures.append(failure(row, "target", _no_target(row)))
            continue
        PULSE.beat()
        try:
            if row["path"] != path:  # the pairs of an image stand side by side
                opened = load(source.images, row["path"])
                tensor = preprocess(opened)
                image, path = opened, row["path"]
            check_size(row, image.size)
        except (ImageError, ValueError, MemoryError) as error:
            failures.append(failure(row, "decode", error))
            continue
        seed = unit_seed(source.seed, source.unit, row)
        item = Item(row, tensor, preprocess.region(*image.size), image.width, image.height, seed)
        groups.setdefault(tuple(tensor.shape), []).append(item)
    return list(groups.values()), failures


def _no_target(row: Row) -> LookupError:
    if not row["class_name"]:
        return LookupError(f"the annotation of {row['path']} is missing or broken")
    if row["class_id"] >= 0:  # a class that no output stands for is not planned
        return LookupError(f"the annotation of {row['class_name']!r} in {row['path']} is broken")
    return LookupError(f"no network output stands for class {row['class_name']!r} of {row['path']}")


READERS: Mapping[str, Callable[[Source, list[Row]], tuple[Groups, list[Row]]]] = {
    PAIR.name: decoded,
    CHANNEL_OF_LAYER.name: without_image,
}
