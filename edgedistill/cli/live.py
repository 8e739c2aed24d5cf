"""What a person sees while a build runs: on a terminal live bars with an ETA, elsewhere plain lines. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from edgedistill.base.progress import Event, Listener, Note, StageAdvanced, StageFinished, StageStarted
from edgedistill.base.units import format_seconds
from edgedistill.cli import render

# Slow on purpose: drawing takes processor time from the measurements that run meanwhile.
REFRESHES_PER_SECOND = 2
SECONDS_BETWEEN_PLAIN_LINES = 10.0


@contextmanager
def watching(*, verbose: bool) -> Iterator[Listener]:
    """A listener for the time of a build; `verbose` also shows the stages that were found finished."""
    console = render.errors()
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines(console, verbose)
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[steps]}", markup=False),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        refresh_per_second=REFRESHES_PER_SECOND,
    )
    with progress:
        yield LiveBars(progress, verbose)


class Steps:
    """Which stages are steps of another: those that begin while one is running that counts its steps."""

    def __init__(self) -> None:
        self._counting: set[str] = set()
        self._inside: set[str] = set()

    def begun(self, event: StageStarted) -> None:
        if self._counting - {event.stage}:
            self._inside.add(event.stage)
        if event.total is not None:
            self._counting.add(event.stage)

    def ended(self, stage: str) -> bool:
        """Whether it was a step."""
        was_inside = stage in self._inside
        self._counting.discard(stage)
        self._inside.discard(stage)
        return was_inside


class LiveBars:
    """A bar for each running stage; a finished one becomes a line above them, if no other counts it among its steps."""

    def __init__(self, progress: Progress, verbose: bool) -> None:
        self._progress = progress
        self._verbose = verbose
        self._bars: dict[str, TaskID] = {}
        self._steps = Steps()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._drop(event.stage)
                self._steps.begun(event)
                title = f"{event.stage} {event.subject}".rstrip()
                steps = f"0/{event.total}" if event.total else ""
                self._bars[event.stage] = self._progress.add_task(title, total=event.total, steps=steps, note="")
            case StageAdvanced() if event.stage in self._bars:
                bar = self._bars[event.stage]
                total = event.total or self._progress.tasks[self._progress.task_ids.index(bar)].total
                steps = f"{event.done}/{total:.0f}" if total else str(event.done)
                self._progress.update(bar, completed=event.done, total=total, steps=steps, note=event.note)
            case StageFinished():
                self._drop(event.stage)
                if not self._steps.ended(event.stage) or self._verbose:
                    print_finished(self._progress.console, event, self._verbose)
            case Note():
                print_note(self._progress.console, event)

    def _drop(self, stage: str) -> None:
        if (bar := self._bars.pop(stage, None)) is not None:
            self._progress.remove_task(bar)


class PlainLines:
    """A line when a long stage begins, at most one every ten seconds while it runs, one when it is done. What is done within
    a stage that counts its steps has no line of its own."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._running: dict[str, tuple[float, int | None]] = {}
        self._steps = Steps()
        self._last_line = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._running[event.stage] = (time.monotonic(), event.total)
                self._steps.begun(event)
                if event.total is not None:
                    self._print(f"{event.stage} {event.subject}".rstrip() + f": {event.total} steps")
            case StageAdvanced() if event.stage in self._running:
                self._advance(event)
            case StageFinished():
                self._running.pop(event.stage, None)
                if not self._steps.ended(event.stage) or self._verbose:
                    print_finished(self._console, event, self._verbose)
            case Note():
                print_note(self._console, event)

    def _advance(self, event: StageAdvanced) -> None:
        began, total = self._running[event.stage]
        total = event.total or total
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_PLAIN_LINES:
            return
        text = f"{event.stage}: {event.done}" + (f"/{total}" if total else "")
        if event.note:
            text += f", {event.note}"
        if total and event.done:
            left = (now - began) / event.done * (total - event.done)
            text += f", about {format_seconds(max(left, 0))} left"
        self._print(text)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        render.line(self._console, text)


def print_finished(console: Console, event: StageFinished, verbose: bool) -> None:
    """A line for a stage that was done; for one found finished only if `verbose`."""
    if event.reused and not verbose:
        return
    took = "reused" if event.reused else format_seconds(event.seconds)
    line = Text.assemble((event.stage, "bold"), f" {event.subject}".rstrip(), (f"  {took}", "dim"))
    console.print(line, soft_wrap=True)


def print_note(console: Console, event: Note) -> None:
    """A decision or a warning."""
    mark = ("warning: ", "bold yellow") if event.warning else ("", "")
    console.print(Text.assemble(mark, event.text), soft_wrap=True)
