"""A section of docs/benchmarks: what was measured, the command that repeats it, a table with one figure a cell."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_WIDTH = 120


@dataclass(frozen=True)
class Section:
    """`columns` are headings; one that begins with `#` is of figures and set to the right."""

    title: str
    text: str
    command: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        """Markdown, with an empty line at the end."""
        told = textwrap.wrap(self.text, _WIDTH, break_long_words=False, break_on_hyphens=False)
        return [f"## {self.title}", "", *told, "", f"    {self.command}", "", *table(self.columns, self.rows), ""]


def table(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> list[str]:
    """The lines of a table."""
    head = " | ".join(column.removeprefix("#") for column in columns)
    rule = "|".join("--:" if column.startswith("#") else "---" for column in columns)
    return [f"| {head} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def result(name: str) -> Any:
    """What a script left in `benchmarks/results/NAME.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def duration(seconds: float) -> str:
    """`5 min 22 s`, or `59 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def label(student: dict[str, Any]) -> str:
    """`resnet w0.125 d0.5 @8` of a student's spec."""
    return f"{student['family']} w{student['width']:g} d{student['depth']:g} @{student['resolution']}"


def within(value: float | None, interval: list[float] | None) -> str:
    """`+0.71 (+0.52 to +0.84)`; a dash for nothing."""
    return "-" if value is None or interval is None else f"{value:+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f})"
