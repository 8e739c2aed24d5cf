"""One signature for commands that take the same options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from edgedistill.cli.options import asked, progress_options

Command = Callable[..., None]


def taking(shared: Command) -> Callable[[Command], Command]:
    """For a command: the parameters of `shared` stand in its signature, which is what typer reads, in the place of its
    `**options`, and arrive there. What a command takes beside them follows."""

    def decorated(command: Command) -> Command:
        own = _parameters(command)
        place = next(number for number, one in enumerate(own) if one.kind is one.VAR_KEYWORD)
        return _signed(command, [*_parameters(shared), *own[:place], *own[place + 1 :]])

    return decorated


def showing_progress(command: Command) -> Command:
    """`command` with the parameters of `progress_options` behind its own. They arrive in `asked`, and not in the command."""

    @functools.wraps(command)
    def called(*, quiet: bool, verbose: bool, **arguments: Any) -> None:
        asked.quiet, asked.verbose = asked.quiet or quiet, asked.verbose or verbose
        command(**arguments)

    return _signed(called, [*_parameters(command), *_parameters(progress_options)])


def _signed(command: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """`command`, which states these parameters as its own, to be given by name."""
    named = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
    vars(command)["__signature__"] = inspect.Signature(named)
    command.__annotations__ = {one.name: one.annotation for one in named} | {"return": None}
    return command


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())
