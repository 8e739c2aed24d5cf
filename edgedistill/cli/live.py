"""What a person sees while a build runs: on a terminal live bars with an ETA, elsewhere plain lines. Always on stderr."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
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


class _Watching(ABC):
    """A line for each stage that is done and each note; subclasses show the stages that run. A stage that begins while
    another is running that counts its steps is one of these, and has no line of its own unless `verbose`; nor has one that
    was found finished."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._counting: set[str] = set()
        self._steps: set[str] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                if self._counting - {event.stage}:
                    self._steps.add(event.stage)
                if event.total is not None:
                    self._counting.add(event.stage)
                self._begin(event)
            case StageAdvanced():
                self._advance(event)
            case StageFinished():
                self._end(event.stage)
                quiet = event.reused or event.stage in self._steps
                self._counting.discard(event.stage)
                self._steps.discard(event.stage)
                if self._verbose or not quiet:
                    took = "reused" if event.reused else format_seconds(event.seconds)
                    parts = ((event.stage, "bold"), f" {event.subject}".rstrip(), (f"  {took}", "dim"))
                    self._console.print(Text.assemble(*parts), soft_wrap=True)
            case Note():
                mark = ("warning: ", "bold yellow") if event.warning else ("", "")
                self._console.print(Text.assemble(mark, event.text), soft_wrap=True)

    @abstractmethod
    def _begin(self, event: StageStarted) -> None: ...

    @abstractmethod
    def _advance(self, event: StageAdvanced) -> None:
        """Also called for stages that never began."""

    @abstractmethod
    def _end(self, stage: str) -> None: ...


class LiveBars(_Watching):
    """A bar for each running stage; a finished one becomes a line above them."""

    def __init__(self, progress: Progress, verbose: bool) -> None:
        super().__init__(progress.console, verbose)
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def _begin(self, event: StageStarted) -> None:
        self._end(event.stage)
        title = f"{event.stage} {event.subject}".rstrip()
        steps = f"0/{event.total}" if event.total else ""
        self._bars[event.stage] = self._progress.add_task(title, total=event.total, steps=steps, note="")

    def _advance(self, event: StageAdvanced) -> None:
        if (bar := self._bars.get(event.stage)) is not None:
            total = event.total or self._progress.tasks[self._progress.task_ids.index(bar)].total
            steps = f"{event.done}/{total:.0f}" if total else str(event.done)
            self._progress.update(bar, completed=event.done, total=total, steps=steps, note=event.note)

    def _end(self, stage: str) -> None:
        if (bar := self._bars.pop(stage, None)) is not None:
            self._progress.remove_task(bar)


class PlainLines(_Watching):
    """A line when a long stage begins, at most one every ten seconds while it runs, one when it is done."""

    def __init__(self, console: Console, verbose: bool) -> None:
        super().__init__(console, verbose)
        self._running: dict[str, tuple[float, int | None]] = {}
        self._last_line = time.monotonic()

    def _begin(self, event: StageStarted) -> None:
        self._running[event.stage] = (time.monotonic(), event.total)
        if event.total is not None:
            self._print(f"{event.stage} {event.subject}".rstrip() + f": {event.total} steps")

    def _advance(self, event: StageAdvanced) -> None:
        now = time.monotonic()
        if event.stage not in self._running or now - self._last_line < SECONDS_BETWEEN_PLAIN_LINES:
            return
        began, total = self._running[event.stage]
        total = event.total or total
        text = f"{event.stage}: {event.done}" + (f"/{total}" if total else "")
        if event.note:
            text += f", {event.note}"
        if total and event.done:
            left = (now - began) / event.done * (total - event.done)
            text += f", about {format_seconds(max(left, 0))} left"
        self._print(text)

    def _end(self, stage: str) -> None:
        self._running.pop(stage, None)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        render.line(self._console, text)
