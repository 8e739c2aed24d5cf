"""What a running build tells its listener. The CLI draws these; the library needs no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageStarted:
    """A stage begins: `stage` is its name (`views`), `subject` what it works on, `total` its steps if known."""

    stage: str
    subject: str = ""
    total: int | None = None


@dataclass(frozen=True)
class StageAdvanced:
    """`done` of the stage's steps are finished; `note` is a short live figure (`loss 0.12`)."""

    stage: str
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True)
class StageFinished:
    """The stage is done in `seconds`, or `reused` from the cache, where it lies under `key`."""

    stage: str
    subject: str
    seconds: float
    reused: bool
    key: str = ""


@dataclass(frozen=True)
class Note:
    """A line for the person watching: a decision, a warning, a wait. With `once` it is one of several about the same thing,
    which `once` names: a listener for people tells the first of them."""

    text: str
    warning: bool = False
    once: str = field(default="", compare=False)


Event = StageStarted | StageAdvanced | StageFinished | Note
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that says nothing."""


@contextmanager
def telling(listener: Listener, stage: str, subject: str, total: int | None = None) -> Iterator[None]:
    """A context for a stage that is never found in a cache: `listener` hears when it begins and when it ends, also where it
    ends with an error."""
    began = time.monotonic()
    listener(StageStarted(stage, subject, total))
    try:
        yield
    finally:
        listener(StageFinished(stage, subject, time.monotonic() - began, reused=False))


@contextmanager
def loading(listener: Listener) -> Iterator[None]:
    """A context for imports that bring torch: the first time in a process they take seconds, and the stage `load` tells of
    them."""
    with nullcontext() if "torch" in sys.modules else telling(listener, "load", "torch"):
        yield
