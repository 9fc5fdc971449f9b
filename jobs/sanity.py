"""The sanity check as a job: runs of one configuration at every depth of the cascade, compared."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import pyarrow as pa
import pyarrow.csv
from rich.console import Console

from extremal.jobs.drawing import similarity_curves
from extremal.jobs.run import COMPLETE, INCOMPLETE
from extremal.jobs.several import Planned, run_all
from extremal.jobs.tables.printed import print_table
from extremal.pipeline.aggregates.blocks import blocks
from extremal.pipeline.aggregates.sanity import ORIGINAL, Depth, sanity_table
from extremal.pipeline.driving.driver import Pool
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import located_network
from extremal.storage import RunError
from extremal.storage.files import join, open_filesystem, parquet_bytes, printable, write_bytes
from extremal.workers.config import RunConfig
from extremal.workers.configured_network import configured_network
from extremal.workers.networks.randomize import weight_layers

SHOWN = ["method", "depth", "layer", "n", "constant", "missing", "mean", "q25", "q75", "abs_mean"]


def run_sanity(
    config: RunConfig, out: str, depths: Sequence[int] | None, seeds: int, pool: Pool, console: Console
) -> int:
    """Run the original network and each randomized one below `out`, compare them, write table and plot.

    Args:
        config: of a saliency run that stores its maps.
        depths: how many weight layers, from the output, are random; None = every number.
        seeds: 0 to seeds - 1 are drawn from.

    Returns:
        The exit code: 0 if every run is complete, 1 otherwise; nothing is compared if one is not there.

    Raises:
        ConfigError: a configuration without maps, a depth that the network does not have.
        the errors of `run_all`.
    """
    _check(config)
    layers = weight_layers(configured_network(located_network(config)))
    depths = _depths(depths, layers)
    runs = [Planned(ORIGINAL, config)]
    for seed in range(seeds):
        for depth in depths:
            network = replace(config.network, randomized=depth, randomize_seed=seed)
            name = f"seed-{seed}/layers-{depth:02d}"
            runs.append(Planned(name, replace(config, network=network)))
    console.print(f"{len(runs)} runs: the original, {len(depths)} depths x {seeds} seeds")
    there, incomplete = run_all(runs, out, pool, console)
    if len(there) < len(runs):
        return INCOMPLETE
    original, *others = there.values()
    cascade = [
        Depth(depth, layers[depth - 1], tuple(others[i :: len(depths)])) for i, depth in enumerate(depths)
    ]
    with blocks() as way:
        table = sanity_table(original, cascade, way)
    print_table(table, "Rank correlation of the maps with the original network's", SHOWN, console)
    for path in _write(out, table):
        console.print(f"wrote {path}", style="dim", soft_wrap=True)
    return INCOMPLETE if incomplete else COMPLETE


def _check(config: RunConfig) -> None:
    if not getattr(config.own, "maps", 0):  # no other study stores any
        raise ConfigError(
            "The sanity check compares stored maps: give methods to compare, such as "
            'method = "extremal", and under [saliency] maps = 28.'
        )
    if config.network.randomized:
        raise ConfigError("Leave network.randomized out: the sanity check sets it.")


def _depths(wanted: Sequence[int] | None, layers: Sequence[str]) -> list[int]:
    depths = sorted(set(wanted or range(1, len(layers) + 1)))
    if depths[0] < 1 or depths[-1] > len(layers):
        raise ConfigError(
            f"--layers takes numbers of layers from 1 to {len(layers)}, all weight layers of the network, "
            f"not {','.join(map(str, depths))}; the original is always there."
        )
    return depths


def _write(out: str, table: pa.Table) -> list[str]:
    """Write the table and its plot into `out`; returns their places.

    Raises:
        RunError: it cannot be written.
    """
    text = BytesIO()
    pyarrow.csv.write_csv(table, text)
    content = {
        "sanity.csv": text.getvalue(),
        "sanity.parquet": parquet_bytes(table),
        "sanity.png": similarity_curves(table.to_pylist()),
    }
    try:
        filesystem, root = open_filesystem(out)
        for name, data in content.items():
            write_bytes(filesystem, f"{root}/{name}", data)
    except OSError as error:
        raise RunError(f"Cannot write the results into {printable(out)}: {error}.") from error
    return [printable(join(out, name)) for name in content]
