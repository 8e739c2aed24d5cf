"""What a running build prints on stderr."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from edgedistill.base.progress import Listener, StageAdvanced, StageFinished, StageStarted
from edgedistill.cli.live import LiveBars, PlainLines


def told(kind: type[LiveBars] | type[PlainLines], *, verbose: bool) -> str:
    """What is printed of a proof of two sessions and of a file made after it."""
    console = Console(file=io.StringIO(), width=100)
    listener: Listener = (
        PlainLines(console, verbose) if kind is PlainLines else LiveBars(Progress(console=console), verbose)
    )
    listener(StageStarted("prove", "resnet", 2))
    for session in (1, 2):
        listener(StageStarted("profile", f"session {session}"))
        listener(StageFinished("profile", f"session {session}", 3.0, reused=False))
        listener(StageAdvanced("prove", session))
    listener(StageFinished("prove", "resnet", 7.0, reused=False))
    listener(StageStarted("export", "onnx"))
    listener(StageFinished("export", "onnx", 1.0, reused=False))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_the_steps_of_a_stage_have_no_lines_of_their_own(kind: type[LiveBars] | type[PlainLines]) -> None:
    text = told(kind, verbose=False)
    assert "profile" not in text
    assert "prove resnet  7.0 s" in text and "export onnx  1.0 s" in text


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_verbose_prints_every_step(kind: type[LiveBars] | type[PlainLines]) -> None:
    text = told(kind, verbose=True)
    assert "profile session 1  3.0 s" in text and "profile session 2  3.0 s" in text
