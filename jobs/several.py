"""Several runs in a row, as one job."""

from collections.abc import Sequence

import ray
from rich.console import Console

from jobs.run import COMPLETE, execute
from pipeline.config import RunConfig
from pipeline.driver import Pool, start_ray
from storage import Run


def execute_all(runs: Sequence[tuple[str, RunConfig]], pool: Pool, console: Console) -> tuple[list[Run], int]:
    """Create or continue runs, one after the other; Ray is started once for all of them.

    An incomplete run does not stop the others.

    Args:
        runs: place and configuration of each.

    Returns:
        The runs, and the exit code: 0 if all are complete, else the first other one.

    Raises:
        the errors of `execute`.
    """
    started_here = not ray.is_initialized()
    start_ray(pool, max((config.threads for _, config in runs), default=1))
    done: list[Run] = []
    worst = COMPLETE
    try:
        for i, (place, config) in enumerate(runs, 1):
            console.print(f"run {i} of {len(runs)}")
            run, code = execute(config, place, pool, console)
            done.append(run)
            worst = worst or code
    finally:
        if started_here:
            ray.shutdown()
    return done, worst
