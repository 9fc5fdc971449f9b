"""What a training's worker says of an error."""

from types import SimpleNamespace

import pytest

from extremal.pipeline.errors import DatasetError
from extremal.pipeline.training import loop
from extremal.pipeline.training.messages import Ended
from extremal.workers.errors import DeviceError, LayerError, TrainingError


def ended(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Exception | None:
    """What the worker says last when its training raises."""

    def fail(*_: object) -> None:
        raise error

    said: list[Ended] = []
    monkeypatch.setattr(loop, "train", fail)
    monkeypatch.setattr(loop.ray, "get", lambda reference: reference)
    loop.work({"assignment": None, "messages": SimpleNamespace(put=said.append)})
    return said[-1].error


@pytest.mark.parametrize("of", [DatasetError, DeviceError, LayerError, TrainingError, OSError])
def test_what_people_can_mend_arrives_as_it_was_raised(
    of: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = of("what is wrong")
    assert ended(error, monkeypatch) is error


def test_any_other_error_arrives_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ended(ValueError("a slip"), monkeypatch)
    assert isinstance(error, RuntimeError)
    assert "a slip" in str(error)
    assert "test_loop.py" in str(error)
