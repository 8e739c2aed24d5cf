"""What can go wrong, and which exit code says so.

A user's mistake is an `EdgedistillError`: it carries the way out and is shown without a traceback. Anything
else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal acts on, but for the line's end."""


def printable(text: str) -> str:
    """`text` with a question mark for each of CONTROLS: names out of foreign files stand in messages and results."""
    return CONTROLS.sub("?", text)


def first_line(error: BaseException) -> str:
    """The first line that an error says something in, without CONTROLS, since it may quote a file; its type's name where it
    says nothing. A KeyError's text would be the key alone."""
    text = (
        f"what it refers to is missing: {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
    )
    return printable(next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__))


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    BAD_INPUT = 2
    BUDGET_NOT_MET = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (file, `file:line`, option), what, and what to type instead."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.fix})" if self.fix else text


class EdgedistillError(Exception):
    """An error with a way out. `problems` lists everything found wrong at once, in the order found."""

    exit_code: ExitCode = ExitCode.BAD_INPUT

    def __init__(self, message: str, *, fix: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.message, *(f"  {problem}" for problem in self.problems)]
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)


class InputError(EdgedistillError):
    """The build file, the data, a checkpoint or an option is wrong."""


def wrong_options(problems: Sequence[Problem]) -> InputError:
    """The error of options that are wrong."""
    return InputError("a wrong option" if len(problems) == 1 else "wrong options", problems=problems)


class Collected:
    """Several checks of what a user gave, any of which may fail: `with collected:` goes on past an InputError, `raise_any`
    raises all that were met as one. What was met before, of another target for one, is not told twice."""

    def __init__(self) -> None:
        self._errors: list[InputError] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, InputError) and str(error) not in map(str, self._errors):
            self._errors.append(error)
        return isinstance(error, InputError)

    @property
    def errors(self) -> tuple[InputError, ...]:
        """Those that were met, in order."""
        return tuple(self._errors)

    def raise_any(self) -> None:
        """Raises InputError if any was met: that one as it is, of several all their problems."""
        if len(self._errors) == 1:
            raise self._errors[0]
        problems = [p for error in self._errors for p in error.problems or (Problem("", error.message, error.fix),)]
        if problems:
            raise InputError(f"{len(problems)} problems", problems=problems)


@contextmanager
def reworded(change: Callable[[str], str]) -> Iterator[None]:
    """What is raised within with a way out says what `change` makes of its words."""
    try:
        yield
    except EdgedistillError as error:
        error.message, error.fix = change(error.message), change(error.fix)
        error.problems = tuple(Problem(change(p.where), change(p.what), change(p.fix)) for p in error.problems)
        error.args = (error.message,)
        raise


class KeysDifferError(InputError):
    """A checkpoint is of another model. There is a problem for each key that differs, which may be hundreds."""


class NotFetchedError(InputError):
    """What lies elsewhere, a model's weights, cannot be fetched."""


class UnsupportedError(EdgedistillError):
    """A format, runtime or target cannot do what was asked; names the operation and the way out. `command` is what to run
    elsewhere instead (a device's own builder), where there is such a command."""

    def __init__(self, message: str, *, fix: str = "", problems: Sequence[Problem] = (), command: str = "") -> None:
        super().__init__(message, fix=fix, problems=problems)
        self.command = command


class MissingDependencyError(EdgedistillError):
    """An optional package is needed and not installed; `fix` is the command that installs it."""


class UnreachableError(EdgedistillError):
    """The device does not answer."""

    exit_code = ExitCode.UNREACHABLE


class TrialFailure(EdgedistillError):
    """A candidate failed for a reason that concerns it alone: recorded as a failed trial, the loop goes on."""
