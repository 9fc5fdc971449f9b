"""The examples in the docstrings run."""

import doctest
from importlib import import_module

import pytest
import torch

MODULES = {"extremal.spatial": 1, "extremal.channel": 1, "saliency.gradients": 2}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    module = import_module(f"extremal.workers.{name}")
    documented = doctest.DocTestFinder().find(module, extraglobs={"torch": torch})
    tests = [test for test in documented if test.examples]
    assert len(tests) == MODULES[name]
    runner = doctest.DocTestRunner()
    for test in tests:
        assert runner.run(test).failed == 0, test.name
