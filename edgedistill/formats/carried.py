"""What every file carries in its format's own metadata: contract, labels, scheme and the build it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Contract, Frozen, QuantScheme

CONTRACT_KEY = "edgedistill.contract"
LABELS_KEY = "edgedistill.labels"
BUILD_KEY = "edgedistill.build"
SCHEME_KEY = "edgedistill.scheme"
D = TypeVar("D", bound=Frozen)


def carried_entries(contract: Contract, scheme: QuantScheme, build_hash: str) -> dict[str, str]:
    """The entries, all text: how an app feeds the model and reads it, how it was quantised, and from which weights and
    options it was made (`build_hash`)."""
    return {
        CONTRACT_KEY: contract.model_dump_json(),
        LABELS_KEY: json.dumps(list(contract.labels), ensure_ascii=False),
        SCHEME_KEY: scheme.model_dump_json(),
        BUILD_KEY: build_hash,
    }


def carried_contract(entries: Mapping[str, str], path: Path) -> Contract | None:
    """The contract among a file's metadata, None where there is none: the file was made by something else. Raises
    InputError where it is broken."""
    return _read(Contract, "contract", entries.get(CONTRACT_KEY), path)


def carried_scheme(entries: Mapping[str, str], path: Path) -> QuantScheme | None:
    """The scheme among a file's metadata, None where there is none. Raises InputError where it is broken."""
    return _read(QuantScheme, "quantisation scheme", entries.get(SCHEME_KEY), path)


def _read(kind: type[D], what: str, text: str | None, path: Path) -> D | None:
    if text is None:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        message = f"{path}: the {what} in its metadata is broken: {first_fault(error)}"
        raise InputError(message, fix="export the file again from its model") from error
