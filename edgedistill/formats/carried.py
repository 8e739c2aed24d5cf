"""What every file carries in its format's own metadata: contract, labels, scheme and the build it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Contract, Frozen, Probabilities, QuantScheme

CONTRACT_KEY = "edgedistill.contract"
LABELS_KEY = "edgedistill.labels"
BUILD_KEY = "edgedistill.build"
SCHEME_KEY = "edgedistill.scheme"
PROBABILITIES_KEY = "edgedistill.probabilities"
D = TypeVar("D", bound=Frozen)
_AGAIN = "export the file again from its model"


def carried_entries(contract: Contract, scheme: QuantScheme, build_hash: str) -> dict[str, str]:
    """The entries, all text: how an app feeds the model and reads it, how it was quantised, and from which weights and
    options it was made (`build_hash`)."""
    return {
        CONTRACT_KEY: contract.model_dump_json(),
        LABELS_KEY: json.dumps(list(contract.labels), ensure_ascii=False),
        SCHEME_KEY: scheme.model_dump_json(),
        BUILD_KEY: build_hash,
    }


def labels_text(labels: Sequence[str]) -> str:
    """A label a line. A control character, which would break the line, is written as its escape (`\\n`); the contract has
    the exact text."""
    lines = ["".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in label) for label in labels]
    return "".join(f"{line}\n" for line in lines)


def carried_contract(entries: Mapping[str, str], path: Path) -> Contract | None:
    """The contract among a file's metadata, None where there is none: the file was made by something else. Raises
    InputError where it is broken."""
    return _read(Contract, "contract", entries.get(CONTRACT_KEY), path)


def carried_probabilities(entries: Mapping[str, str], path: Path) -> Probabilities | None:
    """How probabilities come of a file's logits, None where it does not say. Raises InputError where that is broken."""
    return _read(Probabilities, "temperature", entries.get(PROBABILITIES_KEY), path)


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
        raise InputError(message, fix=_AGAIN) from error
