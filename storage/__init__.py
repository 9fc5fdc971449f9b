"""What lasts: the kinds of tables, the run directory, committing and reading shards.

Knows neither torch nor ray, so that results open on any machine.
"""

from extremal.storage.errors import ConfigMismatch, RunError
from extremal.storage.manifest import Manifest
from extremal.storage.run import Run

__all__ = ["ConfigMismatch", "Manifest", "Run", "RunError"]
