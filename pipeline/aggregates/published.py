"""The paper's Table 1 (seeds EP-12), and what a run must be for its numbers to stand beside it."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from extremal.pipeline.aggregates.pointing import CENTER, Rule
from extremal.pipeline.identity import run_tree
from extremal.storage import Run
from extremal.storage.manifest import canonical
from extremal.workers.extremal.settings import spatial_preset
from extremal.workers.networks.pointing_game_input import ANTIALIAS, MEAN, STD
from extremal.workers.saliency.layer_table import known_layers
from extremal.workers.saliency.methods import METHODS

# Images with a pair, of the whole set (protocol item 1).
_WHOLE = {"voc": 4952, "coco": 40_137}

# Areas of extremal perturbations in the pointing game (protocol item 17).
_AREAS = {"voc": (0.025, 0.05, 0.1, 0.2), "coco": (0.018, 0.025, 0.05, 0.1)}

# Of a method that has no card (any more): the section in run.json that decides its map.
_LAYERS = ("saliency", "layers")


@dataclass(frozen=True)
class Published:
    """A number of the paper: class-mean accuracy, 0 to 1, and where it is printed."""

    accuracy: float
    source: str


@cache
def published_numbers() -> dict[tuple[str, str, str, str, str], Published]:
    """(dataset, split, network, method, subset) -> the paper's number."""
    with (Path(__file__).parent / "data" / "table1.csv").open(newline="") as file:
        return {
            (r["dataset"], r["split"], r["network"], r["method"], r["subset"]): Published(
                float(r["accuracy"]) / 100, r["source"]
            )
            for r in csv.DictReader(file)
        }


def dataset_of(run: Run) -> dict[str, Any]:
    """The dataset's section of a run's configuration."""
    return dict(run.manifest.config.get("dataset", {}))


def method_settings(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    """What of a configuration, with every setting of today, decides a method's maps."""
    settings: Any = config
    for key in METHODS[method].section if method in METHODS else _LAYERS:
        settings = settings.get(key, {})
    return {"precision": config.get("precision"), method: settings}


def as_published(run: Run, rule: Rule) -> bool:
    """Whether a run's setting is that of the paper's table: dataset, input, weights, and the whole set."""
    manifest, dataset = run.manifest, dataset_of(run)
    model = manifest.model
    listed = any(
        (dataset.get("name"), dataset.get("split"), model.name) == key[:3] for key in published_numbers()
    )
    if not listed or rule != Rule() or manifest.weights == "random" or model.randomized:
        return False
    if (model.resize, model.crop) != (224, None):
        return False
    images = len(run.plan(["image_id"])["image_id"].unique())
    return bool(images == _WHOLE[dataset["name"]])


def has_papers_settings(run: Run, method: str) -> bool:
    """Whether a method ran with the numbers of the benchmark (protocol items 6, 11 and 13 to 17)."""
    manifest, dataset = run.manifest, dataset_of(run)
    model = manifest.model
    input_ = (MEAN, STD, ANTIALIAS)
    if (model.mean, model.std, model.antialias) != input_:
        return False
    if method == CENTER:
        return True
    expected: Any = asdict(known_layers(model.name))
    if method == "extremal":
        expected = asdict(replace(spatial_preset("torchray"), areas=_AREAS[dataset["name"]]))
    elif (of := METHODS[method].settings if method in METHODS else None) is not None:
        expected = asdict(of())
    wanted = canonical({"precision": "float32", method: expected})
    return wanted == method_settings(run_tree(manifest), method)
