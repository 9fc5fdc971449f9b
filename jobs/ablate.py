"""The ablation of a channel run: computed here on one device, printed, and written into the run."""

import pyarrow.compute as pc
from rich.console import Console

from extremal.jobs.tables.printed import print_table, warn_incomplete
from extremal.pipeline.ablate import AblationSettings, ablate_run
from extremal.pipeline.aggregates.ablation import CHOICES, DRAWN, SHOWN, Ablation, ablation_table
from extremal.pipeline.aggregates.blocks import blocks
from extremal.pipeline.datasets.open import unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import located_network
from extremal.pipeline.progress import ProgressReport
from extremal.pipeline.stored_config import stored_config
from extremal.storage import Run, RunError, kinds
from extremal.storage.folder import Folder, open_root
from extremal.storage.scores import write_scores
from extremal.workers.configured_network import configured_network
from extremal.workers.device import chosen_device
from extremal.workers.extremal.settings import ChannelConfig
from extremal.workers.networks.cut import split_network
from extremal.workers.shard.worker import check_weights

ERRORS = 3  # of the pairs that failed, shown


def run_ablation(
    uri: str,
    settings: AblationSettings,
    root: str | None,
    weights: str | None,
    device: str | None,
    console: Console,
    log: Console,
) -> None:
    """Set the k top channels of every class to zero, print what that does and write it into the run.

    Args:
        root, weights: where dataset and weights lie now; None = where they were.
        device: None = a GPU if there is one.
        log: for progress and warnings.

    Raises:
        RunError: no channel run, one without results, or it cannot be read or written.
        ConfigError, DeviceError, NetworkError, LayerError, PlaceError: with the fix.
    """
    run = Run.open(uri)
    _check(run)
    config = stored_config(run, root, weights)
    images = _images(config.dataset.root)
    network = configured_network(located_network(config))
    check_weights(network, run.manifest.model)
    # In float32 whatever the run's precision: the drops are small differences of large logits.
    network = network.to(chosen_device(device))
    split = split_network(network, config.settings(ChannelConfig).layer)
    k, draws = settings.k, settings.draws
    if k >= split.channels:
        raise ConfigError(
            f"--k {k}: layer {split.layer} has {split.channels} channels. Give a smaller number, so that "
            "random sets of as many can be others."
        )
    warn_incomplete(run, log)
    total = run.table(run.kind, ["pair"]).num_rows
    with blocks() as way, ProgressReport(total, 0, log) as progress:
        ablation = ablate_run(run, network, split, images, settings, progress, way)
    table = ablation_table(ablation, k, draws)
    for choice in CHOICES:
        rows = table.filter(pc.equal(table["choice"], choice))
        title = f"Drop of the logit without a class's {k} {choice} channels of {split.layer}"
        print_table(rows, title, [name for name in SHOWN if name != "choice"], console)
    console.print(f"matched: {draws} random sets of channels of the same energy", style="dim")
    _say_left_out(ablation, total, console)
    if not ablation.pairs.num_rows:
        raise RunError(f"No pair of {run.place()} could be ablated; nothing was written.")
    for name, written, hidden in (("ablation", table, ()), ("ablation_pairs", ablation.pairs, DRAWN)):
        console.print(f"wrote {write_scores(run, name, written, hidden)}", style="dim", soft_wrap=True)


def _check(run: Run) -> None:
    run.require(kinds.CHANNEL, "ablation needs a channel run")
    if not run.committed():
        raise RunError(f"{run.place()} has no results yet: run it first.")


def _images(root: str) -> Folder:
    folder = open_root(root)
    try:
        there = folder.is_dir()
    except OSError as error:
        raise unreachable(root, error) from error
    if not there:
        raise ConfigError(f"{folder.show()}: no such folder. Give --root, where the dataset lies now.")
    return folder


def _say_left_out(ablation: Ablation, total: int, console: Console) -> None:
    alone, classes, errors = ablation.alone.total(), len(ablation.alone), ablation.errors
    if alone:
        console.print(
            f"left out: {alone} of {total} pairs, of {classes} classes without another pair to choose the "
            "channels from"
        )
    if errors:
        console.print(f"left out: {len(errors)} of {total} pairs could not be computed, for example:")
        for line in errors[:ERRORS]:
            console.print(f"  {line}", soft_wrap=True)
