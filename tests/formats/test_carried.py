"""Metadata that is broken: cause and way out in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.carried import (
    CONTRACT_KEY,
    SCHEME_KEY,
    carried_contract,
    carried_entries,
    carried_scheme,
)

PATH = Path("model.onnx")
CONTRACT = Contract(resolution=16, mean=(0.0,) * 3, std=(1.0,) * 3, labels=("a", "b"))
SCHEME = QuantScheme(precision=Precision.FP16)
WHOLE = carried_entries(CONTRACT, SCHEME, "0" * 64)


def test_what_is_carried_comes_back() -> None:
    assert (carried_contract(WHOLE, PATH), carried_scheme(WHOLE, PATH)) == (CONTRACT, SCHEME)
    assert (carried_contract({}, PATH), carried_scheme({}, PATH)) == (None, None)


def changed(key: str, **values: object) -> str:
    return json.dumps(json.loads(WHOLE[key]) | values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", r"the contract in its metadata is broken: Invalid JSON: .* at line 1 column 1$"),
        ("{}", r"broken: resolution: Field required \(and 3 more\)$"),
        (changed(CONTRACT_KEY, resolution="many"), r"broken: resolution: Input should be a valid integer.*$"),
        (changed(CONTRACT_KEY, labels=["a", 3]), r"broken: labels\.1: Input should be a valid string$"),
        (changed(CONTRACT_KEY, **{"x\ny" * 1000: 1}), r"broken: x yx y.*: Extra inputs are not permitted$"),
    ],
)
def test_a_broken_contract_is_one_sentence_with_a_way_out(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        carried_contract({CONTRACT_KEY: text}, PATH)
    assert re.search(words, caught.value.message)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.fix == "export the file again from its model"


def test_a_broken_scheme_is_one_sentence_with_a_way_out() -> None:
    with pytest.raises(InputError, match=r"scheme in its metadata is broken: precision: Input should be") as caught:
        carried_scheme({SCHEME_KEY: changed(SCHEME_KEY, precision="int3")}, PATH)
    assert "\n" not in caught.value.message
    assert caught.value.fix
