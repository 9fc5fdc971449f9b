"""Time of one optimization step over the bare network's forward + input gradient.

    python benchmarks/step.py --network squeezenet1_1 bvlc_googlenet resnet50 vgg16 --masks 6
    python benchmarks/step.py --method channel --network bvlc_googlenet --layer inception4d --masks 64

Both are measured in one process by turns, at the same batch, dtype, layout and device, with random weights
(time does not depend on them). The bare pass of the channel method is that of the network's tail. The table
gives medians, the spread of the ratio over the rounds, the memory of a mask, the TFLOP/s that the whole step
reaches, counting only the network's own (an H100 or H200 has 989 of bf16), and the pairs per hour that this
step allows with 4 areas under the presets fast and torchray (channel: 21 counts, 300 steps). Memory is, in
MB per mask, what the step keeps for its backward pass beyond the network's own; on a GPU its peak beyond
the bare pass's. On a GPU bf16 is the default, and --masks 128 or more fill it.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from measure import bare, chosen_device, command, seconds, write_json
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from extremal.workers import (
    ChannelConfig,
    Network,
    SpatialConfig,
    channel_attribution,
    extremal_perturbation,
    load_network,
    spatial_preset,
    split_network,
)
from extremal.workers.extremal.settings import Schedule

NETWORKS = ["squeezenet1_1", "bvlc_googlenet", "resnet50", "vgg16"]
WARM_UP = 2
AREAS, COUNTS = 4, 21

Step = Callable[[], object]


def kept_bytes(action: Step) -> int:
    """Bytes of the distinct tensors that are saved for backward passes while it runs."""
    sizes: dict[int, int] = {}
    held: list[Tensor] = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in sizes:
            held.append(tensor.detach())
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        action()
    return sum(sizes.values())


def step_bytes(bare: Step, engine: Step, device: torch.device) -> int:
    """What a step needs beyond the bare pass: peak on a GPU, kept for backward elsewhere."""
    if device.type != "cuda":
        return kept_bytes(engine) - kept_bytes(bare)
    peaks = []
    for action in (bare, engine):
        torch.cuda.reset_peak_memory_stats(device)
        action()
        peaks.append(torch.cuda.max_memory_allocated(device))
    return peaks[1] - peaks[0]


@dataclass(frozen=True)
class Work:
    """The bare network's part as a function of x (N,...), and what runs the optimization for some steps."""

    forward: Callable[[Tensor], Tensor]
    x: Tensor
    engine: Callable[[int], Step]

    def bare(self) -> None:
        bare(self.forward, self.x)

    def flops(self) -> int:
        """Of the forward pass and, about the same again, of the gradient of its input."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.forward(self.x)
        return 2 * counter.get_total_flops()


def spatial(network: Network, masks: int, side: int) -> Work:
    images = torch.randn(1, 3, side, side, device=network.device)
    batch = images.expand(masks, -1, -1, -1).contiguous()
    target = torch.zeros(1, dtype=torch.long, device=network.device)
    areas = tuple((i + 1) / (masks + 1) for i in range(masks))

    def engine(steps: int) -> Step:
        schedule = Schedule(steps, 0.05, 0.9, 0.0, 300.0, "geometric", final=5000.0, optimizer="adam")
        config = SpatialConfig(areas=areas, jitter="none", schedule=schedule)
        return lambda: extremal_perturbation(network, images, target, config=config, slots=masks)

    return Work(network, batch, engine)


def channel(network: Network, masks: int, side: int, layer: str) -> Work:
    """The bare part is the network's tail."""
    images = torch.randn(1, 3, side, side, device=network.device)
    split = split_network(network, layer)
    activation = split.head(images)
    index = torch.zeros(masks, dtype=torch.long, device=network.device)
    value = activation.value[index]
    target = torch.zeros(1, dtype=torch.long, device=network.device)
    counts = tuple(1 + i * (split.channels - 1) // max(1, masks - 1) for i in range(masks))

    def engine(steps: int) -> Step:
        schedule = replace(ChannelConfig().schedule, steps=steps)
        config = ChannelConfig(layer, counts, schedule=schedule)
        return lambda: channel_attribution(network, images, target, config=config, split=split, slots=masks)

    return Work(lambda x: split.tail(x, activation, index), value, engine)


def measure(bare: Step, engine: Callable[[int], Step], rounds: int, device: torch.device) -> dict[str, float]:
    """Medians and spread over rounds; each round times both, so that drift hits both alike."""
    # The difference of two runs leaves the pyramid or head and the final scores out of the step.
    short, long = 2, 6
    for _ in range(WARM_UP):
        bare()
        engine(short)()
    bares, steps = [], []
    for _ in range(rounds):
        first, few, many, last = (
            seconds(action, device) for action in (bare, engine(short), engine(long), bare)
        )
        bares.append((first + last) / 2)
        steps.append((many - few) / (long - short))
    ratios = [s / b for s, b in zip(steps, bares, strict=True)]
    return {
        "bare_ms": 1e3 * statistics.median(bares),
        "step_ms": 1e3 * statistics.median(steps),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def report(name: str, a: argparse.Namespace, device: torch.device) -> dict[str, object]:
    network = replace(load_network(name, "random"), precision=a.precision).to(device)
    if a.method == "spatial":
        work = spatial(network, a.masks, a.side)
    else:
        work = channel(network, a.masks, a.side, a.layer)
    times = measure(work.bare, work.engine, a.rounds, device)
    memory = step_bytes(work.bare, work.engine(2), device) / a.masks
    per_mask_h = times["step_ms"] / 1e3 / a.masks / 3600
    steps = {preset: spatial_preset(preset).schedule.steps for preset in ("fast", "torchray")}
    if a.method == "channel":
        steps = {"channel": ChannelConfig().schedule.steps}
    each = AREAS if a.method == "spatial" else COUNTS
    return {
        "network": name,
        "method": a.method,
        "masks": a.masks,
        "side": a.side,
        "device": str(device),
        "precision": a.precision,
        "threads": torch.get_num_threads(),
        **{key: round(value, 2) for key, value in times.items()},
        "mb_per_mask": round(memory / 1e6, 2),
        "tflops": round(work.flops() / times["step_ms"] / 1e9, 3),
        "pairs_per_hour": {preset: round(1 / (per_mask_h * each * n)) for preset, n in steps.items()},
    }


def main() -> None:
    parser = command(__doc__, rounds=7)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--network", nargs="+", default=NETWORKS)
    parser.add_argument("--method", choices=["spatial", "channel"], default="spatial")
    parser.add_argument("--layer", default="inception4d", help="of --method channel")
    parser.add_argument("--masks", type=int, default=6, help="masks in the batch")
    parser.add_argument("--side", type=int, default=224, help="side of the square input, pixels")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16" if on_gpu else "float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device(chosen_device())
    rows = []
    print(f"{arguments.masks} masks, {arguments.precision}, {device}, {torch.get_num_threads()} threads")
    titles = ("bare ms", "step ms", "ratio", "spread", "MB/mask", "TFLOP/s", "pairs/h")
    print("{:16} {:>8} {:>8} {:>6}  {:13} {:>7} {:>7}  {}".format("network", *titles))
    for name in arguments.network:
        row = report(name, arguments, device)
        rows.append(row)
        spread = f"{row['ratio_min']} - {row['ratio_max']}"
        print(
            f"{name:16} {row['bare_ms']:>8} {row['step_ms']:>8} {row['ratio']:>6}  {spread:13} "
            f"{row['mb_per_mask']:>7} {row['tflops']:>7}  {row['pairs_per_hour']}",
            flush=True,
        )
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
