"""Step time of the spatial optimization over the bare network's forward + input gradient.

    python benchmarks/step.py --network squeezenet1_1 --masks 6

Both are measured in one process by turns, at the same batch, dtype and device, with random weights (time
does not depend on them); the table gives medians, their spread, and the ratio.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from workers import Network, SpatialConfig, extremal_perturbation, load_network
from workers.config import Schedule

WARM_UP = 2


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bare_step(network: Network, x: torch.Tensor) -> None:
    x = x.detach().requires_grad_(True)
    torch.autograd.grad(network(x)[:, 0].sum(), x)


def measure(name: str, masks: int, side: int, rounds: int, device: torch.device) -> dict[str, object]:
    """Medians and spread over rounds; each round times both, so that drift hits both alike."""
    network = load_network(name, "random").to(device)
    images = torch.randn(1, 3, side, side, device=device)
    targets = torch.zeros(1, dtype=torch.long, device=device)
    areas = tuple((i + 1) / (masks + 1) for i in range(masks))
    batch = images.expand(masks, -1, -1, -1).contiguous()

    def engine(steps: int) -> float:
        config = SpatialConfig(areas=areas, schedule=Schedule(steps, 0.01, 0.9, 0.9, 300.0, "growing"))
        return seconds(lambda: extremal_perturbation(network, images, targets, config=config), device)

    for _ in range(WARM_UP):
        bare_step(network, batch)
        engine(2)
    bare, steps = [], []
    for _ in range(rounds):
        bare.append(seconds(lambda: bare_step(network, batch), device))
        # The difference of two runs leaves the pyramid and the final scores out of the step.
        short, long = engine(2), engine(6)
        steps.append((long - short) / 4)
    ratios = [s / b for s, b in zip(steps, bare, strict=True)]
    return {
        "network": name,
        "masks": masks,
        "side": side,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "bare_ms": round(1e3 * statistics.median(bare), 1),
        "step_ms": round(1e3 * statistics.median(steps), 1),
        "ratio": round(statistics.median(steps) / statistics.median(bare), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["squeezenet1_1", "bvlc_googlenet"])
    parser.add_argument("--masks", type=int, default=6, help="masks in the batch")
    parser.add_argument("--side", type=int, default=224, help="side of the square input, pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    print(f"{'network':20} {'bare ms':>9} {'step ms':>9} {'ratio':>6}  spread of the ratio")
    for name in arguments.network:
        row = measure(name, arguments.masks, arguments.side, arguments.rounds, device)
        rows.append(row)
        spread = f"{row['ratio_min']} - {row['ratio_max']}"
        print(f"{name:20} {row['bare_ms']:>9} {row['step_ms']:>9} {row['ratio']:>6}  {spread}")
    if arguments.json:
        with open(arguments.json, "w") as f:
            json.dump(rows, f, indent=2)


if __name__ == "__main__":
    main()
