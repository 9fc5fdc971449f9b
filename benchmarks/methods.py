"""Cost of every saliency method per pair, in units of the bare network's forward + input gradient.

    python benchmarks/methods.py --network squeezenet1_1 --pairs 4

A method alone pays for its own passes; in a run of several methods those that share a forward pass cost
less, which the last line shows. RISE, extremal and channel are measured with a part of their masks and
iterations and scaled up, since their cost is proportional to them. All are measured in one process by
turns, at the same batch, with random weights; the table gives medians and the spread over the rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from extremal.workers import ChannelConfig, Network, load_network, spatial_preset
from extremal.workers.saliency import METHODS, Batch, attribute
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.settings import Layers

AREAS = (0.025, 0.05, 0.1, 0.2)


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bare(network: Network, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    x = inputs.detach().clone().requires_grad_(True)
    torch.autograd.grad(network(x).gather(1, targets[:, None]).sum(), x)


def measure(network: Network, pairs: int, rounds: int, part: int) -> list[dict[str, object]]:
    side = network.side
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(pairs, 3, side, side, generator=draw).to(network.device)
    targets = torch.zeros(pairs, dtype=torch.long, device=network.device)
    layers = layers_of(network, Layers())
    config, spatial, channel = SaliencyConfig(), spatial_preset("fast"), ChannelConfig()
    few = replace(config, rise=replace(config.rise, masks=max(1, config.rise.masks // part)))
    steps = max(1, spatial.schedule.steps // 10)
    short = replace(spatial, areas=AREAS, schedule=replace(spatial.schedule, steps=steps))
    cut = replace(channel, layer=str(layers.cam), schedule=replace(channel.schedule, steps=steps))
    factors = {
        "rise": config.rise.masks / few.rise.masks,
        "extremal": spatial.schedule.steps / steps,
        "channel": channel.schedule.steps / steps,
    }

    def run(methods: Sequence[str]) -> Callable[[], object]:
        def once() -> object:
            batch = Batch(
                network=network,
                images=images,
                image=range(pairs),
                targets=targets,
                seeds=range(pairs),
                layers=layers,
                config=few,
                sections=(short, cut),
            )
            return attribute(batch, methods)

        return once

    sharing = [name for name, card in METHODS.items() if card.method.recorded]
    works = {name: run([name]) for name in METHODS} | {" + ".join(sharing): run(sharing)}
    times: dict[str, list[float]] = {name: [] for name in works}
    for action in (lambda: bare(network, images, targets), *works.values()):
        action()
    for _ in range(rounds):
        for name, action in works.items():
            unit = seconds(lambda: bare(network, images, targets), network.device)
            times[name].append(seconds(action, network.device) * factors.get(name, 1.0) / unit)
    return [
        {"method": name, "passes": statistics.median(t), "least": min(t), "most": max(t)}
        for name, t in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="squeezenet1_1")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", type=int, default=100, help="RISE is measured with 1/PART of its masks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default=None)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(options.network, "random").to(device)
    rows = measure(network, options.pairs, options.rounds, options.part)
    print(f"{options.network}, {options.pairs} pairs of {network.side} pixels, {options.rounds} rounds")
    print("| method | forward + input gradient | spread |\n|---|---|---|")
    for row in rows:
        print(f"| {row['method']} | {row['passes']:.2f} | {row['least']:.2f} - {row['most']:.2f} |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"options": vars(options), "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
