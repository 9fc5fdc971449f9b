"""How near the pictures of inversions come to what they invert: mean cosines."""

import math
from typing import Any

import pyarrow as pa

from extremal.storage import Run, kinds

Row = dict[str, Any]

COSINES = pa.schema(
    [
        ("layer", pa.string()),
        ("objective", pa.string()),
        ("n", pa.int64()),
        ("cosine", pa.float64()),
        ("n_masked", pa.int64()),
        ("cosine_masked", pa.float64()),
        ("cosine_between", pa.float64()),
    ]
)
_MEANS = ("cosine", "cosine_masked", "cosine_between")


def mean_cosines(run: Run) -> pa.Table:
    """Rows of `COSINES`: how near the pictures come to what they invert, and to each other.

    Means over `n` pairs or channels; the masked over the `n_masked` of them that have a masked picture.

    Raises:
        RunError: a shard is damaged.
    """
    table = run.table(kinds.INVERSION, ["layer", "objective", *_MEANS])
    if not table.num_rows:
        return COSINES.empty_table()
    # One run has one layer and one objective.
    row: Row = {name: table[name][0].as_py() for name in ("layer", "objective")}
    for name in _MEANS:
        values = table[name].drop_null().to_pylist()
        # fsum, so that the order of the rows decides no bit.
        row[name] = math.fsum(values) / len(values) if values else None
    row |= {"n": table.num_rows, "n_masked": table.num_rows - table["cosine_masked"].null_count}
    return pa.Table.from_pylist([row], schema=COSINES)
