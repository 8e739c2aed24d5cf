"""The error of a data set with many problems: short on the screen, complete in a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Final

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.store import default_root, write_atomic

LIST_FILE: Final = "data-problems.txt"
_MOST: Final = 10
_MOST_NAMES: Final = 5


def data_error(message: str, problems: Sequence[Problem]) -> InputError:
    """An error with at most ten of the problems, and how many more there are. Of each kind (by its fix) one is shown before
    a second one of another. The cache folder then gets a file with all of them, which the error names."""
    if len(problems) <= _MOST:
        return InputError(message, problems=problems)
    earlier: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for place, problem in enumerate(problems):
        turns.append((earlier[problem.fix], place))
        earlier[problem.fix] += 1
    shown = [problems[place] for place in sorted(place for _, place in sorted(turns)[:_MOST])]
    more = Problem("", f"and {len(problems) - _MOST} more")
    return InputError(message, problems=[*shown, more], fix=_listed(problems))


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _listed(problems: Sequence[Problem]) -> str:
    file = default_root() / LIST_FILE
    try:
        write_atomic(file, os.fsencode("".join(f"{problem}\n" for problem in problems)))
    except OSError:  # the cache cannot be written: what is shown has to do
        return ""
    return f"{file} lists all {len(problems)}"
