"""Turning a network into a classifier of a dataset's classes: epochs, checkpoints, metrics, a plot."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import torch
from matplotlib.figure import Figure
from rich.console import Console

from extremal.jobs.figures.drawing import DPI
from extremal.pipeline.datasets.open import Dataset, open_dataset, unreachable
from extremal.pipeline.errors import ConfigError, DatasetError
from extremal.pipeline.events import event
from extremal.pipeline.prepare import WHOLE_IMAGE, versions
from extremal.pipeline.progress import ProgressReport
from extremal.storage.files import printable, write_bytes
from extremal.storage.manifest import diff
from extremal.workers.images import MAX_INPUT
from extremal.workers.networks.network import Network, load_network
from extremal.workers.training.batches import ABSENT, IGNORED, PRESENT, Labelled
from extremal.workers.training.trainer import (
    Data,
    FinetuneConfig,
    Finetuner,
    TrainingError,
    average_precision,
    with_new_head,
)

log = logging.getLogger(__name__)

SHOWN = 3

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What to train on what, and where to put it.

    Attributes:
        network: arguments of `load_network`. out: file of the weights; the others are named after it.
        threads: that decode images. device: None = a GPU if there is one.
    """

    dataset: str
    root: str
    split: str
    test_split: str
    network: dict[str, Any]
    out: Path
    config: FinetuneConfig
    threads: int = 4
    device: str | None = None

    def beside(self, suffix: str) -> Path:
        """The file of that suffix beside the weights."""
        return self.out.with_name(self.out.name + suffix)


STATE = {"model", "optimizer", "scaler", "faults"}  # of a checkpoint between two epochs


def finetune(task: Task, console: Console) -> None:
    """Train what is missing of a task: its epochs, or those after the last checkpoint.

    Raises:
        ConfigError: settings, place or training are at fault, or the checkpoint has other settings.
        DatasetError, NetworkError: with the fix.
        KeyboardInterrupt: stopped; the last checkpoint is whole.
    """
    device = _device(task)
    splits = [_open(task, split) for split in (task.split, task.test_split)]
    data, classes = _data(task, splits, console), splits[0].classes
    start = load_network(**task.network)
    settings = _settings(task, data, start)
    checkpoint = _checkpoint(task, settings)
    records: list[Record] = checkpoint["records"] if checkpoint else []
    if len(records) == task.config.epochs:
        _check_complete(task)
        console.print(f"nothing left to train: {task.out} has its {task.config.epochs} epochs")
        return
    network = _as_loaded(task, start, len(classes))
    _try_whole_image(network, data.test)
    try:
        trainer = Finetuner(network, task.config, data, task.threads, device)
        if checkpoint:
            trainer.load_state(checkpoint)
        _train(task, trainer, settings, records, classes, console)
    except TrainingError as error:
        raise ConfigError(f"{task.out}: {error}.") from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(f"The memory of {device} is full ({error}); give a lower --batch.") from error
    except OSError as error:  # writing the checkpoint says so itself
        raise unreachable(task.root, error) from error


def configure(settings: Mapping[str, Any], precision: str | None, device: str | None) -> FinetuneConfig:
    """The settings of a training; without a precision bf16 if it will run on a GPU.

    Raises:
        ConfigError: one of them is out of range.
    """
    usual = "float32" if _device_name(device) == "cpu" else "bf16"
    try:
        return FinetuneConfig(**settings, precision=precision or usual)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def kept(task: Task) -> str:
    """What a stopped training left, and how to go on."""
    path = task.beside(".checkpoint")
    if not path.exists():
        return "No epoch is complete; the same command starts again."
    return f"{path} is whole; run the same command to resume from it."


# ---- what to train on -------------------------------------------------------------------------------


def _device(task: Task) -> torch.device:
    name = _device_name(task.device)
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device is cpu or cuda, not {name!r}.")
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: this machine has no GPU. Leave --device out, or give cpu.")
    if name == "cpu" and task.config.precision == "fp16":
        raise ConfigError("--precision fp16 is for GPUs; give float32 or bf16 on a CPU.")
    return torch.device(name)


def _device_name(wanted: str | None) -> str:
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")


def _open(task: Task, split: str) -> Dataset:
    if task.dataset not in WHOLE_IMAGE:
        names = ", ".join(sorted(WHOLE_IMAGE))
        raise ConfigError(f"--dataset {task.dataset} has not several labels an image; give one of {names}.")
    return open_dataset(task.dataset, task.root, split)


def _data(task: Task, splits: Sequence[Dataset], console: Console) -> Data:
    if splits[0].classes != splits[1].classes:
        raise DatasetError(f"the splits {task.split} and {task.test_split} have different classes")
    try:
        train, test = (labelled(dataset, console) for dataset in splits)
    except OSError as error:
        raise unreachable(task.root, error) from error
    for images, split in ((train, task.split), (test, task.test_split)):
        if not images:
            raise DatasetError(f"{printable(task.root)}: the split {split} has no image with known classes")
    both = {image.path for image in train} & {image.path for image in test}
    if both:
        raise DatasetError(
            f"{len(both)} images are in {task.split} and in {task.test_split}, such as {sorted(both)[0]}: "
            "what is trained on must not be measured on; give another --test-split"
        )
    for name, images in (("train on", train), ("measure on", test)):
        console.print(f"{len(images)} images to {name}, {len(splits[0].classes)} classes")
    return Data(splits[0].root, train, test)


def labelled(dataset: Dataset, console: Console) -> list[Labelled]:
    """A dataset's images with a label for each class, in order.

    A class whose objects are all PASCAL-difficult is IGNORED, as in VOC's own evaluation. Images with a
    broken annotation, whose classes are unknown, are left out and counted. Images without any object have
    no pair and are not among them.

    Raises:
        OSError: the annotations' storage is at fault.
    """
    images: dict[str, Labelled] = {}
    broken: list[str] = []
    blank = (ABSENT,) * len(dataset.classes)
    for pair in dataset.pairs():
        if pair.class_id < 0 and not pair.class_name:
            broken.append(pair.path)
            continue
        image = images.get(pair.path) or Labelled(pair.image_id, pair.path, blank)
        labels = list(image.labels)
        if pair.class_id >= 0:  # an object whose mask is broken is there all the same
            labels[pair.class_id] = IGNORED if pair.all_difficult else PRESENT
        width, height = pair.width or image.width, pair.height or image.height
        images[pair.path] = replace(image, labels=tuple(labels), width=width, height=height)
    if broken:
        console.print(f"{len(broken)} images with a broken annotation left out, such as {broken[0]}")
    return list(images.values())


def _settings(task: Task, data: Data, start: Network) -> Record:
    """What a checkpoint must agree with to be resumed: no locations, no device."""
    labels = [[(image.image_id, image.labels) for image in images] for images in (data.train, data.test)]
    settings = {
        "dataset": {
            "name": task.dataset,
            "split": task.split,
            "test_split": task.test_split,
            "train_images": len(data.train),
            "test_images": len(data.test),
            "labels_sha256": hashlib.sha256(json.dumps(labels).encode()).hexdigest(),
        },
        "network": {
            **{key: task.network.get(key) for key in ("name", "resize", "crop")},
            "weights_sha256": start.fingerprint,
        },
        "training": asdict(task.config),
    }
    return dict(json.loads(json.dumps(settings)))


# ---- the network ------------------------------------------------------------------------------------


def _as_loaded(task: Task, start: Network, classes: int) -> Network:
    """The network with a new head, as `extremal run` will load it from a file.

    Once by way of a file, so that its layout and preprocessing are that network's in training already, and
    a place that cannot be written is found before it.
    """
    state = with_new_head(start, classes, task.config.seed)
    path = task.beside(".start")
    try:
        task.out.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _saved(state))
        return load_network(**{**task.network, "weights": str(path)})
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}. Give another --out.") from error
    finally:
        with suppress(OSError):
            path.unlink()


def _try_whole_image(network: Network, images: Sequence[Labelled]) -> None:
    """One forward pass of the first held-out image's shape: a network for squares should say so now."""
    sizes = ((image.width, image.height) for image in images)
    shapes = (network.preprocess.input_shape(w, h) for w, h in sizes if w and h)
    # An annotation that lies about its image must not decide for the others.
    shape = next((shape for shape in shapes if math.prod(shape) <= MAX_INPUT), (network.side,) * 2)
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *shape))
    except Exception as error:
        raise ConfigError(
            f"{network.name} does not take whole images ({shape[0]}x{shape[1]}): {error}. "
            "Give --crop (for example --crop 224) to measure on the central square."
        ) from error


# ---- epochs -----------------------------------------------------------------------------------------


def _train(
    task: Task,
    trainer: Finetuner,
    settings: Record,
    records: list[Record],
    classes: Sequence[str],
    console: Console,
) -> None:
    epochs, data = task.config.epochs, trainer.data
    each = len(data.train) + len(data.test)
    console.print(f"{'resuming after' if records else 'starting at'} epoch {len(records)} of {epochs}")
    progress = ProgressReport(each * epochs, each * len(records), console, unit="images")
    with progress:
        while len(records) < epochs:
            named = set(trainer.faults)
            loss = trainer.train_epoch(len(records), progress.add)
            records.append(_measured(trainer, len(records) + 1, loss, classes, progress.add))
            for path in trainer.faults.keys() - named:
                console.print(f"skipped: {trainer.faults[path]}")
            _publish(task, records, settings, trainer.state())
            console.print(_line(records[-1], epochs))
            measured = {key: records[-1][key] for key in ("epoch", "loss", "mean_ap", "test_images")}
            event(log, logging.INFO, "epoch measured", file=str(task.out), **measured)
    console.print(f"wrote {task.out}, and beside it {', '.join(_SUFFIXES)}", soft_wrap=True)
    if trainer.faults:
        console.print(f"{len(trainer.faults)} images could not be read and were left out (all in .json)")


def _measured(
    trainer: Finetuner, epoch: int, loss: float, classes: Sequence[str], count: Callable[[int, int], None]
) -> Record:
    scores, labels = trainer.evaluate(count)
    try:
        found = [average_precision(scores[:, c], labels[:, c]) for c in range(len(classes))]
    except ValueError as error:
        raise TrainingError(f"after epoch {epoch} {error}; give a lower --lr and another --out") from error
    counted = [ap for ap in found if ap is not None]
    return {
        "epoch": epoch,
        "loss": loss,
        "mean_ap": math.fsum(counted) / len(counted) if counted else None,
        "classes_with_images": len(counted),
        "test_images": len(labels),
        "classes": [
            {
                "class": name,
                "ap": ap,
                "present": int((labels[:, c] == PRESENT).sum()),
                "absent": int((labels[:, c] == ABSENT).sum()),
                "ignored": int((labels[:, c] == IGNORED).sum()),
            }
            for c, (name, ap) in enumerate(zip(classes, found, strict=True))
        ],
    }


def _line(record: Record, epochs: int) -> str:
    mean = "none" if record["mean_ap"] is None else f"{record['mean_ap']:.3f}"
    over = f"over {record['classes_with_images']} classes, {record['test_images']} held-out images"
    return f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, mAP {mean} ({over})"


# ---- files ------------------------------------------------------------------------------------------

_SUFFIXES = (".json", ".png", ".checkpoint")


def _checkpoint(task: Task, settings: Record) -> Record | None:
    """What an earlier call left, None if it left nothing.

    Raises:
        ConfigError: it cannot be read or has other settings, or there are weights of unknown origin.
    """
    path = task.beside(".checkpoint")
    try:
        there, taken = path.exists(), task.out.exists()
    except OSError as error:
        raise ConfigError(f"Cannot write {task.out}: {error.strerror}. Give another --out.") from error
    if not there:
        if taken:
            raise ConfigError(f"{task.out} exists, without a checkpoint to resume; give another --out.")
        return None
    try:
        found: Record = torch.load(path, map_location="cpu", weights_only=True)
        lines = diff(found["settings"], settings)
        done = len(found["records"])
        if done > task.config.epochs or (done < task.config.epochs and not found.keys() >= STATE):
            raise ValueError("it is not whole")
    except Exception as error:  # whatever torch.load makes of a broken file
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}); delete it to start again."
        ) from error
    if lines:
        raise ConfigError(
            f"{path} was made with other settings (stored -> yours):\n  "
            + "\n  ".join(lines)
            + "\nRepeat the stored options to resume it, or choose another --out."
        )
    return found


def _check_complete(task: Task) -> None:
    path = task.beside(".checkpoint")
    if not task.out.exists():
        raise ConfigError(
            f"{path}: training is complete, but {task.out} is gone; delete the first to begin again."
        )


def _publish(task: Task, records: list[Record], settings: Record, state: Record) -> None:
    """Write what people and `extremal run` read, then the checkpoint, each file whole or not at all.

    The checkpoint of a complete training holds no weights any more: they are in the file.

    Raises:
        ConfigError: the place cannot be written any more.
    """
    known = {"settings": settings, "records": records, "faults": state["faults"]}
    metrics = {"settings": settings, "versions": versions(), "unreadable": state["faults"], "epochs": records}
    _put(task, task.beside(".json"), (json.dumps(metrics, indent=1) + "\n").encode())
    if len(records) < task.config.epochs:
        _put(task, task.beside(".checkpoint"), _saved({**state, **known}))
        return
    _put(task, task.beside(".png"), _plot(records, task.out.name))
    _put(task, task.out, _saved(state["model"]))
    _put(task, task.beside(".checkpoint"), _saved(known))


def _put(task: Task, path: Path, content: bytes) -> None:
    try:
        _write(path, content)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}. {kept(task)}") from error


def _write(path: Path, content: bytes) -> None:
    write_bytes(pafs.LocalFileSystem(), str(path), content)


def _saved(content: Record) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _plot(records: Sequence[Record], title: str) -> bytes:
    """Loss and mAP over the epochs, as PNG."""
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(6, 4), layout="constrained")
    loss = figure.subplots()
    precision = loss.twinx()
    loss.plot(epochs, [record["loss"] for record in records], "o-", color="firebrick")
    means = [math.nan if record["mean_ap"] is None else record["mean_ap"] for record in records]
    precision.plot(epochs, means, "s--", color="navy")
    loss.set_title(title, fontsize=9, parse_math=False)
    loss.set_xlabel("epoch")
    loss.set_ylabel("training loss", color="firebrick")
    precision.set_ylabel("mAP, held-out images", color="navy")
    precision.set_ylim(0, 1)
    buffer = BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()
