"""Units that could not be computed."""

import pyarrow as pa

from extremal.storage.kinds.kind import Kind, field

FAILURES = Kind(
    "failures",
    (
        field("stage", pa.string(), "where it failed: decode, target, optimize"),
        field("error_type", pa.string(), "class of the error"),
        field("error", pa.string(), "message of the error"),
    ),
    result=False,
)
