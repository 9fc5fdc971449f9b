"""The study `saliency`: maps of several methods of the same pairs."""

import math
import time

import torch.nn.functional as F
from torch import Tensor

from extremal.storage import Run
from extremal.storage.kinds import POINTS
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import ChannelConfig
from extremal.workers.networks.cut import split_network
from extremal.workers.networks.network import Network
from extremal.workers.saliency.batch import Batch, Maps
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.fidelity import insertion_deletion
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.methods import METHODS
from extremal.workers.shard.rows import Item, Row
from extremal.workers.studies.computation import (
    FittedSlots,
    Outcome,
    PairBatch,
    explained,
    map_points,
    not_finite,
    pair_batch,
)

Curves = tuple[float | None, float | None]  # areas under insertion and deletion, if measured


class Saliency:
    """A row and a point for each method; a `Computation`."""

    def __init__(self, network: Network, config: RunConfig, run: Run) -> None:
        self._network, self._settings = network, config.settings(SaliencyConfig)
        self._seed, self._wanted, self._fitted = config.seed, config.slots, FittedSlots()
        self._layers = layers_of(network, self._settings.layers)
        self._sections = config.read_sections()
        layer = config.settings(ChannelConfig).layer
        self._split = split_network(network, layer) if "channel" in config.sections() else None

    @property
    def slots(self) -> int | None:
        return self._fitted.fewest

    def compute(self, items: list[Item]) -> list[Outcome]:
        pairs = pair_batch(self._network, items)
        batch = Batch(
            network=self._network,
            images=pairs.images,
            image=pairs.image,
            targets=pairs.targets,
            seeds=pairs.seeds,
            seed=self._seed,
            layers=self._layers,
            config=self._settings,
            sections=self._sections,
            slots=self._wanted,
            split=self._split,
            fitted=self._fitted.of(pairs.shape),
        )
        rows: list[list[Row]] = [[] for _ in items]
        points: list[list[Row]] = [[] for _ in items]
        errors: list[Exception | None] = [None] * len(items)
        # Recorded passes are large: what reads them comes first, and they are gone before the optimizations.
        for name in sorted(self._settings.methods, key=lambda name: not METHODS[name].method.recorded):
            method = METHODS[name].method
            if not method.recorded:
                batch.shared.clear()
            start = time.perf_counter()
            result = method.compute(batch)
            maps = result.maps.float().cpu()
            seconds = (time.perf_counter() - start) / len(items)
            smoothing = result.smoothing or METHODS[name].smoothing
            computed = self._rows(name, pairs, result, maps, _curves(batch, result.maps))
            located = map_points(items, name, maps, smoothing)
            for i, (row, point, finite) in enumerate(zip(computed, located, _are_finite(maps), strict=True)):
                rows[i].append(row | {"seconds": seconds})
                points[i] += point
                measured = (row["insertion"], row["deletion"])
                if not finite or any(math.isnan(area) for area in measured if area is not None):
                    errors[i] = not_finite(f"the map of {name}")
        for of_pair in (*rows, *points):  # in an order that does not tell how they were computed
            of_pair.sort(key=lambda row: str(row["method"]))
        outcomes = [
            Outcome(row, {POINTS: point}, error)
            for row, point, error in zip(rows, points, errors, strict=True)
        ]
        return explained(self._network, pairs, outcomes)

    def _rows(
        self, name: str, pairs: PairBatch, result: Maps, maps: Tensor, curves: list[Curves]
    ) -> list[Row]:
        """The rows of a method, without key, target, seed and time."""
        scores, shape = pairs.score.tolist(), list(pairs.shape[1:])
        diagnostics = {key: values.tolist() for key, values in result.diagnostics.items()}
        return [
            {
                "method": name,
                **_stored_map(maps[i], self._settings.maps),
                "score_full": scores[i],
                "input_shape": shape,
                "diagnostics": [(key, values[i]) for key, values in diagnostics.items()],
                "insertion": curves[i][0],
                "deletion": curves[i][1],
            }
            for i in range(len(maps))
        ]


def _are_finite(maps: Tensor) -> list[bool]:
    finite: list[bool] = maps.flatten(1).isfinite().all(1).tolist()
    return finite


def _stored_map(saliency: Tensor, cells: int) -> Row:
    """What a row holds of a map (h,w) on the CPU: `cells` on its longer side."""
    row: Row = {"map_shape": [], "map": [], "map_scale": None}
    if not cells or saliency.numel() <= 1:
        return row
    scale = min(1.0, cells / max(saliency.shape))
    shape = [max(1, round(side * scale)) for side in saliency.shape]
    small = F.interpolate(saliency[None, None], size=shape, mode="area")[0, 0]
    largest = float(small.abs().max())
    stored = small / largest if largest else small
    return row | {"map_shape": shape, "map": stored.half().numpy().ravel(), "map_scale": largest}


def _curves(batch: Batch, maps: Tensor) -> list[Curves]:
    """Insertion and deletion of each pair; none unless asked for, and none of a map without space."""
    step = batch.config.fidelity
    if not step or maps[0].numel() <= 1:
        return [(None, None)] * len(maps)
    areas = insertion_deletion(batch.network, batch.inputs, maps.float(), batch.targets, step, batch.slots)
    insertion, deletion = (area.tolist() for area in areas)
    return list(zip(insertion, deletion, strict=True))
