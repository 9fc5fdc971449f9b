"""What lasts: the schemas of every table, the run directory, committing and reading shards.

Knows neither torch nor ray, so that results open on any machine.
"""

from extremal.storage.run import ConfigMismatch, Run, RunError
from extremal.storage.schema import Kind

__all__ = ["ConfigMismatch", "Kind", "Run", "RunError"]
