"""Does a preset with few steps reach the quality of the torchray preset with 800?

    python benchmarks/quality.py --images imagenet/images --labels imagenet/labels.csv \\
        --network squeezenet1_1 --weights weights/squeezenet1_1.pth \\
        --settings torchray-800 torchray-100 fast --out /tmp/quality --json quality.json

A setting is a preset with its own steps (`fast`) or with others (`torchray-100`); `fast@bf16` makes its
masks in bf16, and like all others they are measured in float32. Its masks lie in
OUT/<setting>, one file per image, and are made only if they are not there, so that a killed command goes
on where it was. `--part 0/2` and `--part 1/2` share the work between two processes; the one that finds
nothing missing prints the tables. `--table` computes no masks and tells what can be told from those there.

Every setting is measured alike, from its stored parameters drawn by the engine as it is now:

    score         logit of the label with only the mask kept, the rest in the torchray preset's blur
    binary score  the same with the mask made 0 or 1 (1 from 0.5 up)
    area term     distance of the mask, margin included, to a binary one of the wanted area; it punishes
                  too large, too small and grey alike
    binary area   fraction of the image that the binary mask keeps
    insertion, deletion
                  RISE's areas under the softmax probability while the pixels, by descending sum of the
                  masks over the areas (ties in reading order), are shown in its blurred image or set to
                  zero (the mean colour)

A row of a table is a mean over images and areas. Intervals are 95 % percentiles of a bootstrap over images,
because the areas of one image are not independent. A difference is paired by image; its percentages are
of the baseline's mean, which is held fixed.

A setting is accepted if the intervals of the differences of score and binary score lie at or above -1 % and
its mean area term is not larger than the baseline's.
"""

import argparse
import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from measure import chosen_device, command, markdown, write_json
from pyarrow.fs import LocalFileSystem
from rich.console import Console
from rich.progress import track
from torch import Tensor

from extremal.pipeline.aggregates.bootstrap import draw, interval
from extremal.storage.files import write_bytes
from extremal.storage.trees import diff
from extremal.workers import (
    Network,
    SpatialConfig,
    decode,
    extremal_perturbation,
    load_network,
    spatial_preset,
)
from extremal.workers.extremal.area import area_term, ones_of_area
from extremal.workers.extremal.masks import mask_family
from extremal.workers.extremal.perturbation import perturb, pyramid
from extremal.workers.extremal.settings import Preset, with_steps
from extremal.workers.networks.precision import Precision
from extremal.workers.saliency.fidelity import insertion_deletion

# What is measured, with the decimals that a table shows.
DECIMALS = {
    "score": 2,
    "binary score": 2,
    "area term": 5,
    "binary area": 4,
    "insertion": 4,
    "deletion": 4,
}
TOLERANCE = -1.0  # percent of the baseline's mean that a score may lose
RESAMPLES = 10_000
SEED = 0
LOCAL = LocalFileSystem()
STDERR = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Setting:
    """A preset with its steps and areas; its name is its folder's."""

    name: str
    config: SpatialConfig
    precision: Precision = "float32"


@dataclass(frozen=True)
class Example:
    """Image number `index` of the choice, explained for its label."""

    index: int
    file: str
    label: int

    def path(self, folder: Path) -> Path:
        return folder / f"{self.index:03d}.npz"


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __mul__(self, factor: float) -> "Interval":
        return Interval(self.mean * factor, self.low * factor, self.high * factor)

    def show(self, decimals: int, sign: str = "") -> str:
        mean, low, high = (f"{x:{sign}.{decimals}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Difference:
    """A setting minus the baseline in one measure, at one area or (None) over all."""

    setting: str
    measure: str
    area: float | None
    baseline_mean: float
    absolute: Interval
    percent: Interval


# ---------------------------------------------------------------------------------------- what is compared


def parse_setting(name: str, areas: Sequence[float]) -> Setting:
    """`preset` or `preset-steps`, and `@bf16` behind it for masks made in that precision."""
    match = re.fullmatch(r"([a-z]+)(?:-(\d+))?(@bf16)?", name)
    if match is None:
        raise SystemExit(f"{name!r} is no setting: write preset or preset-steps, as in torchray-800")
    preset, steps, coarse = match.groups()
    try:
        config = replace(spatial_preset(cast(Preset, preset)), areas=tuple(areas))
        schedule = with_steps(config.schedule, int(steps) if steps else None)
        return Setting(name, replace(config, schedule=schedule), "bf16" if coarse else "float32")
    except ValueError as error:
        raise SystemExit(f"{name}: {error}") from None


def choose(labels: Path, every: int, limit: int) -> list[Example]:
    """Every so many rows of a CSV with the columns file and label, at most `limit` of them."""
    with labels.open(newline="") as f:
        rows = list(csv.DictReader(f))[::every][:limit]
    return [Example(i, row["file"], int(row["label"])) for i, row in enumerate(rows)]


def load_image(network: Network, folder: Path, example: Example) -> Tensor:
    """(1,3,H,W) on the network's device."""
    image: Tensor = network.preprocess(decode(folder / example.file))[None]
    return image.to(network.device)


# --------------------------------------------------------------------------------------- masks, in folders


def identity(network: Network, setting: Setting) -> dict[str, Any]:
    """All that decides a setting's masks, but for the engine, as JSON gives it back."""
    parts = {
        "network": network.name,
        "weights": network.fingerprint,
        "preprocess": asdict(network.preprocess),
        "spatial": asdict(setting.config),
    }
    return dict(json.loads(json.dumps(parts)))


def check_folder(folder: Path, expected: Mapping[str, Any]) -> None:
    """Give a new folder its config.json; refuse one whose masks another configuration made."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "config.json"
    if source.exists():
        lines = diff(json.loads(source.read_text()), expected)
        if lines:
            raise SystemExit(
                f"{folder} holds masks of another configuration:\n  "
                + "\n  ".join(lines)
                + f"\nGive another --out, or delete {source} to take the masks as they are."
            )
    elif any(re.fullmatch(r"\d+\.npz", path.name) for path in folder.iterdir()):
        STDERR.print(
            f"{folder}: no config.json, so nothing tells how its masks were made; they are taken as they are"
        )
    else:
        write_bytes(LOCAL, str(source), json.dumps(expected, indent=2).encode())


def make_masks(network: Network, image: Tensor, example: Example, setting: Setting, path: Path) -> None:
    """Explain one image with one setting; A areas in one batch."""
    targets = torch.tensor([example.label], device=image.device)
    coarse = replace(network, precision=setting.precision)
    result = extremal_perturbation(coarse, image, targets, config=setting.config)
    content = BytesIO()
    np.savez(
        content,
        name=example.file,
        label=example.label,
        params=result.params[0].cpu(),  # (A,rows,columns)
        scores=result.scores[0].cpu(),  # (A,)
    )
    write_bytes(LOCAL, str(path), content.getvalue())


def make_missing(
    network: Network,
    images: Path,
    examples: Sequence[Example],
    settings: Sequence[Setting],
    out: Path,
) -> None:
    """The masks that are not there yet, setting after setting."""
    jobs = [(s, e) for s in settings for e in examples if not e.path(out / s.name).exists()]
    for setting, example in track(jobs, "masks", console=STDERR):
        image = load_image(network, images, example)
        make_masks(network, image, example, setting, example.path(out / setting.name))


def read_masks(folder: Path, example: Example, areas: int) -> tuple[Tensor, np.ndarray]:
    """(A,rows,columns) parameters, and the (A,) scores that were found with them."""
    path = example.path(folder)
    with np.load(path) as stored:
        found = (str(stored["name"]), int(stored["label"]), len(stored["params"]))
        if found != (example.file, example.label, areas):
            raise SystemExit(
                f"{path} holds file, label, areas {found}, not {(example.file, example.label, areas)}: "
                "other --labels, --every or --areas made it"
            )
        return torch.from_numpy(stored["params"]), stored["scores"]


# ---------------------------------------------------------------------------------------------- measuring


def measure(
    network: Network,
    image: Tensor,
    target: int,
    params: Tensor,
    config: SpatialConfig,
    curve_steps: int,
    batch: int,
) -> dict[str, np.ndarray]:
    """All measures of one image's masks: (A,) values each, (1,) for insertion and deletion.

    Args:
        image: (1,3,H,W).
        params: (A,rows,columns).
        config: gives the mask family and the areas; the perturbation is the torchray preset's for all.
        curve_steps: parts in which insertion and deletion change the pixels.
        batch: images that the network sees at once.
    """
    with torch.no_grad():
        family = mask_family(image.shape[-2], image.shape[-1], config.mask, image.device)
        padded = family.draw(params.to(image))
        masks = family.crop(padded)
        binary = (masks >= 0.5).to(masks)
        # As in workers/extremal/spatial_objective.py: the wanted area counts the margin.
        pixels = padded[0].numel()
        kept = tuple(ones_of_area(area, pixels) for area in config.areas)
        both = torch.cat([masks, binary])
        levels = pyramid(image, spatial_preset("torchray"))
        logits = [
            network(perturb(levels, part, torch.zeros(len(part), dtype=torch.long, device=part.device)))
            for part in torch.split(both, batch)
        ]
        scores, binary_scores = torch.cat(logits)[:, target].chunk(2)
        step = math.ceil(image[0, 0].numel() / curve_steps)
        targets = torch.tensor([target], device=image.device)
        insertion, deletion = insertion_deletion(network, image, masks.sum(0)[None], targets, step, batch)
        measured = {
            "score": scores,
            "binary score": binary_scores,
            "area term": area_term(padded.flatten(1), kept),
            "binary area": binary.mean((1, 2)),
            "insertion": insertion,
            "deletion": deletion,
        }
    return {name: values.cpu().numpy() for name, values in measured.items()}


def measure_all(
    network: Network,
    images: Path,
    examples: Sequence[Example],
    settings: Sequence[Setting],
    arguments: argparse.Namespace,
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Of every setting, its measures (n,A) or (n,1), and how far its stored scores are from those of now."""
    rows: dict[str, list[dict[str, np.ndarray]]] = {s.name: [] for s in settings}
    drift = dict.fromkeys(rows, 0.0)
    for example in track(examples, "measuring", console=STDERR):
        image = load_image(network, images, example)
        for s in settings:
            params, scores = read_masks(arguments.out / s.name, example, len(s.config.areas))
            row = measure(
                network, image, example.label, params, s.config, arguments.curve_steps, arguments.batch
            )
            rows[s.name].append(row)
            drift[s.name] = max(drift[s.name], float(np.abs(row["score"] - scores).max()))
    values = {
        name: {measure: np.stack([row[measure] for row in found]).astype(float) for measure in DECIMALS}
        for name, found in rows.items()
    }
    return values, drift


# ---------------------------------------------------------------------------------------------- statistics


def bootstrap(values: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """(n,) values, one per image -> their mean with its 95 % percentile interval.

    Every call resamples the same images: of differences it is the paired bootstrap.
    """
    n = len(values)
    limits = interval(np.concatenate([weights @ values / n for weights in draw(n, resamples, seed)]))
    low, high = (float("nan") if limit is None else limit for limit in limits)
    return Interval(float(values.mean()), low, high)


def compare(
    setting: str,
    values: Mapping[str, np.ndarray],
    baseline: Mapping[str, np.ndarray],
    areas: Sequence[float],
) -> list[Difference]:
    """A setting against the baseline on the same images, over all areas and at each."""
    found = []
    for measure in DECIMALS:
        ours, theirs = values[measure], baseline[measure]
        columns: list[tuple[float | None, slice]] = [(None, slice(None))]
        if ours.shape[1] > 1:
            columns += [(area, slice(i, i + 1)) for i, area in enumerate(areas)]
        for area, column in columns:
            mean = float(theirs[:, column].mean())
            absolute = bootstrap((ours - theirs)[:, column].mean(1))
            percent = absolute * (100 / abs(mean)) if mean else Interval(np.nan, np.nan, np.nan)
            found.append(Difference(setting, measure, area, mean, absolute, percent))
    return found


def judge(differences: Sequence[Difference]) -> tuple[bool, list[str]]:
    """Is one setting accepted, and the reasons, a line each."""
    overall = {d.measure: d for d in differences if d.area is None}
    verdicts, lines = [], []
    for measure in ("score", "binary score"):
        d = overall[measure]
        verdicts.append(d.percent.low >= TOLERANCE)
        lines.append(
            f"{measure}: interval of the difference [{d.percent.low:+.2f}, {d.percent.high:+.2f}] % of "
            f"{d.baseline_mean:.2f}, not below {TOLERANCE:g} %: {yes(verdicts[-1])}"
        )
    d = overall["area term"]
    verdicts.append(d.absolute.mean <= 0)
    lines.append(
        f"area term: mean {d.baseline_mean + d.absolute.mean:.5f} against {d.baseline_mean:.5f}, difference "
        f"{d.absolute.show(5, '+')}, not larger: {yes(verdicts[-1])}"
    )
    return all(verdicts), lines


def yes(verdict: bool) -> str:
    return "yes" if verdict else "no"


# -------------------------------------------------------------------------------------------------- report


def report(
    settings: Sequence[Setting],
    values: Mapping[str, Mapping[str, np.ndarray]],
    baseline: str,
    areas: Sequence[float],
) -> dict[str, Any]:
    """Print the tables and the verdicts; returns the same for a JSON file."""
    means = {
        s.name: {measure: bootstrap(values[s.name][measure].mean(1)) for measure in DECIMALS}
        for s in settings
    }
    rows = [
        [s.name, str(len(values[s.name]["score"])), str(s.config.schedule.steps)]
        + [means[s.name][measure].show(decimals) for measure, decimals in DECIMALS.items()]
        for s in settings
    ]
    print("\n" + markdown(["setting", "images", "steps", *DECIMALS], rows))
    differences = {
        s.name: compare(s.name, values[s.name], values[baseline], areas)
        for s in settings
        if s.name != baseline
    }
    rows = [
        [
            d.setting,
            d.measure,
            "all" if d.area is None else f"{d.area:g}",
            d.absolute.show(DECIMALS[d.measure], "+"),
            d.percent.show(2, "+"),
        ]
        for found in differences.values()
        for d in found
    ]
    print("\n" + markdown(["setting", "measure", "area", f"minus {baseline}", "in %"], rows))
    verdicts = {name: judge(found) for name, found in differences.items()}
    for name, (accepted, lines) in verdicts.items():
        print("\n" + "\n".join(f"{name}: {line}" for line in lines))
        print(f"{name}: as good as {baseline}: {yes(accepted)}")
    return {
        "settings": {
            s.name: {"steps": s.config.schedule.steps}
            | {measure: asdict(interval) for measure, interval in means[s.name].items()}
            for s in settings
        },
        "differences": [asdict(d) for found in differences.values() for d in found],
        "accepted": {name: accepted for name, (accepted, _) in verdicts.items()},
        "values": {
            name: {measure: x.tolist() for measure, x in found.items()} for name, found in values.items()
        },
    }


def parse_part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1")
    return int(match[1]), int(match[2])


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--labels", type=Path, required=True, help="CSV with the columns file,label")
    parser.add_argument("--network", default="squeezenet1_1")
    parser.add_argument("--weights", help="file of the state dict")
    parser.add_argument("--every", type=int, default=11, help="rows of the labels from one image to the next")
    parser.add_argument("--limit", type=int, default=46, help="images at most")
    parser.add_argument("--areas", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--settings", nargs="+", default=["torchray-800", "torchray-100", "fast"])
    parser.add_argument(
        "--baseline", default="torchray-800", help="setting that the others are compared with"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the settings' masks")
    parser.add_argument("--part", type=parse_part, default=(0, 1), help="I/N: make every N-th image's masks")
    parser.add_argument("--table", action="store_true", help="make no masks, measure those that are there")
    parser.add_argument("--curve-steps", type=int, default=28, help="parts of insertion and deletion")
    parser.add_argument("--batch", type=int, default=12, help="images measured at once")
    arguments = parser.parse_args(argv)
    if arguments.baseline not in arguments.settings:
        parser.error(f"the baseline {arguments.baseline} is none of the settings")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    settings = [parse_setting(name, arguments.areas) for name in arguments.settings]
    examples = choose(arguments.labels, arguments.every, arguments.limit)
    network = load_network(arguments.network, arguments.weights)
    network = network.to(chosen_device())
    for s in settings:
        check_folder(arguments.out / s.name, identity(network, s))
    if not arguments.table:
        part, parts = arguments.part
        make_missing(network, arguments.images, examples[part::parts], settings, arguments.out)
    ready = [e for e in examples if all(e.path(arguments.out / s.name).exists() for s in settings)]
    if not ready or (len(ready) < len(examples) and not arguments.table):
        STDERR.print(
            f"{len(ready)} of {len(examples)} images are ready; the other parts have to end, or use --table"
        )
        return
    values, drift = measure_all(network, arguments.images, ready, settings, arguments)
    print(
        f"{arguments.network}, {len(ready)} of {len(examples)} images (those that all settings have), areas "
        f"{' '.join(f'{area:g}' for area in arguments.areas)}; insertion and deletion in "
        f"{arguments.curve_steps} steps; in brackets 95 % intervals, {RESAMPLES} resamples of the images. "
        "Largest change of a score since it was stored: "
        + ", ".join(f"{name} {change:.2g}" for name, change in drift.items())
    )
    results = report(settings, values, arguments.baseline, arguments.areas)
    about = {
        "network": network.name,
        "weights": network.fingerprint,
        "files": [e.file for e in ready],
        "chosen": len(examples),
        "areas": arguments.areas,
        "baseline": arguments.baseline,
        "curve_steps": arguments.curve_steps,
        "resamples": RESAMPLES,
        "seed": SEED,
        "drift": drift,
    }
    write_json(arguments.json, about | results)


if __name__ == "__main__":
    main()
