"""Average precision against its definition."""

import numpy as np
import pytest
from toy_training import by_definition

from extremal.workers.training.average_precision import average_precision
from extremal.workers.training.batches import ABSENT, IGNORED, PRESENT


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_its_definition_with_ties_too(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for n in (1, 2, 7, 60):
        scores = rng.integers(0, levels, n) / levels - 0.3
        labels = rng.choice([PRESENT, ABSENT, ABSENT, IGNORED], n)
        labels[rng.integers(n)] = PRESENT
        value = average_precision(scores, labels)
        assert value == pytest.approx(by_definition(scores, labels), abs=1e-12)
        order = rng.permutation(n)
        assert average_precision(scores[order], labels[order]) == pytest.approx(value, abs=1e-12)


def test_average_precision_of_known_cases() -> None:
    labels = np.array([PRESENT, ABSENT, PRESENT, ABSENT])
    assert average_precision(np.array([4.0, 3, 2, 1]), labels) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), labels) == 0.5  # no order at all: the share of positives
    assert average_precision(np.zeros(2), np.array([ABSENT, IGNORED])) is None
    assert average_precision(np.zeros(0), np.zeros(0, dtype=int)) is None
    with pytest.raises(ValueError, match="not a number"):
        average_precision(np.array([np.nan, 1, 2, 3]), labels)
