"""Commands that compute: runs of a dataset, several of them, and one image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extremal.jobs.cli.ending import INTERRUPTED, console, explained, in_shell, until_stopped
from extremal.jobs.cli.options import command
from extremal.jobs.cli.settings import MethodOptions, RunOptions
from extremal.jobs.cli.shared import Device, MovedRoot, MovedWeights, PoolOptions, RunUri

if TYPE_CHECKING:
    from extremal.workers.config import RunConfig


@command(
    epilog="**Examples**\n\n"
    "`extremal run --dataset voc --root data --split 2007:test --network squeezenet1_1`\n\n"
    "`extremal run --dataset imagenet --root imagenet/val --network googlenet --method channel "
    "--layer inception4d --out runs/channels`\n\n"
    "`extremal run --dataset voc --root data --split 2007:test --network vgg16 "
    "--method gradient,guided,grad_cam,rise --out runs/voc-methods`\n\n"
    "`extremal run --method inversion --channels runs/channels --limit 20 --out runs/inversions`\n\n"
    "`extremal run --method inversion --channels runs/channels --subject channels --out runs/pictures`\n\n"
    "`extremal run --config voc.toml --steps 200 --actors 4`\n\n"
    "The same command again continues a run that was stopped anywhere.\n\n"
    "Exit codes: 0 complete, 1 shards missing or not one result, 2 bad input, 130 interrupted, "
    "143 terminated."
)
def run(
    settings: RunOptions,
    pool: PoolOptions,
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the run. [default: one below runs/]")
    ] = None,
) -> None:
    """Compute masks of a whole dataset: a new run, or what is missing of an old one."""
    with explained():
        config = settings.configuration(pool.device)
        name = f"runs/{config.dataset.name}-{config.network.name}-{config.method}".replace(":", "-")
        destination = out or name
        code = _run(config, destination, pool)
    if code == 0:
        from extremal.jobs.studies import STUDIES

        place = in_shell(destination)
        typer.echo(f"done: {place}. Next: extremal {STUDIES[config.method].next_command} {place}")
    raise typer.Exit(code)


def _run(config: "RunConfig", out: str, pool: PoolOptions) -> int:
    from extremal.jobs.run import execute

    workers = pool.pool()
    return until_stopped(out, lambda: execute(config, out, workers, console(stderr=True))[1])


@command(
    epilog="**Examples**\n\n`extremal retry runs/voc`\n\n`extremal retry runs/voc --root /data/mended`\n\n"
    "Rows of pairs that succeed move from failures/ to the results; the others stay as they are."
)
def retry(
    uri: RunUri,
    *,
    root: MovedRoot = None,
    weights: MovedWeights = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The channel run of inversions, if it has moved. [default: as it was]"
        ),
    ] = None,
    pool: PoolOptions,
) -> None:
    """Compute the failed pairs of a run again, and only those."""
    with explained():
        from extremal.jobs.run import retry as retry_failed

        workers, progress = pool.pool(), console(stderr=True)
        code = until_stopped(uri, lambda: retry_failed(uri, root, weights, workers, progress, channels))
    raise typer.Exit(code)


@command(
    epilog="**Examples**\n\n`extremal benchmark benchmarks/table1.toml --out runs/table1`\n\n"
    "`extremal benchmark small.toml --out s3://bucket/small --device cuda --actors 8`\n\n"
    "The file has settings for all runs (keys as for `extremal run --config`), then a `[[run]]` for each, "
    "with its `name` and what differs. The same command again continues: complete runs are skipped.\n\n"
    "Exit codes: 0 all complete, 1 a run is not, 2 bad input, 130 interrupted, 143 terminated."
)
def benchmark(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Settings and runs.")],
    out: Annotated[str, typer.Option(help="Directory or URI; each run lies below it by its name.")],
    pool: PoolOptions,
) -> None:
    """Every run of a file, one after the other, and their table at the end."""
    with explained():
        from extremal.jobs.benchmark import read_benchmark, run_benchmark

        runs, workers = read_benchmark(file, pool.device), pool.pool()
        code = until_stopped(out, lambda: run_benchmark(runs, out, workers, console(stderr=True)))
    raise typer.Exit(code)


@command(
    epilog="**Example**\n\n`extremal sanity --config voc.toml --out sanity/voc --layers 1,2,4,8,16`\n\n"
    'The file is one of `extremal run` with methods to compare and their maps: `method = "extremal"`, '
    '`[spatial] game = "hybrid"`, `[saliency] maps = 28`. Writes sanity.csv, sanity.parquet and sanity.png. '
    "The same command again continues. Exit codes: as of `extremal run`."
)
def sanity(
    config: Annotated[Path, typer.Option(help="TOML file of a run that stores saliency maps.")],
    out: Annotated[str, typer.Option(help="Directory or URI: original/, seed-0/layers-01/ ... and results.")],
    *,
    layers: Annotated[
        str | None, typer.Option(help="How many layers, from the output, are random: 1,2,4. [default: each]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of random weights at each depth.")] = 3,
    pool: PoolOptions,
) -> None:
    """Do maps change when the network's weights become random, layer after layer from the output?"""
    with explained():
        from extremal.jobs.options import assemble, numbers
        from extremal.jobs.sanity import run_sanity

        depths = numbers(layers, int, "--layers")
        settings, workers = assemble(config, None, {}, pool.device), pool.pool()
        code = until_stopped(out, lambda: run_sanity(settings, out, depths, seeds, workers, console()))
    raise typer.Exit(code)


@command(
    epilog="**Examples**\n\n`extremal explain dog.jpg --network resnet50`\n\n"
    "`extremal explain dog.jpg --network squeezenet1_1 --target 207 --areas 0.05,0.1 --steps 200`\n\n"
    "`extremal explain dog.jpg --network googlenet --method channel --layer inception4d`"
)
def explain(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    settings: MethodOptions,
    device: Device = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("explained"),
) -> None:
    """One image: masks as PNG overlays beside a plot of score against area."""
    with explained():
        from extremal.jobs.explain import explain as explain_image
        from extremal.pipeline.datasets.pairs import storable
        from extremal.pipeline.errors import ConfigError

        config = settings.configuration(device, dataset={"name": "folder"})
        try:
            files = explain_image(image, config, out, device, console(stderr=True))
        except OSError as error:
            raise ConfigError(f"Cannot write the pictures to {out}: {error}") from error
    for file in files:
        typer.echo(storable(str(file)))


@command(epilog="**Example**\n\n`extremal demo --out /tmp/demo`")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, network, runs and pictures.")] = Path(
        "extremal-demo"
    ),
    pairs: Annotated[int, typer.Option(min=2, help="Pairs to explain.")] = 64,
    actors: Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: by CPUs]")] = None,
) -> None:
    """The whole way on synthetic shapes: draw, train, explain, score. A few minutes on two cores."""
    with explained():
        from extremal.jobs.demo import run_demo

        try:
            code = run_demo(out, pairs, actors, console())
        except KeyboardInterrupt:
            typer.echo("\nstopped. The same command continues.", err=True)
            code = INTERRUPTED
    raise typer.Exit(code)
