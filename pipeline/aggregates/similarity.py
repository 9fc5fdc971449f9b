"""Which classes hang on the same channels: cosines of their mean channel masks, in clustered order.

Mean masks have much in common: channels that help every class, and the share of the channels that a* lets
through. Their plain cosines are all near 1. Hence the mean over classes is taken off first, as for the
class-specific channels (2.8):

    cosine(mbar_c - mbar, mbar_d - mbar),     mbar = mean over classes of mbar_c,

which is above 0 where two classes differ from the rest in the same direction. Of two classes alone it is
always -1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from extremal.pipeline.aggregates.class_channels import ClassKey

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OPTIMAL = 400  # classes up to which the order of the leaves is optimized: its time grows with their cube
CLOSEST = 10_000  # pairs of classes in the table
NOTHING = 1e-6  # of the length of the mean mask: less of a difference from it is rounding

CLOSEST_CLASSES = pa.schema(
    [
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("other_id", pa.int32()),
        ("other_name", pa.string()),
        ("centred_cosine", pa.float64()),
        ("raw_cosine", pa.float64()),
        ("n", pa.int64()),
        ("n_other", pa.int64()),
    ]
)

# Those that people are shown.
CLOSEST_COLUMNS = ("class_name", "other_name", "centred_cosine", "raw_cosine", "n", "n_other")


@dataclass(frozen=True)
class Similarity:
    """Of C classes.

    Attributes:
        classes: (C) their keys. pairs: (C) pairs in the mean mask of each.
        cosine: (C,C) of the mean masks less their mean; 0 for a class that does not differ from it.
        raw: (C,C) of the mean masks.
        order: (C) numbers of the classes, so that similar ones are near each other.
        left_out: classes without a mean mask.
    """

    classes: tuple[ClassKey, ...]
    pairs: Ints
    cosine: Floats
    raw: Floats
    order: Ints
    left_out: int


def similarity(classes: pa.Table) -> Similarity:
    """Similarity of all classes with a mean mask; a few seconds for 1000 classes.

    The order is that of the leaves of hierarchical clustering with average linkage of the distances
    1 - cosine; up to OPTIMAL classes, of the two ways to turn each branch those that bring similar leaves
    together.

    Args:
        classes: rows of `extremal.pipeline.aggregates.class_channels.CLASS_CHANNELS`.
    """
    known = classes.filter(classes["mean_mask"].is_valid())
    names = zip(known["class_id"].to_pylist(), known["class_name"].to_pylist(), strict=True)
    masks = np.array(known["mean_mask"].to_pylist() or np.zeros((0, 0)), np.float64)
    counts = known["n"].to_numpy() - known["n_no_a_star"].to_numpy()
    raw, cosine = _cosines(masks, 0.0), np.zeros((len(masks), len(masks)))
    if len(masks):
        mean = masks.mean(0)
        cosine = _cosines(masks - mean, NOTHING * float(np.linalg.norm(mean)))
    left_out = classes.num_rows - known.num_rows
    return Similarity(tuple(names), counts, cosine, raw, _order(cosine), left_out)


def _cosines(vectors: Floats, nothing: float) -> Floats:
    """(C,K) -> (C,C); 0 for vectors not longer than `nothing`."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > nothing)
    cosines: Floats = np.clip(unit @ unit.T, -1, 1)
    return cosines


def _order(cosine: Floats) -> Ints:
    if len(cosine) < 2:
        return np.arange(len(cosine))
    distance = 1 - cosine
    np.fill_diagonal(distance, 0)  # of rounding, and of classes without a direction
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=len(cosine) <= OPTIMAL)
    return np.asarray(leaves_list(tree), np.int64)


def closest_classes(found: Similarity) -> pa.Table:
    """Pairs of classes by cosine, the closest first, at most CLOSEST: rows of `CLOSEST_CLASSES`.

    `n` and `n_other` count the pairs in the two mean masks. Ties are in the order of the classes.
    """
    first, second = np.triu_indices(len(found.classes), 1)
    best = np.argsort(-found.cosine[first, second], kind="stable")[:CLOSEST]
    a, b = first[best], second[best]
    columns = {
        "class_id": [found.classes[i][0] for i in a],
        "class_name": [found.classes[i][1] for i in a],
        "other_id": [found.classes[i][0] for i in b],
        "other_name": [found.classes[i][1] for i in b],
        "centred_cosine": found.cosine[a, b],
        "raw_cosine": found.raw[a, b],
        "n": found.pairs[a],
        "n_other": found.pairs[b],
    }
    return pa.table(columns, schema=CLOSEST_CLASSES)
