"""The command that sends a run to a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer

from extremal.jobs.cli.compute import run
from extremal.jobs.cli.ending import INTERRUPTED, explained
from extremal.jobs.cli.options import add_command, command


@command(
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

    with explained():
        if not out:
            raise cluster.SubmitError("Give --out: a URI (s3://bucket/run) or a path that all nodes share.")
        environment = cluster.read_runtime_env(runtime_env, working_dir)
        client = cluster.connect(address)
        job = cluster.submit(client, arguments, out, name, environment)
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
    parser = typer.Typer(add_completion=False)
    add_command(parser, run)
    with typer.main.get_command(parser).make_context("extremal run", list(arguments)) as context:
        return dict(context.params)
