"""The files of a training: weights, measurements, plot, and the checkpoint that a later call resumes from.

FILE.checkpoint is the truth about how far a training is. Only the process that was called writes it and the
files beside it, each whole or not at all. What a worker reports comes through Ray Train's storage path in
FILE.training, a folder that is there while a call lasts.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import pyarrow.fs as pafs
import torch

from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import versions
from extremal.pipeline.training.task import CHECKPOINT, START, WEIGHTS, Record, Task, kept
from extremal.storage.files import write_bytes
from extremal.storage.trees import diff
from extremal.workers.networks.network import Network
from extremal.workers.training.registry import TRAININGS
from extremal.workers.training.training import Data

SUFFIXES = (".json", ".png", ".checkpoint")


def settings_of(task: Task, data: Data, start: Network) -> Record:
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
        "training": {"method": task.method, **asdict(task.config)},
    }
    return dict(json.loads(json.dumps(settings)))


def report_so_far(task: Task, settings: Record) -> Record:
    """`records` of the epochs that earlier calls completed, and `faults` of the images.

    Raises:
        ConfigError: its checkpoint cannot be read or has other settings, or there are weights of unknown
            origin.
    """
    path = task.beside(".checkpoint")
    try:
        exists, taken = path.exists(), task.out.exists()
    except OSError as error:
        raise ConfigError(f"Cannot write {task.out}: {error.strerror}. Give another --out.") from error
    if not exists:
        if taken:
            raise ConfigError(f"{task.out} exists, without a checkpoint to resume; give another --out.")
        return {"records": [], "faults": {}}
    try:
        content: Record = torch.load(path, map_location="cpu", weights_only=True)
        lines = diff(_with_defaults(content["settings"], task), settings)
        report = {"records": content["records"], "faults": content["faults"]}
        done, epochs = len(report["records"]), task.config.epochs
        if done > epochs or (done < epochs and not content.keys() >= TRAININGS[task.method].state_keys):
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
    return report


def _with_defaults(settings: Record, task: Task) -> Record:
    """A checkpoint says nothing of settings that came after it: they had their defaults."""
    defaults = {"method": "finetune", **asdict(TRAININGS[task.method].settings())}
    return {**settings, "training": {**defaults, **settings["training"]}}


def check_complete(task: Task) -> None:
    """That a complete training has its weights.

    Raises:
        ConfigError: they are gone.
    """
    if not task.out.exists():
        raise ConfigError(
            f"{task.beside('.checkpoint')}: training is complete, but {task.out} is gone; "
            "delete the first to begin again."
        )


@contextmanager
def prepared(task: Task, weights: Mapping[str, torch.Tensor], resume: bool) -> Iterator[Path]:
    """The folder FILE.training, with what a worker begins with; it is gone afterwards.

    By way of a file, so that the layout and preprocessing of the network in training are those of the
    network that `extremal run` will load, and a place that cannot be written is found before the training.

    Args:
        weights: of the network before its first epoch. resume: bring the checkpoint too.

    Raises:
        ConfigError: the place cannot be written.
    """
    folder = task.beside(".training").absolute()
    try:
        try:
            shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
            start = folder / START
            start.mkdir(parents=True)
            _write(start / WEIGHTS, _saved(dict(weights)))
            if resume:
                shutil.copyfile(task.beside(".checkpoint"), start / CHECKPOINT)
        except OSError as error:
            raise ConfigError(
                f"Cannot write {task.beside('.training')}: {error.strerror or error}. Give another --out."
            ) from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(task: Task, settings: Record, report: Record, state: Path, plot: bytes | None) -> None:
    """Write what people and `extremal run` read, then the checkpoint, each file whole or not at all.

    The checkpoint of a complete training holds no weights any more: they are in the file.

    Args:
        report: `records` of the epochs so far, and `faults` of the images.
        state: file of the reported checkpoint.
        plot: PNG of a complete training, None for one that goes on.

    Raises:
        ConfigError: the place cannot be written any more.
    """
    metrics = {"settings": settings, "versions": versions(), "unreadable": report["faults"]}
    metrics |= {"epochs": report["records"]}
    _put(task, ".json", (json.dumps(metrics, indent=1) + "\n").encode())
    if plot is None:
        _put(task, ".checkpoint", state)
        return
    _put(task, ".png", plot)
    _put(task, "", _saved(torch.load(state, map_location="cpu", weights_only=True)["model"]))
    _put(task, ".checkpoint", _saved({"settings": settings, **report}))


def _put(task: Task, suffix: str, content: bytes | Path) -> None:
    path = task.beside(suffix)
    try:
        _write(path, content if isinstance(content, bytes) else content.read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}. {kept(task)}") from error


def _write(path: Path, content: bytes) -> None:
    write_bytes(pafs.LocalFileSystem(), str(path), content)


def _saved(content: Record) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
