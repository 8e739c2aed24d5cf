"""Consoles and the pieces that tables are made of. Results go to stdout; progress, warnings and errors to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edgedistill.base.errors import printable
from edgedistill.base.units import format_ms
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency
from edgedistill.documents.specs import Frozen, Percentile
from edgedistill.outputs.explain.shown import measured_in

# Wide enough that no table is cut where there is no terminal to fit.
PIPE_WIDTH = 200
PROSE_WIDTH = 32
"""A column of sentences is at least so wide before another is left out for it."""
_LEAST_WIDTH = 8


class _Console(Console):
    """Where the reader has gone (`| head`), the rest goes nowhere: the command's own outcome stays its exit code. Of what is
    printed only rich's own codes reach the terminal: names come out of foreign files."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _discard(self.file)


def results() -> Console:
    """Where results are printed."""
    return _console(stderr=False)


def errors() -> Console:
    """Where progress, notes and errors are printed."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def answer(result: Frozen, shown: Callable[..., None], *more: object, as_json: bool) -> None:
    """What a command found: as one JSON document, or as `shown` prints it, which takes a console, it, and `more`."""
    if as_json:
        write_json(result.model_dump_json())
    else:
        shown(results(), result, *more)


def write_json(document: str) -> None:
    """One JSON document on stdout, nothing else."""
    try:
        sys.stdout.write(document + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: IO[str]) -> None:
    """Send what `stream` still holds nowhere, so that the interpreter's last flush of it raises nothing."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def besides(checks: Iterable[str], not_run: str) -> list[str]:
    """The checks without those that only tell again why the file was not run."""
    return [check for check in checks if not (not_run and check.endswith(not_run))]


@dataclass(eq=False)
class Listing:
    """A table that knows what may give way on a narrow terminal (see `table`). `dense` is without lines."""

    columns: tuple[str, ...]
    title: str = ""
    right: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    dense: bool = False
    _rows: list[Sequence[RenderableType]] = field(default_factory=list)
    _sections: set[int] = field(default_factory=set)

    def add_row(self, *cells: RenderableType) -> None:
        """One more row, with a cell for each column."""
        self._rows.append(cells)

    def add_section(self) -> None:
        """A line between the last row and the next."""
        self._sections.add(len(self._rows))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = list(self.columns)
        for name in self.least:
            if self._needed(shown, console, options) <= options.max_width:
                break
            shown.remove(name)
        unbroken = [name for name in shown if name not in self.prose]
        if self._needed(shown, console, options) > options.max_width:
            unbroken = [name for name in shown if name in self.whole]
            rest = _LEAST_WIDTH * (len(shown) - len(unbroken))
            if self._needed(unbroken, console, options) + rest > options.max_width:
                unbroken = []
        yield self._table(shown, unbroken)

    def _needed(self, shown: Sequence[str], console: Console, options: ConsoleOptions) -> int:
        """The width at which every column but those of prose has its longest cell in one line."""
        table = self._table(shown, shown, prose_width=PROSE_WIDTH)
        return Measurement.get(console, options.update(max_width=10_000), table).maximum

    def _table(self, shown: Sequence[str], unbroken: Sequence[str], prose_width: int | None = None) -> Table:
        made = Table(
            box=None if self.dense else box.SIMPLE_HEAD,
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            pad_edge=False,
        )
        for name in shown:
            made.add_column(
                name,
                justify="right" if name in self.right else "left",
                overflow="fold",
                no_wrap=name in unbroken,
                max_width=prose_width if name in self.prose else None,
            )
        for number, cells in enumerate(self._rows, start=1):
            row = dict(zip(self.columns, cells, strict=True))
            made.add_row(*(row[name] for name in shown), end_section=number in self._sections)
        return made


def table(
    *columns: str,
    title: str = "",
    right: tuple[str, ...] = (),
    whole: tuple[str, ...] = (),
    prose: tuple[str, ...] = (),
    least: tuple[str, ...] = (),
    rows: Iterable[Sequence[RenderableType]] = (),
) -> Listing:
    """A table that begins with `rows`; the columns named in `right` are aligned to the right, as numbers are.

    Where the terminal is too narrow, cells of the columns in `prose` are broken, down to PROSE_WIDTH; then the columns in
    `least` are left out, the first one first. Where that does not do, all cells are broken but those of the columns in
    `whole`: names that one has to type."""
    made = Listing(columns, title, right, whole, prose, least)
    for row in rows:
        made.add_row(*row)
    return made


def latency_cells(latency: Latency) -> tuple[str, str, str]:
    """p50, p95 and p99 as shown: a measurement as it is; a prediction with its interval and marked as one, or as a guess
    where it is not calibrated; else unknown."""
    if isinstance(latency, MeasuredLatency):
        return format_ms(latency.p50_ms), format_ms(latency.p95_ms), format_ms(latency.p99_ms)
    if isinstance(latency, PredictedLatency):
        word = "predicted" if latency.calibrated else "guess:"
        estimate = f"{word} {format_ms(latency.low_ms)} to {format_ms(latency.high_ms)}"
        return tuple(estimate if latency.percentile is p else "unknown" for p in Percentile)  # type: ignore[return-value]
    return "unknown", "unknown", "unknown"


def sessions_cell(latency: Latency) -> str:
    """In how many sessions a latency was measured: figures of one are no figures of twenty."""
    return measured_in(latency) or "–"


def facts(console: Console, rows: Iterable[tuple[str, RenderableType]]) -> None:
    """Names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    console.print(grid)


def line(console: Console, *texts: str, style: str = "") -> None:
    """Each text as one line, unbroken whatever the width, so that a path in it can be copied."""
    for text in texts:
        console.print(Text(text, style=style), soft_wrap=True)
