"""Tables of the report: cells under headings that sort them, which stand as cards where the screen is narrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgedistill.base.intervals import wilson_interval
from edgedistill.base.units import format_percent


@dataclass(frozen=True)
class Column:
    """A heading. Columns of a `number` are aligned to the right, `wide` ones hold sentences."""

    title: str
    number: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Cell:
    """Lines one below the other, those after the first small unless they are `even`. It is sorted by `key`; where that is
    None by its text, and after all others where it is empty."""

    lines: tuple[str, ...]
    key: float | str | None = None
    even: bool = False


@dataclass(frozen=True)
class Row:
    """A cell for each column; `ours` is that of the student that ships."""

    cells: tuple[Cell, ...]
    ours: bool = False


@dataclass(frozen=True)
class Table:
    """`name` is what a screen reader calls it, `head` the column whose cells name their rows. A `tall` one scrolls in its
    own box."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    head: int = 0
    sortable: bool = True
    tall: bool = False


def cell(*lines: str, key: float | str | None = None) -> Cell:
    """A cell of these lines."""
    return Cell(lines, key)


def unknown(text: str = "unknown") -> Cell:
    """A cell without a value, which is sorted after all that have one."""
    return Cell((text,), "")


def known(value: Any, form: Callable[[Any], str]) -> str:
    """A value as `form` writes it, or the word for a missing one."""
    return "unknown" if value is None else form(value)


def quality_cell(share: float | None, interval: tuple[float, float] | None) -> Cell:
    """A quality above its 95% interval."""
    if share is None or interval is None:
        return unknown()
    low, high = interval
    return Cell((format_percent(share, 2), f"{format_percent(low)} to {format_percent(high)}"), share)


def share_cell(share: float | None, images: int) -> Cell:
    """`quality_cell` of a share of so many images."""
    return quality_cell(share, None if share is None else wilson_interval(share, images))
