"""The command that trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extremal.jobs.cli.ending import INTERRUPTED, console, explained, in_shell
from extremal.jobs.cli.options import Flag, command, setting
from extremal.jobs.cli.shared import Device

if TYPE_CHECKING:
    from extremal.pipeline.training.task import Task


@dataclass(frozen=True)
class FinetuneOptions:
    """What to train on what, and where to put it.

    Attributes:
        dataset: `voc`, `coco` or `shapes`.
        root: folder or URI of the dataset.
        split: to train on, for example 2007:trainval.
        test_split: held out, to measure on, for example 2007:test.
        network: a torchvision classifier, or module:function of your own.
        out: file of the new weights.
        freeze: train the new head alone.
        epochs: passes over the training images.
        batch: images of a step.
        lr: highest rate of the head; the rest learns with a tenth.
        crop: central square to measure on, pixels; 0 = whole image, as in `extremal run`.
        seed: seed of everything random.
        precision: `float32`, `bf16` or `fp16`; None = bf16 on a GPU, else float32.
        workers: threads that decode images.
    """

    dataset: str
    root: str
    split: str
    test_split: str
    network: str
    out: Annotated[Path, typer.Option(metavar="FILE")]
    weights: Flag = setting("network", "weights")
    freeze: Annotated[bool, typer.Option("--freeze")] = False
    epochs: int = 10
    batch: int = 32
    lr: float = 0.01
    resize: Flag = setting("network", "resize")
    crop: int = 0
    seed: int = 0
    precision: str | None = None
    workers: Annotated[int, typer.Option(min=1)] = 4
    device: Device = None

    def task(self) -> "Task":
        """As training takes it.

        Raises:
            ConfigError: a setting is out of range. DeviceError: there is no such device.
        """
        from extremal.pipeline.training.task import Task, configure

        settings = {name: getattr(self, name) for name in ("epochs", "batch", "lr", "freeze", "seed")}
        network = {"name": self.network, "weights": self.weights, "resize": self.resize, "crop": self.crop}
        return Task(
            dataset=self.dataset,
            root=self.root,
            split=self.split,
            test_split=self.test_split,
            network=network,
            out=self.out,
            config=configure(settings, self.precision, self.device),
            threads=self.workers,
            device=self.device,
        )


@command(
    epilog="**Examples**\n\n"
    "`extremal finetune --dataset voc --root data --split 2007:trainval --test-split 2007:test "
    "--network resnet50 --out weights/resnet50_voc.pth`\n\n"
    "`extremal finetune --dataset coco --root data --split train2014 --test-split val2014 --network vgg16 "
    "--epochs 5 --freeze --out weights/vgg16_coco.pth`\n\n"
    "`extremal run --network resnet50 --weights weights/resnet50_voc.pth --dataset voc --root data "
    "--split 2007:test`\n\n"
    "The same command again continues after the last whole epoch. Beside the weights: FILE.json (loss, and "
    "average precision per class), FILE.png, FILE.checkpoint.\n\n"
    "Exit codes: 0 complete, 2 bad input, 130 interrupted."
)
def finetune(options: FinetuneOptions) -> None:
    """Train a network to tell the classes of VOC or COCO, several in an image, and measure its mAP."""
    with explained():
        from extremal.jobs.finetune import finetune as train
        from extremal.pipeline.training.task import kept

        task = options.task()
        try:
            train(task, console(stderr=True))
        except KeyboardInterrupt:
            typer.echo(f"\nstopped. {kept(task)}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    flags = {
        "dataset": options.dataset,
        "root": options.root,
        "split": options.test_split,
        "network": options.network,
        "weights": str(options.out),
    }
    shown = " ".join(f"--{name} {in_shell(value)}" for name, value in flags.items())
    typer.echo(f"done: {in_shell(str(options.out))}. Next: extremal run {shown}")
