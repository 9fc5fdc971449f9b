"""The kinds of tables. A study's is one file here, and one entry in KINDS.

Arrays are flattened row-major into Parquet lists with their shape in a column beside them (non-square
inputs give masks of different shapes in one run). Masks and parameters are float16: they are for means
and pictures. Whatever an argmax or a threshold decides is computed in float32 by the worker and stored
as a scalar.
"""

from extremal.storage.kinds.channel import CHANNEL
from extremal.storage.kinds.failures import FAILURES
from extremal.storage.kinds.inversion import INVERSION
from extremal.storage.kinds.kind import Kind, Sweep, Unit
from extremal.storage.kinds.points import POINTS
from extremal.storage.kinds.saliency import SALIENCY
from extremal.storage.kinds.spatial import SPATIAL
from extremal.storage.kinds.units import CHANNEL_OF_LAYER, PAIR, UNITS

# Of the results of each study, by its name.
KINDS = {kind.name: kind for kind in (SPATIAL, CHANNEL, SALIENCY, INVERSION)}

__all__ = [
    "CHANNEL",
    "CHANNEL_OF_LAYER",
    "FAILURES",
    "INVERSION",
    "KINDS",
    "PAIR",
    "POINTS",
    "SALIENCY",
    "SPATIAL",
    "UNITS",
    "Kind",
    "Sweep",
    "Unit",
]
