"""Cost of a feature inversion per picture, in units of the whole network's forward + input gradient.

    python benchmarks/inversion.py --network bvlc_googlenet --layer inception4d --pictures 2 --steps 10

An inversion goes through the network up to its layer only, forth and back, once a step; parameterization
and shaking come on top. Unit and inversion are measured in one process by turns, at the same batch, with
random weights; the cost of a step is the difference of two numbers of steps, so that start and end do not
count. The table gives medians and the spread over the rounds.
"""

import argparse
import json
from dataclasses import replace

import torch
from measure import bare, seconds, spread

from extremal.workers import load_network, split_network
from extremal.workers.inversion.invert import invert
from extremal.workers.inversion.settings import InversionConfig

FEW = 2


def measure(
    network: str, layer: str, pictures: int, steps: int, rounds: int, device: str
) -> dict[str, object]:
    net = load_network(network, "random", resize=224, crop=224).to(device)
    split = split_network(net, layer)
    images = torch.randn(pictures, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    targets = split.head(images).value.float()
    many = InversionConfig(steps=FEW + steps)

    def run(config: InversionConfig) -> float:
        return seconds(lambda: invert(net, split, targets, range(pictures), config=config), net.device)

    bare(net, images)
    still = replace(many, jitter=0, scale=0, rotation=0, parameterization="pixel")
    found: dict[str, list[float]] = {"defaults": [], "pixels, not shaken": []}
    for _ in range(rounds):
        for row, config in zip(found.values(), (many, still), strict=True):
            unit = seconds(lambda: bare(net, images), net.device)
            row.append((run(config) - run(replace(config, steps=FEW))) / steps / unit)
    return {
        "network": network, "layer": layer, "pictures": pictures, "device": device,
        "torch": torch.__version__,
        "passes_per_step": {name: spread(passes) for name, passes in found.items()},
        "passes_per_picture": InversionConfig().steps * spread(found["defaults"])["median"],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="bvlc_googlenet")
    parser.add_argument("--layer", default="inception4d")
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    print(json.dumps(measure(**vars(chosen)), indent=1))
