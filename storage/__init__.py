"""What lasts: the kinds of tables, the run directory, committing and reading shards.

Knows neither torch nor ray, so that results open on any machine; `Run` is imported when it is
first used, for the command line's help and the errors need no pyarrow.
"""

from typing import TYPE_CHECKING, Any

from extremal.storage.errors import ConfigMismatch, RunError
from extremal.storage.manifest import Manifest

if TYPE_CHECKING:
    from extremal.storage.run import Run

__all__ = ["ConfigMismatch", "Manifest", "Run", "RunError"]


def __getattr__(name: str) -> Any:
    if name != "Run":
        raise AttributeError(f"module 'extremal.storage' has no attribute {name!r}")
    from extremal.storage.run import Run

    return Run
