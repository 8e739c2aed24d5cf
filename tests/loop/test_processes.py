"""A build whose teacher is fitted and whose students are trained by two processes each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed"),
]


def test_it_ships_what_two_processes_trained(loop: Any) -> None:
    edits = [*loop.few, ('recipe = "kd"\n', 'recipe = "kd"\nprocesses = 2\nworkers = 0\n')]
    path = loop.write("processes", "1000ms", *edits)
    built = loop.build(path, apart=True)
    assert built.result.status == "met", built.result.verdict
    trained = [stage for stage in loop.done(path) if stage.stage in ("teacher", "train")]
    assert {stage.stage for stage in trained} == {"teacher", "train"}
