"""Where aggregation runs: on the cluster, if there is one, or here, without Ray."""

import os
from contextlib import AbstractContextManager, nullcontext

from extremal.pipeline.aggregates.over_shards import Blocks, in_one


def blocks() -> AbstractContextManager[Blocks]:
    """Blocks as tasks of the cluster of RAY_ADDRESS; all in this process if it is not set.

    Raises:
        DriverError: on entering, the cluster cannot be reached.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return nullcontext(in_one)
    # Ray and torch, which the driver knows, take seconds to import.
    from extremal.pipeline.aggregates.ray_tasks import on_cluster

    return on_cluster()
