"""pydantic's errors in the words of someone who writes a TOML file: which key, what it must be, what to type instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator, RootModel, ValidationError
from pydantic_core import ErrorDetails

from edgedistill.base.errors import Problem

Location = tuple[str | int, ...]

_WORDS: Mapping[str, str] = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "finite_number": "finite",
    "tuple_type": "a list in brackets",
    "list_type": "a list in brackets",
    "dict_type": "a table in braces",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


_FORMER_KEYS: Mapping[str, str] = {
    "accuracy_margin": "quality_margin",
    "max_accuracy_loss": "max_quality_loss",
    "min_accuracy": "min_quality",
}
_FORMER_VALUES: Mapping[str, str] = {"accuracy": "quality"}


def explain_problems(
    model: type[BaseModel], error: ValidationError, content: object, path: Path, line_of: Callable[[Location], int]
) -> tuple[Problem, ...]:
    """A problem for each key that `error` found wrong in `content`, by the line on which it stands in `path`."""
    found = [(line_of(location), what, fix) for location, what, fix in faults(model, error, content)]
    return tuple(Problem(f"{path}:{line}", what, fix) for line, what, fix in sorted(found, key=lambda fault: fault[0]))


def faults(model: type[BaseModel], error: ValidationError, content: object) -> list[tuple[Location, str, str]]:
    """Each key that `error` found wrong in `content`, what is wrong with it, and the fix, empty where there is none to name.

    The branches of a union report apart (`workers` is no integer, `workers` is not 'auto'): they become one fault.
    """
    grouped: dict[Location, list[ErrorDetails]] = {}
    for found in error.errors(include_url=False):
        location, in_union = _real_location(found["loc"], content)
        if in_union:
            location = next((key for key in grouped if key == location[: len(key)]), location)
        grouped.setdefault(location, []).append(found)
    return [(location, *_explain(model, location, one)) for location in grouped for one in _apart(grouped[location])]


def first_fault(error: ValidationError) -> str:
    """The first thing that `error` found wrong, in a line of at most 300 characters, and how many more there are. For
    documents that a program wrote: those are not mended key by key."""
    first, *more = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(map(str, first["loc"]))
    told = first["msg"].removeprefix("Value error, ")
    text = " ".join(f"{where[:100]}: {told}".removeprefix(": ").split())[:280]
    return f"{text} (and {len(more)} more)" if more else text


def _real_location(location: Sequence[str | int], content: object) -> tuple[Location, bool]:
    """`location` without what pydantic puts in for validators and branches of a union, and whether there was any. The last
    part may be missing from the content (a key that must be added)."""
    kept: list[str | int] = []
    current: Any = content
    for position, part in enumerate(location):
        inside = (isinstance(current, dict) and part in current) or (
            isinstance(current, list) and isinstance(part, int) and part < len(current)
        )
        if inside:
            kept.append(part)
            current = current[part]
        elif position == len(location) - 1 and isinstance(current, dict) and isinstance(part, str):
            kept.append(part)
    return tuple(kept), len(kept) < len(location)


def _apart(found: Sequence[ErrorDetails]) -> list[Sequence[ErrorDetails]]:
    """A validator of several keys raises once, and tells in a line each what is wrong with them."""
    first = found[0]
    if first["type"] != "value_error":
        return [found]
    lines = first["msg"].removeprefix("Value error, ").splitlines()
    return [[first | {"msg": line}] for line in lines]


def _explain(model: type[BaseModel], location: Location, found: Sequence[ErrorDetails]) -> tuple[str, str]:
    """What is wrong with one key, and the fix."""
    name = _spelled(location)
    first = found[0]
    kind = first["type"]
    if kind == "extra_forbidden":
        known = sorted(_model_at(model, location[:-1]).model_fields)
        key = str(location[-1])
        near = [now] if (now := _FORMER_KEYS.get(key)) in known else difflib.get_close_matches(key, known, 1)
        return (
            f"unknown key {name}",
            f"did you mean {near[0]}?" if near else f"known here: {', '.join(known) or 'none'}",
        )
    if kind in ("too_long", "too_short"):
        context = first.get("ctx", {})
        bound = f"at most {context['max_length']}" if kind == "too_long" else f"at least {context['min_length']}"
        return f"{name} must hold {bound} items, not {context['actual_length']}", ""
    if kind == "missing" and isinstance(first["loc"][-1], int):
        return f"{name} must hold more items", f"{first['loc'][-1]} are too few"
    if kind == "missing":
        field = _model_at(model, location[:-1]).model_fields[str(location[-1])]
        # A model with a parser of its own in front of it (a budget) is written as one value.
        is_section = _model_of(field.annotation) and not any(isinstance(m, BeforeValidator) for m in field.metadata)
        return f"{name} is missing", f"add [{name}]" if is_section else f"add {location[-1]} = ..."
    if kind in ("model_type", "model_attributes_type"):
        section = f"[[{_spelled(location[:-1])}]]" if location and isinstance(location[-1], int) else f"[{name}]"
        return f"{name} is a section of its own", f"write {section}, its keys below"
    if kind in ("value_error", "assertion_error"):
        message, _, fix = first["msg"].removeprefix("Value error, ").partition("; ")
        return (f"{name}: {message}" if name else message), fix
    wanted = list(dict.fromkeys(_wanted(one) for one in found))
    given = first["input"]
    shown = f", not {_toml(given)}" if isinstance(given, str | int | float | bool) else ""
    return f"{name} must be {' or '.join(wanted)}{shown}", _nearest(given, found)


def _wanted(found: ErrorDetails) -> str:
    context = {key: f"{v:g}" if isinstance(v, float) else v for key, v in found.get("ctx", {}).items()}
    if "expected" in context:
        # `null` ships nothing: it exists for the loop's own tests.
        choices = [f'"{choice}"' for choice in _choices(found) if choice != "null"]
        return ", ".join(choices[:-1]) + " or " * (len(choices) > 1) + choices[-1]
    if found["type"] in _WORDS:
        return _WORDS[found["type"]].format(**context)
    return found["msg"].removeprefix("Input should be ")


def _choices(found: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", str(found.get("ctx", {}).get("expected", "")))


def _nearest(given: object, found: Sequence[ErrorDetails]) -> str:
    choices = [choice for one in found for choice in _choices(one)]
    if not isinstance(given, str):
        return ""
    near = [now] if (now := _FORMER_VALUES.get(given)) in choices else difflib.get_close_matches(given, choices, 1)
    return f'did you mean "{near[0]}"?' if near else ""


def _spelled(location: Location) -> str:
    """`("search", "rungs", 1)` as `search.rungs[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _toml(value: object) -> str:
    """A scalar as TOML writes it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The model inside an annotation such as `FitConfig | None`, if there is one."""
    options = (
        annotation,
        *get_args(annotation),
        *(inner for outer in get_args(annotation) for inner in get_args(outer)),
    )
    return next((t for t in options if isinstance(t, type) and issubclass(t, BaseModel)), None)


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    for part in location:
        name = "root" if issubclass(model, RootModel) else part  # a file whose sections have names of the user's
        if isinstance(name, str) and name in model.model_fields:
            model = _model_of(model.model_fields[name].annotation) or model
    return model
