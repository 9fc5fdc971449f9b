"""What is computed of a group of decoded pairs, by the method of the run: rows of results and points."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from extremal.workers.config import ChannelConfig, SaliencyConfig, SpatialConfig
from extremal.workers.extremal.channel import channel_attribution
from extremal.workers.extremal.spatial import extremal_perturbation
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import Network
from extremal.workers.pointing.smooth import Smooth
from extremal.workers.saliency.batch import Batch
from extremal.workers.saliency.fidelity import insertion_deletion
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.methods import METHODS
from extremal.workers.shard.rows import (
    KEY,
    Item,
    Row,
    channel_rows,
    is_finite,
    point_row,
    saliency_point,
    saliency_row,
    spatial_rows,
)


@dataclass(frozen=True)
class Found:
    """Of one pair: rows of the run's main kind, and points, or the error that there is instead."""

    rows: list[Row]
    points: list[Row]
    error: Exception | None = None


@dataclass(frozen=True)
class Group:
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


def group(network: Network, items: list[Item]) -> Group:
    """Images on the network's device, and for each pair the most confident of its class's outputs.

    A network with randomized weights explains what the original one is most confident of.

    Raises:
        FloatingPointError: the network's output is not finite for an image, which is named.
    """
    first = {item.row["path"]: item.input for item in items}
    place = {path: i for i, path in enumerate(first)}
    image = [place[item.row["path"]] for item in items]
    images = torch.stack(list(first.values())).to(network.device)
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
    return Group(items, images, image, targets, logits.gather(1, targets[:, None])[:, 0])


class Attribution:
    """The method of a run on one network."""

    def __init__(
        self,
        network: Network,
        method: SpatialConfig | ChannelConfig | SaliencyConfig,
        seed: int,
        slots: int | None = None,
        studies: "tuple[SpatialConfig, ChannelConfig] | None" = None,
    ) -> None:
        """
        Args:
            seed: of the run.
            slots: most masks at once, None = as many as fit, measured.
            studies: settings of `extremal` and `channel` where they are two of several saliency methods.

        Raises:
            LayerError: the network has no such layer.
        """
        self.network, self.method, self.seed = network, method, seed
        # Masks at once by input shape and method, as measured or as left when memory ran out.
        self._fitted: dict[tuple[int, ...], dict[str, int]] = {}
        self._slots = slots
        self._spatial, self._channel = studies or (SpatialConfig(), ChannelConfig())
        self._split: Split | None = None
        if isinstance(method, ChannelConfig):
            self._split = split_network(network, method.layer)
        if isinstance(method, SaliencyConfig):
            self._layers = layers_of(network, method.layers)
            if "channel" in method.methods:
                self._split = split_network(network, self._channel.layer)

    @property
    def slots(self) -> int | None:
        """The fewest masks at once so far, of the methods that measure what fits; None if none did."""
        return min((slots for fitted in self._fitted.values() for slots in fitted.values()), default=None)

    def explain(self, items: list[Item]) -> list[Found]:
        """What was found of each pair; items have one input shape."""
        batch = group(self.network, items)
        if isinstance(self.method, SaliencyConfig):
            found = self._saliency(batch, self.method)
        else:
            found = self._study(batch)
        names = self.network.classes
        for one, item, target in zip(found, items, batch.targets.tolist(), strict=True):
            for row in one.rows:
                row |= {key: item.row[key] for key in KEY}
                row |= {"target": target, "target_name": names[target] if names else None, "seed": item.seed}
            one.points.insert(0, point_row(item, "center", item.width // 2, item.height // 2))
        return found

    def _study(self, batch: Group) -> list[Found]:
        """Masks of many sizes, with everything found out about them."""
        fitted = self._fitted.setdefault(tuple(batch.images.shape[1:]), {})
        slots = fitted.get("study", self._slots)
        if isinstance(self.method, SpatialConfig):
            spatial = extremal_perturbation(
                self.network,
                batch.images,
                batch.targets,
                seed=batch.seeds,
                config=self.method,
                slots=slots,
                image=batch.image,
            )
            rows, maps, name = spatial_rows(spatial), spatial.masks.sum(1), "extremal"
            smooth = Smooth(self.method.smooth)
            fitted["study"] = spatial.slots
        else:
            assert isinstance(self.method, ChannelConfig)
            channel = channel_attribution(
                self.network,
                batch.images,
                batch.targets,
                config=self.method,
                split=self._split,
                slots=slots,
                image=batch.image,
            )
            rows, maps, name = channel_rows(channel), channel.saliency, "channel"
            smooth = Smooth()
            fitted["study"] = channel.slots
        points = _points(batch.items, name, maps.float().cpu(), smooth)
        whole = maps.flatten(1).isfinite().all(1).tolist()
        return [
            Found([row], point, None if is_finite(row) and mapped else _odd("a score or the map"))
            for row, point, mapped in zip(rows, points, whole, strict=True)
        ]

    def _saliency(self, batch: Group, config: SaliencyConfig) -> list[Found]:
        """Maps of several methods."""
        shape = tuple(batch.images.shape[1:])
        given = Batch(
            network=self.network,
            images=batch.images,
            image=batch.image,
            targets=batch.targets,
            seeds=batch.seeds,
            seed=self.seed,
            layers=self._layers,
            config=config,
            sections=(self._spatial, self._channel),
            slots=self._slots,
            split=self._split,
            fitted=self._fitted.setdefault(shape, {}),
        )
        found = [Found([], []) for _ in batch.items]
        scores = batch.score.tolist()
        # Recorded passes are large: what reads them comes first, and they are gone before the optimizations.
        for name in sorted(config.methods, key=lambda name: not METHODS[name].method.recorded):
            method = METHODS[name].method
            if not method.recorded:
                given.shared.clear()
            start = time.perf_counter()
            result = method.compute(given)
            maps = result.maps.float().cpu()
            seconds = (time.perf_counter() - start) / len(found)
            smooth = result.smoothing or METHODS[name].smoothing
            points = _points(batch.items, name, maps, smooth)
            diagnostics = {key: value.tolist() for key, value in result.diagnostics.items()}
            curves = _curves(given, result.maps)
            finite = maps.flatten(1).isfinite().all(1).tolist()
            for i, item in enumerate(batch.items):
                row = saliency_row(item, name, maps[i], config.maps)
                row |= {"score_full": scores[i], "input_shape": list(shape[1:]), "seconds": seconds}
                row["diagnostics"] = [(key, values[i]) for key, values in diagnostics.items()]
                found[i].rows.append(row | {"insertion": curves[i][0], "deletion": curves[i][1]})
                found[i].points.extend(points[i])
                if not finite[i] or any(math.isnan(area) for area in curves[i] if area is not None):
                    found[i] = Found(found[i].rows, found[i].points, _odd(f"the map of {name}"))
        for one in found:  # in an order that does not tell how they were computed
            one.rows.sort(key=lambda row: str(row["method"]))
            one.points.sort(key=lambda row: str(row["method"]))
        return found


def _odd(name: str) -> FloatingPointError:
    return FloatingPointError(f"{name} became infinite or not a number")


def _points(items: Sequence[Item], method: str, maps: Tensor, smooth: Smooth) -> list[list[Row]]:
    """The points of each pair; none from a map without space, which has no place to point at."""
    if maps[0].numel() <= 1:
        return [[] for _ in items]
    return [[saliency_point(item, method, one, smooth)] for item, one in zip(items, maps, strict=True)]


def _curves(batch: Batch, maps: Tensor) -> list[tuple[float | None, float | None]]:
    """Insertion and deletion of each pair; none unless asked for, and none of a map without space."""
    step = batch.config.fidelity
    if not step or maps[0].numel() <= 1:
        return [(None, None)] * len(maps)
    areas = insertion_deletion(batch.network, batch.inputs, maps.float(), batch.targets, step, batch.slots)
    insertion, deletion = (area.tolist() for area in areas)
    return list(zip(insertion, deletion, strict=True))
