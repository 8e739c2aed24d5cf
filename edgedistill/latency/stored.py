"""Reading the documents that models and profiles are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from edgedistill.errors import InputError
from edgedistill.specs import Frozen

D = TypeVar("D", bound=Frozen)


def read_document(kind: type[D], path: Path, what: str, fix: str) -> D:
    """The document of `kind` in a file of JSON. Raises InputError, naming the first thing that is wrong with it."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", fix="check the path") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is not {what}: {f'{place}: ' * bool(place)}{first['msg']}", fix=fix) from None
