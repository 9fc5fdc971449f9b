"""Explaining one image, without Ray or a run: as its study draws it."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from extremal.jobs.drawing import displayed
from extremal.jobs.studies import STUDIES
from extremal.jobs.studies.explained import Explain, ExplainedImage
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import located_network
from extremal.workers import decode
from extremal.workers.config import RunConfig
from extremal.workers.configured_network import configured_network
from extremal.workers.device import chosen_device
from extremal.workers.errors import ImageError
from extremal.workers.networks.network import Network


def explain(path: Path, config: RunConfig, out: Path, device: str | None, console: Console) -> list[Path]:
    """Write the pictures of one image into `out`.

    Returns:
        The files written.

    Raises:
        ImageError, NetworkError, LayerError, ConfigError, DeviceError: with the fix.
        OSError: `out` cannot be written.
    """
    make = STUDIES[config.method].explain
    if make is None:
        there = " or ".join(name for name, view in STUDIES.items() if view.explain)
        raise ConfigError(f"explain draws the masks of --method {there}; others need a run.")
    network = replace(configured_network(located_network(config)), precision=config.precision)
    network = network.to(chosen_device(device))
    image = decode(path)
    try:
        x = network.preprocess(image)[None].to(network.device)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    target = _target(network, x, config.dataset.target)
    name = network.classes[target] if network.classes else f"output {target}"
    out.mkdir(parents=True, exist_ok=True)
    picture = displayed(x[0], network.preprocess)
    targets = torch.tensor([target], device=network.device)
    module, function = make.split(":")
    draw: Explain = getattr(import_module(module), function)
    return draw(ExplainedImage(network, x, targets, name, picture, out / path.stem), config, console)


def _target(network: Network, x: Tensor, wanted: int | None) -> int:
    with torch.no_grad():
        logits = network.original(x.clone())[0]  # a network may work in place on its input
    if wanted is None:
        return int(logits.argmax())
    if not 0 <= wanted < len(logits):
        raise ConfigError(f"--target {wanted}: {network.name} has outputs 0 to {len(logits) - 1}.")
    return wanted
