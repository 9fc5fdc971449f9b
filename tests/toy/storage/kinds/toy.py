"""How bright images are: a table of a study that only tests add."""

import pyarrow as pa

from extremal.storage.kinds.kind import Kind, field
from extremal.storage.kinds.points import POINTS

TOY = Kind(
    "toy",
    (
        field("brightness", pa.float32(), "mean of the network's input, times the gain"),
        field("seconds", pa.float32(), "wall time of the unit's batch over its units"),
    ),
    beside=(POINTS,),
)
