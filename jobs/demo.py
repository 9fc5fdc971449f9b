"""The demo: shapes are drawn, a small network is trained on them, explained and scored, on any machine."""

import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from extremal.jobs.figures import masks_of_areas, save
from extremal.jobs.run import execute
from extremal.jobs.score import show_classes, show_scores
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.driving.driver import Pool, start_ray
from extremal.storage import Run, kinds
from extremal.workers.config import RunConfig
from extremal.workers.images import decode
from extremal.workers.networks.shapes_cnn import train_shapes_cnn

EPOCHS = 30
SHOWN = 6
TOLERANCE_PX = 5  # 15 px, made for photographs, is a third of these images' objects

# The images are small: a narrower kernel, a weaker blur, and fewer, larger steps than for ImageNet.
SPATIAL = {
    "areas": [0.05, 0.1, 0.2],
    "sigma_max": 12.0,
    "mask": {"step": 7, "sigma": 14.0},
    "schedule": {"steps": 60, "lr": 0.1, "growth": 1.03},
}
CHANNEL = {"layer": "block4", "schedule": {"steps": 100, "ramp": 50}}


def run_demo(out: Path, pairs: int, actors: int | None, console: Console) -> int:
    """The whole way, on synthetic data; continues where an earlier call was stopped.

    Returns:
        The exit code: 0 if both runs are complete.
    """
    out.mkdir(parents=True, exist_ok=True)
    root, weights = out / "shapes", out / "shapes_cnn.pth"
    if not weights.exists():
        _train(root, weights, console)
    workers = start_ray(Pool(actors), threads=1)
    spatial, code = _run(_config("spatial", root, weights, pairs), out / "spatial", workers, console)
    if code:
        return code
    channel, code = _run(_config("channel", root, weights, pairs), out / "channel", workers, console)
    if code:
        return code
    show_scores(spatial.uri, Rule(TOLERANCE_PX), console)
    show_classes(channel.uri, 5, console)
    picture = out / "overlays.png"
    save(masks_of_areas(spatial, pairs=range(min(SHOWN, pairs)), root=str(root)), picture)
    console.print(f"\nLook at {picture}. Then try:")
    image = root / spatial.table(kinds.SPATIAL, ["path"])["path"][0].as_py()
    command = sys.argv[0] if Path(sys.argv[0]).name == "extremal" else "extremal"
    for arguments in (
        f"status {spatial.uri}",
        f"report {spatial.uri} {channel.uri} --tolerance {TOLERANCE_PX:g}",
        f"score {spatial.uri} --tolerance 0",
        f"explain {image} --network shapes_cnn --weights {weights} --areas 0.05,0.1,0.2 --steps 100",
    ):
        console.print(f"  {command} {arguments}", soft_wrap=True)
    return 0


def _config(method: str, root: Path, weights: Path, pairs: int) -> RunConfig:
    settings = {
        "dataset": {"name": "shapes", "root": str(root), "split": "test", "limit": pairs},
        "network": {"name": "shapes_cnn", "weights": str(weights)},
        "method": method,
        "spatial": SPATIAL,
        "channel": CHANNEL,
        "batch": 8,
        "shard_size": 8,
    }
    return build_config(merge(method_trees("torchray"), settings))


def _run(config: RunConfig, out: Path, actors: int | None, console: Console) -> tuple[Run, int]:
    console.print(f"\n{config.method} attribution", style="bold")
    return execute(config, str(out), Pool(actors), console)


def _train(root: Path, weights: Path, console: Console) -> None:
    console.print("drawing shapes and training a small network on them (about a minute)", style="bold")
    images, labels = _training_set(root)

    def report(epoch: int, epochs: int, loss: float) -> None:
        console.print(f"  epoch {epoch}/{epochs}: loss {loss:.3f}")

    network, accuracy = train_shapes_cnn(images, labels, epochs=EPOCHS, seed=0, progress=report)
    console.print(f"  {accuracy:.0%} of {len(images)} training images have all labels right")
    partial = weights.with_suffix(".tmp")
    torch.save(network.state_dict(), partial)
    partial.replace(weights)


def _training_set(root: Path) -> tuple[Tensor, Tensor]:
    """(N,3,128,128) uint8 images and (N,C) multi-hot labels of the training split."""
    dataset = open_dataset("shapes", str(root), "train")
    present: dict[str, set[int]] = {}
    for pair in dataset.pairs():
        present.setdefault(pair.path, set()).add(pair.class_id)
    labels = torch.zeros(len(present), len(dataset.classes))
    for i, ids in enumerate(present.values()):
        labels[i, list(ids)] = 1
    pixels = np.stack([np.asarray(decode(Path(dataset.root) / path)) for path in present])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels
