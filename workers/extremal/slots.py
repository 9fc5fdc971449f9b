"""How many problems fit the memory at once."""

import torch
from torch import Tensor

from extremal.workers.extremal.problems import Objective, Problem, Rows

CPU_SLOTS = 12
LARGEST_SLOTS = 512
# Trial batches by which memory is measured, and the share of what is free that may be used.
TRIALS = (2, 6)
MEMORY_SHARE = 0.8


def fitting_slots(objective: Objective, problem: Problem) -> int:
    """How many problems like this one fit the GPU's free memory at once, measured with trial evaluations.

    Rounded down to a power of two, so that a resumed run finds the same number though a little more or
    less memory is free, and at most LARGEST_SLOTS. On a CPU CPU_SLOTS: memory is not what limits there,
    and 24 were slower than 12.
    """
    start = objective.start(problem)
    if start.device.type != "cuda":
        return CPU_SLOTS
    peaks: list[int] = []
    for count in (1, *TRIALS):  # the first pays for workspaces and compilation once and for all
        try:
            peaks.append(_peak_memory(objective, start, (problem,) * count))
        except torch.OutOfMemoryError:
            break
    torch.cuda.empty_cache()
    if len(peaks) <= len(TRIALS):
        return 1
    free, _ = torch.cuda.mem_get_info(start.device)
    return slots_for(free, *peaks[1:])


def slots_for(free: int, few: int, more: int) -> int:
    """Problems that fit `free` bytes, from the bytes that few and more of them took (TRIALS)."""
    each = max(1, (more - few) // (TRIALS[1] - TRIALS[0]))
    fixed = max(0, few - TRIALS[0] * each)
    fitting = min(LARGEST_SLOTS, max(1, int((MEMORY_SHARE * free - fixed) / each)))
    return int(2 ** (fitting.bit_length() - 1))


def _peak_memory(objective: Objective, start: Tensor, problems: tuple[Problem, ...]) -> int:
    """Bytes that one evaluation of the problems takes beyond what is allocated before."""
    before = torch.cuda.memory_allocated(start.device)
    torch.cuda.reset_peak_memory_stats(start.device)
    params = start.expand(len(problems), *start.shape).clone().requires_grad_(True)
    rows = Rows.of(problems, [0] * len(problems), start.device)
    reward, penalty = objective.evaluate(params, rows)
    torch.autograd.grad((reward - penalty).sum(), params)
    return torch.cuda.max_memory_allocated(start.device) - before
