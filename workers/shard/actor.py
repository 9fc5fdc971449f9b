"""The Ray shell around a worker: the only file of this package that knows Ray."""

import socket
from collections.abc import Iterator

import ray

from extremal.workers.shard.worker import Progress, Worker, WorkerSpec

# The actor is started with room for these: one shard computes, the other decodes or is written.
CONCURRENT_SHARDS = 2
CONCURRENCY = CONCURRENT_SHARDS + 1  # and there is always room for a question


@ray.remote(max_restarts=0, max_task_retries=0)
class ShardActor:
    """A worker in a process of its own. It is replaced, never restarted: a restart would lose its shard."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker = Worker(spec)

    def ready(self) -> str:
        """The device and the host, once the network is loaded."""
        return f"{self._worker.network.device} on {socket.gethostname()}"

    def pulse(self) -> dict[int, int]:
        """What was done so far of each shard in work: another number than before if it does not hang."""
        return self._worker.pulse()

    def run_shard(self, shard: int, retry: bool) -> Iterator[Progress]:
        """See `Worker.run_shard`; called with num_returns="streaming"."""
        yield from self._worker.run_shard(shard, retry)
