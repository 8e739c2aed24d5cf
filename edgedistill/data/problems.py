"""The error of a data set with many problems: short on the screen, complete in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.store import default_root, write_atomic

LIST_FILE: Final = "data-problems.txt"
_MOST: Final = 10
_MOST_NAMES: Final = 5


def data_error(message: str, problems: Sequence[Problem], fix: str = "") -> InputError:
    """An error with at most ten of the problems, kind by kind, and how many more there are of each. Of each kind (what it
    is, numbers aside, with its fix) one is shown before a second one of another. The cache folder then gets a file with all
    of them, which the error names, before the fix of them all."""
    if len(problems) <= _MOST:
        return InputError(message, problems=problems, fix=fix)
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((re.sub(r"\d+", "0", problem.what), problem.fix), []).append(problem)
    # The first of every kind, then the second of every one, and so on, as far as ten go.
    turns = sorted((turn, kind) for kind, alike in enumerate(kinds.values()) for turn in range(len(alike)))[:_MOST]
    shown: list[Problem] = []
    for kind, alike in enumerate(kinds.values()):
        if count := sum(one == kind for _, one in turns):
            shown += alike[:count]
            if more := len(alike) - count:
                shown.append(Problem("", f"and {more} more such"))
    if unseen := sum(len(alike) for alike in list(kinds.values())[_MOST:]):
        shown.append(Problem("", f"and {unseen} more of other kinds"))
    return InputError(message, problems=shown, fix="; ".join(part for part in (listed(problems), fix) if part))


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def listed(problems: Sequence[Problem]) -> str:
    """Writes all of them into a file of the cache folder, and says which; empty where the cache cannot be written."""
    file = default_root() / LIST_FILE
    try:
        write_atomic(file, os.fsencode("".join(f"{problem}\n" for problem in problems)))
    except OSError:  # what is shown has to do
        return ""
    return f"{file} lists all {len(problems)}"
