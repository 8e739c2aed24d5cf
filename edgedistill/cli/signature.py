"""One signature for commands that take the same options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Command = Callable[..., None]


def taking(shared: Command) -> Callable[[Command], Command]:
    """For a command: the parameters of `shared` stand in its signature, which is what typer reads, in the place of its
    `**options`, and arrive there. What a command takes beside them follows."""

    def decorated(command: Command) -> Command:
        own = _parameters(command)
        place = next(number for number, one in enumerate(own) if one.kind is one.VAR_KEYWORD)
        parameters = [*_parameters(shared), *own[:place], *own[place + 1 :]]
        named = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
        vars(command)["__signature__"] = inspect.Signature(named)
        command.__annotations__ = {one.name: one.annotation for one in named} | {"return": None}
        return command

    return decorated


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())
