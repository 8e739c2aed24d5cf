"""What a person sees while a command works: on a terminal live bars with an ETA, elsewhere plain lines. Always on stderr."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from edgedistill.base.progress import Event, Listener, Note, StageAdvanced, StageFinished, StageStarted, silent
from edgedistill.base.units import format_seconds
from edgedistill.cli import render
from edgedistill.cli.options import asked

# Slow on purpose: drawing takes processor time from the measurements that run meanwhile.
REFRESHES_PER_SECOND = 2
SECONDS_BETWEEN_PLAIN_LINES = 10.0
NARROW = 100
"""Columns of a terminal below which bars are short."""


@contextmanager
def watching() -> Iterator[Listener]:
    """A listener for the time of a command. `--quiet` makes it silent. `--verbose` also shows the stages that were found
    finished, and the steps of stages that count them."""
    if asked.quiet:
        yield silent
        return
    console = render.errors()
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines(console, asked.verbose)
        return
    progress = Progress(
        SpinnerColumn(),
        _Shortened("{task.description}", markup=False),
        BarColumn(bar_width=24 if console.width >= NARROW else 8),
        TextColumn("{task.fields[steps]}", markup=False),
        _Shortened("{task.fields[note]}", style="dim", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", style="cyan", markup=False),
        console=console,
        transient=True,
        refresh_per_second=REFRESHES_PER_SECOND,
    )
    with progress:
        yield LiveBars(progress, asked.verbose)


class _Shortened(TextColumn):
    """Text that gives way where the line is too long, so that steps and times stay whole."""

    def __init__(self, text: str, style: str = "none", *, markup: bool) -> None:
        # rich takes width from columns that may wrap first; the text itself is cut instead.
        super().__init__(text, style, markup=markup, table_column=Column(no_wrap=False))

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class _Paces:
    """How long the rest of each running stage will take, by its steps so far. Steps that were found finished take no time
    and do not count, nor do those before the first that is told of: a stage that was stopped goes on from there."""

    def __init__(self) -> None:
        # From when on a stage's steps count, and how many it had by then; -1 before the first is told of.
        self._since: dict[str, tuple[float, int]] = {}
        # Whether since the last step anything was found finished, and whether anything was done.
        self._reused = self._worked = False

    def begin(self, event: StageStarted, now: float) -> None:
        """A stage begins: one that counts its steps, or the work of such a step."""
        self._reused, self._worked = False, event.total is None
        self._since[event.stage] = now, -1

    def end(self, event: StageFinished) -> None:
        """A stage is done, or was found finished."""
        self._reused, self._worked = self._reused or event.reused, self._worked or not event.reused
        self._since.pop(event.stage, None)

    def seconds_left(self, event: StageAdvanced, total: int | None, now: float) -> float | None:
        """For the steps of `total` that are still to be done; None where that is not known."""
        reused, self._reused, self._worked = self._reused and not self._worked, False, False
        began, before = self._since.get(event.stage, (now, event.done))
        if before < 0:
            before = 0 if event.done == 1 else event.done
        if reused or before >= event.done:
            began, before = now, event.done
        self._since[event.stage] = began, before
        if total is None or before == event.done:
            return None
        return max((now - began) / (event.done - before) * (total - event.done), 0.0)


class _Watching(ABC):
    """A line for each stage that is done and each note; subclasses show the stages that run. A stage that begins while
    another is running that counts its steps is one of these, and has no line of its own unless `verbose`; nor has one that
    was found finished."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._counting: dict[str, int] = {}
        self._steps: set[str] = set()
        self._paces = _Paces()
        self._told: set[str] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                if self._counting.keys() - {event.stage}:
                    self._steps.add(event.stage)
                if event.total is not None:
                    self._counting[event.stage] = event.total
                self._paces.begin(event, time.monotonic())
                self._begin(event)
            case StageAdvanced():
                total = event.total or self._counting.get(event.stage)
                self._advance(event, total, self._paces.seconds_left(event, total, time.monotonic()))
            case StageFinished():
                self._paces.end(event)
                self._end(event.stage)
                quiet = event.reused or event.stage in self._steps
                self._counting.pop(event.stage, None)
                self._steps.discard(event.stage)
                if self._verbose or not quiet:
                    took = "reused" if event.reused else format_seconds(event.seconds)
                    parts = ((event.stage, "bold"), f" {event.subject}".rstrip(), (f"  {took}", "dim"))
                    self._console.print(Text.assemble(*parts), soft_wrap=True)
            case Note():
                if event.once in self._told:
                    return
                if event.once:
                    self._told.add(event.once)
                mark = ("warning: ", "bold yellow") if event.warning else ("", "")
                self._console.print(Text.assemble(mark, event.text), soft_wrap=True)

    @abstractmethod
    def _begin(self, event: StageStarted) -> None: ...

    @abstractmethod
    def _advance(self, event: StageAdvanced, total: int | None, seconds_left: float | None) -> None:
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
        self._bars[event.stage] = self._progress.add_task(title, total=event.total, steps=steps, note="", left="")

    def _advance(self, event: StageAdvanced, total: int | None, seconds_left: float | None) -> None:
        if (bar := self._bars.get(event.stage)) is not None:
            steps = f"{event.done}/{total}" if total else str(event.done)
            left = "" if seconds_left is None else f"{format_seconds(seconds_left)} left"
            self._progress.update(bar, completed=event.done, total=total, steps=steps, note=event.note, left=left)

    def _end(self, stage: str) -> None:
        if (bar := self._bars.pop(stage, None)) is not None:
            self._progress.remove_task(bar)


class PlainLines(_Watching):
    """A line when a long stage begins, at most one every ten seconds while it runs, one when it is done."""

    def __init__(self, console: Console, verbose: bool) -> None:
        super().__init__(console, verbose)
        self._running: set[str] = set()
        self._last_line = time.monotonic()

    def _begin(self, event: StageStarted) -> None:
        self._running.add(event.stage)
        if event.total is not None:
            self._print(f"{event.stage} {event.subject}".rstrip() + f": {event.total} steps")

    def _advance(self, event: StageAdvanced, total: int | None, seconds_left: float | None) -> None:
        now = time.monotonic()
        if event.stage not in self._running or now - self._last_line < SECONDS_BETWEEN_PLAIN_LINES:
            return
        text = f"{event.stage}: {event.done}" + (f"/{total}" if total else "")
        if event.note:
            text += f", {event.note}"
        if seconds_left is not None:
            text += f", about {format_seconds(seconds_left)} left"
        self._print(text)

    def _end(self, stage: str) -> None:
        self._running.discard(stage)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        render.line(self._console, text)
