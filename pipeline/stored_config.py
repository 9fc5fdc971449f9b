"""The configuration of a run that exists, from its run.json."""

from extremal.pipeline.config import build_config, merge
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.identity import run_tree
from extremal.storage import Run
from extremal.storage.files import HIDDEN
from extremal.workers.config import RunConfig
from extremal.workers.study_cards import STUDIES


def stored_config(run: Run, root: str | None, weights: str | None, channels: str | None = None) -> RunConfig:
    """The configuration of a run, from its run.json.

    Args:
        root, weights, channels: where dataset, weights and the channel run of inversions lie now; None =
            where they were.

    Raises:
        ConfigError: run.json holds no configuration of this version, or a place without its credentials.
        RunError: a later version, with other defaults, began the run.
    """
    manifest = run.manifest
    root, weights, channels = (
        root or manifest.dataset.root,
        weights or manifest.weights,
        channels or manifest.channels,
    )
    for flag, place in (("--root", root), ("--weights", weights), ("--channels", channels)):
        if place and HIDDEN in place:
            raise ConfigError(f"{place} was given with credentials, which no run stores: give {flag} again.")
    study = STUDIES[manifest.study]
    places = {
        "dataset": {"root": root},
        "network": {"weights": weights},
        study.name: dict.fromkeys(study.places, channels),
    }
    return build_config(merge(run_tree(manifest), places))
