"""Turning a network into a classifier of a dataset's classes: what the console shows of it, and a plot."""

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from io import BytesIO

import torch
from matplotlib.figure import Figure
from rich.console import Console

from extremal.jobs.drawing import DPI
from extremal.pipeline.datasets.open import unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.events import event
from extremal.pipeline.progress import ProgressReport
from extremal.pipeline.training.checkpoint import (
    SUFFIXES,
    check_complete,
    prepared,
    publish,
    report_so_far,
    settings_of,
)
from extremal.pipeline.training.conduct import conduct
from extremal.pipeline.training.labelled import labelled_data
from extremal.pipeline.training.loop import Assignment
from extremal.pipeline.training.messages import Begun, Counted, Measured
from extremal.pipeline.training.task import Record, Task, device
from extremal.workers.errors import TrainingError
from extremal.workers.networks.network import load_network
from extremal.workers.training.registry import TRAININGS

log = logging.getLogger(__name__)


def finetune(task: Task, console: Console) -> None:
    """Train what is missing of a task: its epochs, or those after the last checkpoint.

    Raises:
        ConfigError: settings, place or training are at fault, or the checkpoint has other settings.
        DatasetError, NetworkError: with the fix.
        DriverError: the worker is lost again and again; the last checkpoint is whole.
        KeyboardInterrupt: stopped; the last checkpoint is whole.
    """
    computed_on = device(task)
    data = labelled_data(task, console.print)
    network = load_network(**task.network)
    settings = settings_of(task, data, network)
    report = report_so_far(task, settings)
    if len(report["records"]) == task.config.epochs:
        check_complete(task)
        console.print(f"nothing left to train: {task.out} has its {task.config.epochs} epochs")
        return
    weights = TRAININGS[task.method].start(network, len(data.classes), task.config.seed)
    try:
        with prepared(task, weights, resume=bool(report["records"])) as folder:
            _follow(task, Assignment(task, data, settings, folder, computed_on), report, console)
    except TrainingError as error:
        raise ConfigError(f"{task.out}: {error}.") from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(f"The memory of {computed_on} is full ({error}); give a lower --batch.") from error
    except OSError as error:  # writing the files says so itself
        raise unreachable(task.root, error) from error


def _follow(task: Task, assignment: Assignment, report: Record, console: Console) -> None:
    """Show and publish what the worker does after the epochs of a report."""
    epochs, done = task.config.epochs, len(report["records"])
    each = len(assignment.data.train) + len(assignment.data.test)
    console.print(f"{'resuming after' if done else 'starting at'} epoch {done} of {epochs}")
    with closing(conduct(assignment)) as messages:
        next(messages)  # the worker has begun
        with ProgressReport(each * epochs, each * done, console, unit="images") as progress:
            for message in messages:
                if isinstance(message, Counted):
                    progress.add(message.images, message.failed)
                elif isinstance(message, Begun):  # once more, since its process was lost
                    progress.add(each * message.epochs - progress.done, 0)
                else:
                    _publish(task, assignment.settings, message)
                    _show(task, report, message.report, console)
                    report = message.report
    console.print(f"wrote {task.out}, and beside it {', '.join(SUFFIXES)}", soft_wrap=True)
    if report["faults"]:
        console.print(f"{len(report['faults'])} images could not be read and were left out (all in .json)")


def _publish(task: Task, settings: Record, measured: Measured) -> None:
    records = measured.report["records"]
    picture = plot(records, task.out.name) if len(records) == task.config.epochs else None
    publish(task, settings, measured.report, measured.state, picture)


def _show(task: Task, before: Record, report: Record, console: Console) -> None:
    for path in report["faults"].keys() - before["faults"].keys():
        console.print(f"skipped: {report['faults'][path]}")
    record = report["records"][-1]
    console.print(_line(record, task.config.epochs))
    measured = {key: record[key] for key in ("epoch", "loss", "mean_ap", "test_images")}
    event(log, logging.INFO, "epoch measured", file=str(task.out), **measured)


def _line(record: Record, epochs: int) -> str:
    mean = "none" if record["mean_ap"] is None else f"{record['mean_ap']:.3f}"
    over = f"over {record['classes_with_images']} classes, {record['test_images']} held-out images"
    return f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, mAP {mean} ({over})"


def plot(records: Sequence[Record], title: str) -> bytes:
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
