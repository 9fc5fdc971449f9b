"""Cost of every saliency method per pair, in units of the bare network's forward + input gradient.

    python benchmarks/methods.py --network squeezenet1_1 --pairs 4

A method alone pays for its own passes; in a run of several methods those that share a forward pass cost
less, which the last line shows. RISE, extremal and channel are measured with a part of their masks and
iterations and scaled up, since their cost is proportional to them. All are measured in one process by
turns, at the same batch, with random weights; the table gives medians and the spread over the rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from measure import bare, chosen_device, command, markdown, seconds, write_json

from extremal.workers import ChannelConfig, Network, load_network, spatial_preset
from extremal.workers.saliency import METHODS, Batch, attribute
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.settings import Layers

AREAS = (0.025, 0.05, 0.1, 0.2)


def measure(network: Network, pairs: int, rounds: int, part: int) -> list[dict[str, Any]]:
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
    for action in (lambda: bare(network, images), *works.values()):
        action()
    for _ in range(rounds):
        for name, action in works.items():
            unit = seconds(lambda: bare(network, images), network.device)
            times[name].append(seconds(action, network.device) * factors.get(name, 1.0) / unit)
    return [
        {"method": name, "passes": median(t), "least": min(t), "most": max(t)} for name, t in times.items()
    ]


def main() -> None:
    parser = command(__doc__, rounds=3)
    parser.add_argument("--network", default="squeezenet1_1")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--part", type=int, default=100, help="RISE is measured with 1/PART of its masks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", help="a GPU if there is one, where it is not given")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load_network(options.network, "random").to(chosen_device(options.device))
    rows = measure(network, options.pairs, options.rounds, options.part)
    print(f"{options.network}, {options.pairs} pairs of {network.side} pixels, {options.rounds} rounds")
    table = [
        [row["method"], f"{row['passes']:.2f}", f"{row['least']:.2f} - {row['most']:.2f}"] for row in rows
    ]
    print(markdown(["method", "forward + input gradient", "spread"], table))
    write_json(options.json, {"options": vars(options), "rows": rows})


if __name__ == "__main__":
    main()
