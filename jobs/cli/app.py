"""The command `extremal`. Heavy modules are imported inside the commands: help must be instant."""

import logging
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Extremal perturbations and channel attribution over whole image datasets.",
    epilog="Start with `extremal demo`: it needs no data, no weights and no GPU.",
)

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
RESUME = "Committed shards are safe in {}; run the same command to resume."

RunUri = Annotated[str, typer.Argument(metavar="RUN", help="Directory or URI of a run (its --out).")]
Config = Annotated[Path | None, typer.Option(help="TOML file with the settings; flags win.")]
Network = Annotated[
    str | None,
    typer.Option(help="torchvision classifier, bvlc_googlenet, shapes_cnn, or module:function of your own."),
]
Weights = Annotated[
    str | None,
    typer.Option(help="state_dict file, name of torchvision weights, or random. [default: torchvision's]"),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="spatial, channel, inversion, or saliency methods to compare, such as grad_cam,rise,extremal. "
        "[default: spatial]"
    ),
]
Layer = Annotated[str | None, typer.Option(help="Layer for --method channel. [default: inception4d]")]
Channels = Annotated[
    str | None, typer.Option(metavar="RUN", help="The finished channel run of --method inversion.")
]
Areas = Annotated[str | None, typer.Option(help="Fractions to keep. [default: 0.05,0.1,0.2,0.4,0.6,0.8]")]
Counts = Annotated[str | None, typer.Option(help="Channels to keep, e.g. 1,10,50. [default: the paper's]")]
Game = Annotated[str | None, typer.Option(help="preserve, delete or hybrid. [default: preserve]")]
PresetName = Annotated[str | None, typer.Option("--preset", help="fast, torchray or paper. [default: fast]")]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Iterations. [default: fast 100, torchray 800, paper 1600; channel 300; inversion 256]"
    ),
]
Resize = Annotated[int | None, typer.Option(help="Short side of the image, pixels. [default: the weights']")]
Crop = Annotated[
    int | None,
    typer.Option(help="Central square, pixels; 0 = whole image, as for voc and coco."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")]
Threads = Annotated[int | None, typer.Option(help="CPU threads per actor. [default: 1]")]
Actors = Annotated[
    int | None, typer.Option(min=1, help="Worker processes. [default: as many as GPUs allow, or CPUs]")
]
GpusPerActor = Annotated[
    float, typer.Option(min=0.01, max=1, help="Less than 1: several actors share a GPU and its memory.")
]
MovedRoot = Annotated[
    str | None, typer.Option(help="Folder of the dataset, if it has moved. [default: as it was]")
]
MovedWeights = Annotated[
    str | None, typer.Option(help="Weights, if they have moved. [default: as they were]")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. [default: a GPU if there is one]")]


def main() -> None:
    """Entry point of the command."""
    if not os.environ.get("RAY_ADDRESS"):
        # Read when ray is imported. Without what Ray calls a cluster here, a Ray that we start listens on
        # loopback alone; otherwise on every interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from extremal import __version__

        typer.echo(f"extremal {__version__}")
        raise typer.Exit


@app.callback()
def logs(
    log_json: Annotated[
        bool,
        typer.Option(
            "--log-json",
            help="Events as lines of JSON in place of texts for people; a final error stays plain.",
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Extremal perturbations and channel attribution over whole image datasets."""
    if not log_json:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        return
    from extremal.pipeline.events import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("extremal").setLevel(logging.INFO)


def _console(stderr: bool = False) -> Console:
    """Paths and class names are printed as they are: square brackets in them are no markup."""
    # Where events are logged they say it all.
    quiet = stderr and logging.getLogger("extremal").isEnabledFor(logging.INFO)
    return Console(stderr=stderr, markup=False, highlight=False, quiet=quiet)


@contextmanager
def _explained() -> Iterator[None]:
    """Known errors become one message and an exit code; anything else is a bug and keeps its trace."""
    from extremal.pipeline.errors import DriverError
    from extremal.storage.errors import UserError

    try:
        yield
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except DriverError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command(
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
    config: Config = None,
    dataset: Annotated[str | None, typer.Option(help="imagenet, voc, coco, folder or shapes.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder or URI of the dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="For example 2007:test, val2014, val.")] = None,
    labels: Annotated[str | None, typer.Option(help="ImageNet: file of labels for a flat folder.")] = None,
    difficult_list: Annotated[str | None, typer.Option(help="VOC: file of the Difficult subset.")] = None,
    target: Annotated[int | None, typer.Option(help="folder: output to explain. [default: top-1]")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N pairs.")] = None,
    network: Network = None,
    weights: Weights = None,
    method: Method = None,
    layer: Layer = None,
    channels: Channels = None,
    subject: Annotated[
        str | None,
        typer.Option(help="What to invert: pairs, or channels, the largest of each class. [default: pairs]"),
    ] = None,
    areas: Areas = None,
    counts: Counts = None,
    game: Game = None,
    preset: PresetName = None,
    steps: Steps = None,
    resize: Resize = None,
    crop: Crop = None,
    seed: Seed = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or bf16. [default: bf16 on a GPU for spatial and channel]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pairs whose masks form one queue; more fill a GPU. [default: 16]")
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(help="Masks computed at once. [default: what fits the GPU; 12 on a CPU]"),
    ] = None,
    shard_size: Annotated[int | None, typer.Option(help="Pairs per commit. [default: 32]")] = None,
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = 1.0,
    threads: Threads = None,
    device: Device = None,
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the run. [default: one below runs/]")
    ] = None,
) -> None:
    """Compute masks of a whole dataset: a new run, or what is missing of an old one."""
    flags: dict[str, Any] = {
        "dataset": {
            "name": dataset,
            "root": root,
            "split": split,
            "labels": labels,
            "difficult_list": difficult_list,
            "target": target,
            "limit": limit,
        },
        "network": {"name": network, "weights": weights, "resize": resize, "crop": crop},
        "method": method,
        "spatial": {"game": game},
        "channel": {"layer": layer},
        "inversion": {"channels": channels, "subject": subject},
        "seed": seed,
        "precision": precision,
        "batch": batch,
        "slots": slots,
        "shard_size": shard_size,
        "threads": threads,
        "steps": steps,
    }
    with _explained():
        from extremal.jobs.options import assemble, numbers

        flags["spatial"]["areas"] = numbers(areas, float, "--areas")
        flags["channel"]["counts"] = numbers(counts, int, "--counts")
        settings = assemble(config, preset, flags, device)
        name = f"runs/{settings.dataset.name}-{settings.network.name}-{settings.method}".replace(":", "-")
        destination = out or name
        code = _run(settings, destination, _pool(actors, gpus_per_actor, device))
    if code == 0:
        following = "classes" if settings.method == "channel" else "score"
        shown = _shown(destination)
        typer.echo(f"done: {shown}. Next: extremal {following} {shown}")
    raise typer.Exit(code)


def _pool(actors: int | None, gpus: float, device: str | None) -> Any:
    from extremal.pipeline.driving.driver import Pool

    return Pool(actors, gpus, device)


def _shown(out: str) -> str:
    """A run's directory without credentials, to be pasted into a shell."""
    from extremal.storage.files import printable

    return shlex.quote(printable(out))


def _run(settings: Any, out: str, pool: Any) -> int:
    from extremal.jobs.run import execute

    return _stoppable(out, lambda: execute(settings, out, pool, _console(stderr=True))[1])


def _stoppable(out: str, action: Callable[[], int], advice: str = RESUME) -> int:
    """The action's exit code, or that of the signal that stopped it; `advice` then says how to go on."""
    try:
        return action()
    except KeyboardInterrupt:
        typer.echo(f"\nstopped. {advice.format(_shown(out))}", err=True)
        return INTERRUPTED
    except SystemExit:  # SIGTERM, which Ray's own code may turn into one without our number
        typer.echo(f"terminated. {advice.format(_shown(out))}", err=True)
        return TERMINATED


@app.command(
    options_metavar="[OPTIONS] --",
    epilog="**Examples**\n\n"
    "`extremal submit --address http://head:8265 -- --dataset voc --root /data --split 2007:test "
    "--network resnet50 --device cuda --actors 8 --out s3://bucket/voc`\n\n"
    "`extremal submit --working-dir . -- --config voc.toml --out s3://bucket/voc`\n\n"
    "`extremal submit --no-wait -- --config /shared/voc.toml --out /shared/runs/voc`\n\n"
    "The same command again resumes. Ctrl-C leaves the job running. With --working-dir only files ending in "
    ".py, .typed, .toml, .csv and .txt travel; `excludes: ['!*.json']` in the runtime env adds others.\n\n"
    "Exit codes: the job's (see `extremal run --help`), 1 stopped or lost, 2 not submitted.",
)
def submit(
    arguments: Annotated[
        list[str], typer.Argument(metavar="ARGUMENTS", help="What follows `extremal run`, with --out.")
    ],
    address: Annotated[
        str | None,
        typer.Option(
            help="Dashboard of the cluster. [default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, "
            "http://127.0.0.1:8265]"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Id of the job. [default: last part of --out]")] = None,
    working_dir: Annotated[
        Path | None, typer.Option(help="Folder of code to run from. [default: what the nodes have installed]")
    ] = None,
    runtime_env: Annotated[Path | None, typer.Option(help="YAML file with Ray's runtime_env.")] = None,
    wait: Annotated[
        bool, typer.Option("--follow/--no-wait", help="Print the job's log until it ends.")
    ] = True,
) -> None:
    """Send `extremal run` to a Ray cluster as a job; the same command again resumes it."""
    out = run_parameters(arguments)["out"]
    from extremal.jobs import submit as cluster

    try:
        if not out:
            raise cluster.SubmitError("Give --out: a URI (s3://bucket/run) or a path that all nodes share.")
        environment = cluster.read_runtime_env(runtime_env, working_dir)
        client = cluster.connect(address)
        job = cluster.submit(client, arguments, out, name, environment)
    except cluster.SubmitError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"submitted {job} to {client.get_address()}", err=True)
    if not wait:
        typer.echo(cluster.commands(client, job))
        return
    try:
        code, sentence = cluster.verdict(
            cluster.follow(client, job, lambda lines: typer.echo(lines, nl=False))
        )
    except cluster.SubmitError as error:
        code, sentence = 1, str(error)
    except KeyboardInterrupt:
        code, sentence = INTERRUPTED, f"\n{job} goes on without you.\n{cluster.commands(client, job)}"
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def run_parameters(arguments: list[str]) -> dict[str, Any]:
    """Parse arguments as `extremal run` does.

    Raises:
        the errors of the parser, which end a command with their usual message.
    """
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    with command.make_context("extremal run", list(arguments)) as context:
        return dict(context.params)


@app.command(
    epilog="**Examples**\n\n`extremal retry runs/voc`\n\n`extremal retry runs/voc --root /data/mended`\n\n"
    "Rows of pairs that succeed move from failures/ to the results; the others stay as they are."
)
def retry(
    uri: RunUri,
    root: MovedRoot = None,
    weights: MovedWeights = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The channel run of inversions, if it has moved. [default: as it was]"
        ),
    ] = None,
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = 1.0,
    device: Device = None,
) -> None:
    """Compute the failed pairs of a run again, and only those."""
    with _explained():
        from extremal.jobs.run import retry as retry_failed

        pool = _pool(actors, gpus_per_actor, device)
        console = _console(stderr=True)
        code = _stoppable(uri, lambda: retry_failed(uri, root, weights, pool, console, channels))
    raise typer.Exit(code)


@app.command(
    epilog="**Example**\n\n`extremal compact runs/channels`\n\n"
    "Writes compact/channel/part-00000.parquet and so on, which DuckDB and pandas read much faster than "
    "thousands of shards. The shards stay: they are the run."
)
def compact(uri: RunUri) -> None:
    """Copy the results of a complete run into few large Parquet files."""
    from extremal.storage import Run, RunError
    from extremal.storage.compact import compact as write_parts

    try:
        for path in write_parts(Run.open(uri)):
            typer.echo(path)
    except RunError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None


@app.command(
    epilog="**Examples**\n\n`extremal status runs/voc`\n\n`extremal status runs/voc --verify`\n\n"
    "Needs neither Ray nor torch. Exit codes: 0 complete, 1 shards missing or damaged, 2 no run."
)
def status(
    uri: RunUri,
    verify: Annotated[
        bool, typer.Option("--verify", help="Open every shard's footer and count its pairs.")
    ] = False,
) -> None:
    """What is committed, failed and missing in a run, its pace and slowest shards, from its files alone."""
    from extremal.jobs.status import show_status
    from extremal.storage import RunError

    try:
        complete = show_status(uri, verify, _console())
    except RunError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    raise typer.Exit(0 if complete else 1)


Tolerance = Annotated[float, typer.Option(help="A hit is nearer than this to the object, pixels; 0: inside.")]
RegionName = Annotated[
    str, typer.Option("--region", help="mask: COCO's masks and VOC's boxes; box: boxes in either.")
]
PointName = Annotated[
    str, typer.Option("--point", help="Maximum of the map, blurred as its method asks (smooth) or plain.")
]


def _rule(tolerance: float, region: str, point: str) -> Any:
    from extremal.pipeline.aggregates.pointing import Rule

    try:
        return Rule(tolerance, region, point)  # type: ignore[arg-type]  # it checks them
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None


@app.command(
    epilog="**Examples**\n\n`extremal score runs/voc`\n\n`extremal score runs/voc --tolerance 0`\n\n"
    "`extremal score runs/coco --region box`\n\n`extremal score runs/coco --point plain`\n\n"
    "Writes scores/pointing.csv, pointing_summary.csv and differences.csv into the run, and by its method "
    "monotonicity.csv, curves.csv or fidelity.csv. `docs/scoring.md` says what each number means."
)
def score(
    uri: RunUri, tolerance: Tolerance = 15.0, region: RegionName = "mask", point: PointName = "smooth"
) -> None:
    """Scores of a run from its files: pointing game with intervals, and what its method adds."""
    with _explained():
        from extremal.jobs.score import show_scores

        show_scores(uri, _rule(tolerance, region, point), _console())


@app.command(
    epilog="**Examples**\n\n`extremal table runs/voc-vgg16 runs/coco-vgg16`\n\n"
    "`extremal table runs/table1/* --intervals --format markdown --out table1.md`\n\n"
    "`extremal table runs/* --format csv --out table1.csv`\n\n"
    "A column is a dataset with a network. Runs of a column that differ in their seed alone are averaged; "
    "methods may come from several runs. Beside ours stands the published value where dataset and network "
    "are the paper's. `docs/scoring.md` says what the table does and does not prove."
)
def table(
    uris: Annotated[list[str], typer.Argument(metavar="RUN...", help="Directories or URIs of runs.")],
    intervals: Annotated[bool, typer.Option("--intervals", help="95 % bootstrap intervals.")] = False,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or csv.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File to write. [default: print]")] = None,
    tolerance: Tolerance = 15.0,
    region: RegionName = "mask",
    point: PointName = "smooth",
) -> None:
    """The paper's Table 1 from any number of runs: methods by dataset and network, All and Difficult."""
    with _explained():
        from extremal.jobs.tables.compare import show_table

        show_table(uris, _rule(tolerance, region, point), intervals, form, out)


@app.command(
    epilog="**Examples**\n\n`extremal benchmark benchmarks/table1.toml --out runs/table1`\n\n"
    "`extremal benchmark small.toml --out s3://bucket/small --device cuda --actors 8`\n\n"
    "The file has settings for all runs (keys as for `extremal run --config`), then a `[[run]]` for each, "
    "with its `name` and what differs. The same command again continues: complete runs are skipped.\n\n"
    "Exit codes: 0 all complete, 1 a run is not, 2 bad input, 130 interrupted, 143 terminated."
)
def benchmark(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Settings and runs.")],
    out: Annotated[str, typer.Option(help="Directory or URI; each run lies below it by its name.")],
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = 1.0,
    device: Device = None,
) -> None:
    """Every run of a file, one after the other, and their table at the end."""
    with _explained():
        from extremal.jobs.benchmark import read_benchmark, run_benchmark

        runs = read_benchmark(file, device)
        pool = _pool(actors, gpus_per_actor, device)
        code = _stoppable(out, lambda: run_benchmark(runs, out, pool, _console(stderr=True)))
    raise typer.Exit(code)


@app.command(
    epilog="**Example**\n\n`extremal classes runs/channels --top 10`\n\n"
    "Writes scores/classes.csv, and of two classes or more similarity.csv and similarity.png."
)
def classes(
    uri: RunUri,
    top: Annotated[int, typer.Option(min=1, help="Channels to list per class.")] = 5,
) -> None:
    """Per-class channel masks of a channel run: counts, a*, top and class-specific channels."""
    with _explained():
        from extremal.jobs.score import show_classes

        show_classes(uri, top, _console())


@app.command(
    epilog="**Examples**\n\n`extremal ablate runs/channels`\n\n"
    "`extremal ablate runs/channels --k 5 --draws 100 --device cuda`\n\n"
    "RUN is a channel run. A pair's channels are chosen without the pair. Writes scores/ablation.csv, and "
    "every pair's drops into ablation_pairs.parquet."
)
def ablate(
    uri: RunUri,
    k: Annotated[int, typer.Option("--k", min=1, help="Channels to set to zero.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Random sets of as many, for every pair.")] = 20,
    root: MovedRoot = None,
    weights: MovedWeights = None,
    device: Device = None,
) -> None:
    """Set each class's top channels to zero: does it lose more than others, and than by random channels?"""
    with _explained():
        from extremal.jobs.ablate import run_ablation

        run_ablation(uri, k, draws, root, weights, device, _console(), _console(stderr=True))


@app.command(
    epilog="**Example**\n\n`extremal sanity --config voc.toml --out sanity/voc --layers 1,2,4,8,16`\n\n"
    'The file is one of `extremal run` with methods to compare and their maps: `method = "extremal"`, '
    '`[spatial] game = "hybrid"`, `[saliency] maps = 28`. Writes sanity.csv, sanity.parquet and sanity.png. '
    "The same command again continues. Exit codes: as of `extremal run`."
)
def sanity(
    config: Annotated[Path, typer.Option(help="TOML file of a run that stores saliency maps.")],
    out: Annotated[str, typer.Option(help="Directory or URI: original/, seed-0/layers-01/ ... and results.")],
    layers: Annotated[
        str | None, typer.Option(help="How many layers, from the output, are random: 1,2,4. [default: each]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of random weights at each depth.")] = 3,
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = 1.0,
    device: Device = None,
) -> None:
    """Do maps change when the network's weights become random, layer after layer from the output?"""
    with _explained():
        from extremal.jobs.options import assemble, numbers
        from extremal.jobs.sanity import run_sanity

        depths = numbers(layers, int, "--layers")
        settings = assemble(config, None, {}, device)
        pool = _pool(actors, gpus_per_actor, device)
        code = _stoppable(out, lambda: run_sanity(settings, out, depths, seeds, pool, _console()))
    raise typer.Exit(code)


@app.command(
    epilog="**Examples**\n\n`extremal explain dog.jpg --network resnet50`\n\n"
    "`extremal explain dog.jpg --network squeezenet1_1 --target 207 --areas 0.05,0.1 --steps 200`\n\n"
    "`extremal explain dog.jpg --network googlenet --method channel --layer inception4d`"
)
def explain(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    config: Config = None,
    network: Network = None,
    weights: Weights = None,
    target: Annotated[int | None, typer.Option(help="Output to explain. [default: top-1]")] = None,
    method: Method = None,
    layer: Layer = None,
    areas: Areas = None,
    counts: Counts = None,
    game: Game = None,
    preset: PresetName = None,
    steps: Steps = None,
    resize: Resize = None,
    crop: Crop = None,
    seed: Seed = None,
    device: Device = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("explained"),
) -> None:
    """One image: masks as PNG overlays beside a plot of score against area."""
    flags: dict[str, Any] = {
        "dataset": {"name": "folder", "target": target},
        "network": {"name": network, "weights": weights, "resize": resize, "crop": crop},
        "method": method,
        "spatial": {"game": game},
        "channel": {"layer": layer},
        "seed": seed,
        "steps": steps,
    }
    with _explained():
        from extremal.jobs.explain import explain as explain_image
        from extremal.jobs.options import assemble, numbers
        from extremal.pipeline.datasets.pairs import storable
        from extremal.pipeline.errors import ConfigError

        flags["spatial"]["areas"] = numbers(areas, float, "--areas")
        flags["channel"]["counts"] = numbers(counts, int, "--counts")
        settings = assemble(config, preset, flags, device)
        try:
            files = explain_image(image, settings, out, device, _console(stderr=True))
        except OSError as error:
            raise ConfigError(f"Cannot write the pictures to {out}: {error}") from error
    for file in files:
        typer.echo(storable(str(file)))


@app.command(
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
def finetune(
    dataset: Annotated[str, typer.Option(help="voc, coco or shapes.")],
    root: Annotated[str, typer.Option(help="Folder or URI of the dataset.")],
    split: Annotated[str, typer.Option(help="To train on, for example 2007:trainval.")],
    test_split: Annotated[str, typer.Option(help="Held out, to measure on, for example 2007:test.")],
    network: Annotated[str, typer.Option(help="torchvision classifier, or module:function of your own.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File of the new weights.")],
    weights: Weights = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the new head alone.")] = False,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch: Annotated[int, typer.Option(help="Images of a step.")] = 32,
    lr: Annotated[float, typer.Option(help="Highest rate of the head; the rest learns with a tenth.")] = 0.01,
    resize: Resize = None,
    crop: Annotated[
        int, typer.Option(help="Central square to measure on, pixels; 0 = whole image, as in `run`.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    precision: Annotated[
        str | None, typer.Option(help="float32, bf16 or fp16. [default: bf16 on a GPU, else float32]")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 4,
    device: Device = None,
) -> None:
    """Train a network to tell the classes of VOC or COCO, several in an image, and measure its mAP."""
    with _explained():
        from extremal.jobs.finetune import finetune as train
        from extremal.pipeline.training.task import Task, configure, kept

        arguments = {"name": network, "weights": weights, "resize": resize, "crop": crop}
        settings = {"epochs": epochs, "batch": batch, "lr": lr, "freeze": freeze, "seed": seed}
        config = configure(settings, precision, device)
        task = Task(dataset, root, split, test_split, arguments, out, config, workers, device)
        try:
            train(task, _console(stderr=True))
        except KeyboardInterrupt:
            typer.echo(f"\nstopped. {kept(task)}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    following = {"dataset": dataset, "root": root, "split": test_split, "network": network, "weights": out}
    flags = " ".join(f"--{name} {_shown(str(value))}" for name, value in following.items())
    typer.echo(f"done: {_shown(str(out))}. Next: extremal run {flags}")


@app.command(
    epilog="**Examples**\n\n`extremal figure masks-of-areas runs/voc --pairs 3,17`\n\n"
    "`extremal figure compare-methods runs/voc runs/voc-methods --image 000001 --out compare.pdf`\n\n"
    "`extremal figure channels-of-classes runs/channels runs/pictures --classes 'goldfish,tabby' "
    "--root /data/imagenet`\n\n"
    "**Figures**\n\n"
    "- `masks-of-areas` images with their masks over areas (the paper's Figure 1); a spatial run\n"
    "- `compare-methods` masks at a* beside other methods' maps (2); a spatial run, saliency runs with maps\n"
    "- `score-curve` score against area, preserved and deleted (3); a spatial run\n"
    "- `area-growth` masks and their share of the full score as bars (5); a spatial run\n"
    "- `channel-curve` score against number of channels, with the saliency of eq. 11 (8); a channel run\n"
    "- `inversion-difference` inversions of all and of a* channels (9); an inversion run, a channel run\n"
    "- `channels-of-classes` mean masks, inversions, exciting images (10); a channel run, inversions of it\n"
    "- `inversions-of-classes` a contact sheet: channels and images by class; inversions, a channel run\n\n"
    "Several runs of one dataset are joined by image and class; pairs are those of the first. "
    "`from extremal.jobs.figures import masks_of_areas` and so on return matplotlib figures."
)
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which figure; all are listed below.")],
    uris: Annotated[list[str], typer.Argument(metavar="RUN...", help="Directories or URIs of runs.")],
    pairs: Annotated[
        str | None, typer.Option(help="Numbers of pairs in the first run: 3,17. [default: the first 4]")
    ] = None,
    image: Annotated[str | None, typer.Option(help="All pairs of this image, by its id.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Only these classes: cat,dog, or ids where a name has a comma.")
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the dataset, if it has moved. [default: as it was]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File, .png or .pdf. [default: NAME.png]")] = None,
) -> None:
    """A figure of the paper from stored results, as PNG or PDF: needs no GPU and no network."""
    with _explained():
        from extremal.jobs.figures.write import write_figure
        from extremal.jobs.options import numbers
        from extremal.pipeline.datasets.pairs import storable
        from extremal.pipeline.errors import ConfigError

        if pairs is not None and image is not None:
            raise ConfigError("Give --pairs or --image, not both.")
        chosen = numbers(pairs, int, "--pairs") if image is None else [image]
        named = None if classes is None else [name.strip() for name in classes.split(",")]
        typer.echo(storable(str(write_figure(name, uris, chosen, named, root, out))))


@app.command(epilog="**Example**\n\n`extremal demo --out /tmp/demo`")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, network, runs and pictures.")] = Path(
        "extremal-demo"
    ),
    pairs: Annotated[int, typer.Option(min=2, help="Pairs to explain.")] = 64,
    actors: Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: by CPUs]")] = None,
) -> None:
    """The whole way on synthetic shapes: draw, train, explain, score. A few minutes on two cores."""
    with _explained():
        from extremal.jobs.demo import run_demo

        try:
            code = run_demo(out, pairs, actors, _console())
        except KeyboardInterrupt:
            typer.echo("\nstopped. The same command continues.", err=True)
            code = INTERRUPTED
    raise typer.Exit(code)


Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Runs of one dataset; the first decides the pairs."),
]
ImagesRoot = Annotated[
    str | None, typer.Option("--root", help="Where the images lie now. [default: where they were]")
]


@app.command(
    epilog="**Examples**\n\n`extremal report runs/voc`\n\n"
    "`extremal report runs/voc runs/voc-methods runs/voc-channels --root /data --out report`\n\n"
    "`extremal report s3://bucket/voc --out s3://bucket/voc-report`\n\n"
    "Open index.html in a browser: the pages need no server and no network. Needs neither GPU nor network's "
    "weights; without the dataset they have no pictures.\n\n"
    "An earlier, larger report in the same --out leaves files: delete it first, or give another place.\n\n"
    "Exit codes: 0 written, 2 bad input, 130 interrupted, 143 terminated."
)
def report(
    uris: Runs,
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the pages. [default: report/ in the first run]")
    ] = None,
    root: ImagesRoot = None,
    tolerance: Tolerance = 15.0,
    region: RegionName = "mask",
    point: PointName = "smooth",
) -> None:
    """Pages of a run for a browser: scores, a gallery, every pair and class with its masks and curves."""
    with _explained():
        from extremal.jobs.report.make import make_report
        from extremal.pipeline.driving.signals import stoppable

        rule = _rule(tolerance, region, point)

        def write() -> int:
            with stoppable():
                make_report(uris, root, rule, out, _console())
            return 0

        code = _stoppable(out or uris[0], write, "The same command writes the pages again.")
    raise typer.Exit(code)


@app.command(
    epilog="**Examples**\n\n`extremal serve runs/voc`\n\n"
    "`extremal serve runs/voc runs/voc-methods --root /data --port 8001`\n\n"
    "The same pages as of `extremal report`, made when they are looked at; for this machine only. From "
    "another: `ssh -L 8000:localhost:8000 HOST`. Ctrl-C ends it. Exit codes: 0 ended, 2 bad input."
)
def serve(
    uris: Runs,
    root: ImagesRoot = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    tolerance: Tolerance = 15.0,
    region: RegionName = "mask",
    point: PointName = "smooth",
) -> None:
    """Pages of a run for a browser on this machine, made on demand: for runs too large to write out."""
    with _explained():
        from extremal.jobs.report.make import serve_report

        try:
            serve_report(uris, root, _rule(tolerance, region, point), port, _console())
        except KeyboardInterrupt:
            typer.echo("stopped.", err=True)
