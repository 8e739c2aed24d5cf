"""Consoles and the pieces that tables are made of. Results go to stdout; progress, warnings and errors to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edgedistill.base.errors import printable
from edgedistill.base.units import format_ms
from edgedistill.documents.artifacts import Latency, MeasuredLatency, PredictedLatency
from edgedistill.documents.specs import Frozen, Percentile
from edgedistill.outputs.explain.shown import measured_in

# Wide enough that no table is cut where there is no terminal to fit.
PIPE_WIDTH = 200


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


def table(
    *columns: str, title: str = "", right: tuple[str, ...] = (), rows: Iterable[Sequence[RenderableType]] = ()
) -> Table:
    """A table that begins with `rows`; the columns named in `right` are aligned to the right, as numbers are."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def latency_cells(latency: Latency) -> tuple[str, str, str]:
    """p50, p95 and p99 as shown: a measurement as it is, a prediction with its interval and marked as one, else unknown."""
    if isinstance(latency, MeasuredLatency):
        return format_ms(latency.p50_ms), format_ms(latency.p95_ms), format_ms(latency.p99_ms)
    if isinstance(latency, PredictedLatency):
        estimate = f"predicted {format_ms(latency.low_ms)} to {format_ms(latency.high_ms)}"
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
