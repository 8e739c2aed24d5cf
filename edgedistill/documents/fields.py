"""Types of the build file's fields: numbers within bounds, and quantities that are written as text with their unit."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from edgedistill.base.errors import InputError
from edgedistill.base.units import Color, parse_bytes, parse_color, parse_duration_ms, parse_fraction
from edgedistill.documents.specs import BudgetRequest


def _reworded(parse: Callable[[str], Any], example: str, lack: str = "has no unit") -> BeforeValidator:
    """A parser of text as a validator: its error text and fix become one message of the field. `lack` is what is wrong with
    a value that is no text."""

    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} {lack}; write it in quotes: {example}")
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(f"{error.message}; {error.fix}") from None

    return BeforeValidator(validate)


def parse_percent(text: str, *, all_of_it: bool = False) -> float:
    """`"1%"` to 0.01. Raises InputError for what is no percentage, and outside 0% to 100%; 100% itself is taken where
    `all_of_it` makes sense."""
    fraction = parse_fraction(text)
    if not (0 <= fraction < 1 or (all_of_it and fraction == 1)):
        raise InputError(f"{text!r} lies outside 0% to 100%", fix="write it like 1%")
    return fraction


def is_target_path(text: str) -> bool:
    """Whether a target is given by the path of its file, not by name."""
    return text.endswith(".toml") or "/" in text or os.sep in text


def read_in(folder: Path) -> dict[str, Path]:
    """The context to validate a document in that lies in `folder`: its relative paths are from there."""
    return {"folder": folder.absolute()}


def _located(path: Path, info: ValidationInfo) -> Path:
    """A relative path from the folder of the file that it stands in. What was validated before has no context, and is as it
    was."""
    if "\0" in str(path):
        raise ValueError("a path holds no null byte")
    # `os.path.expanduser` leaves the name of a user that there is not as it is, `Path.expanduser` raises RuntimeError.
    return path if info.context is None else info.context["folder"] / os.path.expanduser(path)  # noqa: PTH111


def _target(text: str, info: ValidationInfo) -> str:
    return str(_located(Path(text), info)) if is_target_path(text) else text


def rising_pair(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"{list(pair)} falls; write the lower end first: {sorted(pair)}")
    return pair


Percent = Annotated[float, _reworded(parse_percent, '"1%"')]
Certain = Annotated[float, _reworded(partial(parse_percent, all_of_it=True), '"90%"')]
Bytes = Annotated[int, _reworded(parse_bytes, '"2MiB"')]
BytesOrOff = Annotated[int, _reworded(lambda text: 0 if text == "off" else parse_bytes(text), '"8GB" or "off"')]
Background = Annotated[Color, _reworded(parse_color, '"white" or "#f0f0f0"', "is not a colour")]
DurationMs = Annotated[float, _reworded(parse_duration_ms, '"2s"')]
AskedBudget = Annotated[BudgetRequest, _reworded(BudgetRequest.parse, '"5ms" or "20%"')]
Share = Annotated[float, Field(gt=0, lt=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
TimmModel = Annotated[str, Field(pattern=r"^timm:\S+$")]
LocalPath = Annotated[Path, AfterValidator(_located)]
TargetName = Annotated[str, AfterValidator(_target)]
Area = Annotated[float, Field(gt=0, le=1)]
Level = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=10)]
