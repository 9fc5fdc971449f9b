"""Documents that name tests name tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_fault_is_a_test() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for row in rows:
        found = re.search(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert found, row
        file, name = found.groups()
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), row
