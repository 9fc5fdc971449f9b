"""How well scores order the images of a class: the area under the steps of precision over recall."""

import numpy as np
import numpy.typing as npt

from extremal.workers.training.batches import IGNORED, PRESENT


def average_precision(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float | None:
    """Area under the steps of the precision-recall curve of one class, not interpolated.

        AP = sum_t (R_t - R_{t-1}) P_t,   t over the distinct scores from the highest down

    where P_t and R_t are precision and recall of all images that score t or more: images of equal score
    count together, whatever their order.

    Args:
        scores: (N) finite. labels: (N) PRESENT, ABSENT or IGNORED; the ignored are left out.

    Returns:
        AP in [0, 1], None if no image has the class.

    Raises:
        ValueError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is infinite or not a number")
    scores, labels = scores[labels != IGNORED], labels[labels != IGNORED]
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order] == PRESENT)
    if not len(hits) or not hits[-1]:
        return None
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of each group of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
