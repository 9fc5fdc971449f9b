"""Commands on the results of runs."""

from pathlib import Path
from typing import Annotated

import typer

from extremal.jobs.cli.ending import console, explained
from extremal.jobs.cli.options import command
from extremal.jobs.cli.shared import Device, MovedRoot, MovedWeights, RuleOptions, RunUri, RunUris


@command(
    epilog="**Example**\n\n`extremal compact runs/channels`\n\n"
    "Writes compact/channel/part-00000.parquet and so on, which DuckDB and pandas read much faster than "
    "thousands of shards. The shards stay: they are the run."
)
def compact(uri: RunUri) -> None:
    """Copy the results of a complete run into few large Parquet files."""
    with explained():
        from extremal.storage import Run
        from extremal.storage.compact import compact as write_parts

        for path in write_parts(Run.open(uri)):
            typer.echo(path)


@command(
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
    with explained():
        from extremal.jobs.status import show_status

        complete = show_status(uri, verify, console())
    raise typer.Exit(0 if complete else 1)


@command(
    epilog="**Examples**\n\n`extremal score runs/voc`\n\n`extremal score runs/voc --tolerance 0`\n\n"
    "`extremal score runs/coco --region box`\n\n`extremal score runs/coco --point plain`\n\n"
    "Writes scores/pointing.csv, pointing_summary.csv and differences.csv into the run, and by its method "
    "monotonicity.csv, curves.csv or fidelity.csv. `docs/scoring.md` says what each number means."
)
def score(uri: RunUri, scoring: RuleOptions) -> None:
    """Scores of a run from its files: pointing game with intervals, and what its method adds."""
    with explained():
        from extremal.jobs.score import show_scores

        show_scores(uri, scoring.rule(), console())


@command(
    epilog="**Examples**\n\n`extremal table runs/voc-vgg16 runs/coco-vgg16`\n\n"
    "`extremal table runs/table1/* --intervals --format markdown --out table1.md`\n\n"
    "`extremal table runs/* --format csv --out table1.csv`\n\n"
    "A column is a dataset with a network. Runs of a column that differ in their seed alone are averaged; "
    "methods may come from several runs. Beside ours stands the published value where dataset and network "
    "are the paper's. `docs/scoring.md` says what the table does and does not prove."
)
def table(
    uris: RunUris,
    *,
    intervals: Annotated[bool, typer.Option("--intervals", help="95 % bootstrap intervals.")] = False,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or csv.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File to write. [default: print]")] = None,
    scoring: RuleOptions,
) -> None:
    """The paper's Table 1 from any number of runs: methods by dataset and network, All and Difficult."""
    with explained():
        from extremal.jobs.tables.compare import show_table

        show_table(uris, scoring.rule(), intervals, form, out)


@command(
    epilog="**Example**\n\n`extremal classes runs/channels --top 10`\n\n"
    "Writes scores/classes.csv, and of two classes or more similarity.csv and similarity.png."
)
def classes(
    uri: RunUri,
    top: Annotated[int, typer.Option(min=1, help="Channels to list per class.")] = 5,
) -> None:
    """Per-class channel masks of a channel run: counts, a*, top and class-specific channels."""
    with explained():
        from extremal.jobs.score import show_classes

        show_classes(uri, top, console())


@command(
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
    with explained():
        from extremal.jobs.ablate import run_ablation
        from extremal.pipeline.ablate import AblationSettings

        choice = AblationSettings(k, draws)
        run_ablation(uri, choice, root, weights, device, console(), console(stderr=True))
