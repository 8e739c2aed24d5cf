"""What a running build prints on stderr."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.progress import Progress

from edgedistill.base.progress import Listener, Note, StageAdvanced, StageFinished, StageStarted
from edgedistill.cli import live
from edgedistill.cli.live import LiveBars, PlainLines


def watcher(kind: type[LiveBars] | type[PlainLines], console: Console, *, verbose: bool = False) -> Listener:
    """A listener that prints on `console`."""
    return PlainLines(console, verbose) if kind is PlainLines else LiveBars(Progress(console=console), verbose)


def told(kind: type[LiveBars] | type[PlainLines], *, verbose: bool) -> str:
    """What is printed of a proof of two sessions and of a file made after it."""
    console = Console(file=io.StringIO(), width=100)
    listener = watcher(kind, console, verbose=verbose)
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


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_a_wait_that_comes_again_is_told_once(kind: type[LiveBars] | type[PlainLines]) -> None:
    console = Console(file=io.StringIO(), width=100)
    listener = watcher(kind, console)
    for process in (7, 7, 8):
        listener(Note(f"waiting for another measurement (process {process})", once="another measurement"))
    listener(Note("waiting for a training", once="a training"))
    listener(Note("a worker died", warning=True))
    listener(Note("a worker died", warning=True))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "waiting for another measurement (process 7)",
        "waiting for a training",
        "warning: a worker died",
        "warning: a worker died",
    ]


class Clocked:
    """A listener of each kind, and what it says of the time left, by a clock that stands still unless it is set."""

    def __init__(self, kind: type[LiveBars] | type[PlainLines], monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(live.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(live, "SECONDS_BETWEEN_PLAIN_LINES", 0.0)
        self.console = Console(file=io.StringIO(), width=100)
        self.progress = Progress(console=self.console)
        self.listener: Listener = (
            PlainLines(self.console, False) if kind is PlainLines else LiveBars(self.progress, False)
        )

    def at(self, now: float, *events: StageStarted | StageAdvanced | StageFinished) -> str:
        """What is said at that time, after these events: `47 min 0 s`, or nothing."""
        self.now = now
        for event in events:
            self.listener(event)
        if isinstance(self.listener, LiveBars):
            return str(self.progress.tasks[0].fields["left"]).removesuffix(" left")
        assert isinstance(self.console.file, io.StringIO)
        last = self.console.file.getvalue().rpartition("\n")[0].rpartition("\n")[2]
        return last.partition("about ")[2].removesuffix(" left")


def session(number: int, *, reused: bool = False) -> list[StageStarted | StageAdvanced | StageFinished]:
    """A session of a proof."""
    began = [] if reused else [StageStarted("profile", "a session")]
    return [*began, StageFinished("profile", "a session", 20.0, reused=reused), StageAdvanced("prove", number)]


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_steps_that_were_reused_say_nothing_of_the_time_left(
    kind: type[LiveBars] | type[PlainLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked = Clocked(kind, monkeypatch)
    clocked.at(0, StageStarted("prove", "a student", 160))
    for number in range(1, 19):
        assert clocked.at(1, *session(number, reused=True)) == ""
    assert clocked.at(21, *session(19)) == "47 min 0 s", "141 sessions of 20 s, and not of a nineteenth of 21 s"
    assert clocked.at(61, *session(20)) == "1 h 10 min", "of 30 s"
    assert clocked.at(61, *session(21, reused=True)) == ""
    assert clocked.at(91, *session(22)) == "1 h 9 min"


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_the_first_step_says_how_long_the_others_take(
    kind: type[LiveBars] | type[PlainLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked = Clocked(kind, monkeypatch)
    clocked.at(0, StageStarted("prove", "a student", 20))
    assert clocked.at(15, *session(1)) == "4 min 45 s"
    assert clocked.at(30, *session(2)) == "4 min 30 s"


@pytest.mark.parametrize("kind", [LiveBars, PlainLines])
def test_a_training_that_goes_on_is_not_taken_for_a_fast_one(
    kind: type[LiveBars] | type[PlainLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked = Clocked(kind, monkeypatch)
    clocked.at(0, StageStarted("train", "a student"))
    assert clocked.at(20, StageAdvanced("train", 1000, 1200)) == ""
    assert clocked.at(40, StageAdvanced("train", 1050, 1200)) == "1 min 0 s"


def test_on_a_narrow_terminal_steps_and_times_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80, height=20, force_terminal=True, color_system=None)
    monkeypatch.setattr(live.render, "errors", lambda: console)
    with live.watching() as listener:
        listener(StageStarted("prove", "mobilenetv4 w0.35 d0.35 @8 int8", 52))
        for number in range(1, 45):
            listener(StageAdvanced("prove", number, 52, "0 over the budget"))
        listener(StageStarted("profile", "mobilenetv4 w0.35 d0.35 @8 onnx int8, session 45"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "44/52" in shown and "prove mobilenetv4" in shown and "s left" in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines())) <= 80
