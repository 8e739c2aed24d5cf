"""A checkpoint of another model: the headline last, and no page of keys before it."""

from __future__ import annotations

import json

import pytest

from edgedistill.base.errors import KeysDifferError, Problem
from edgedistill.cli.errors import show_error

Captured = pytest.CaptureFixture[str]


def differing(keys: int) -> KeysDifferError:
    problems = [Problem(f"layer{n}.weight", "missing in the checkpoint, [8, 8] in the model") for n in range(keys)]
    message = f"the checkpoint w.pt is not of this model: {keys} of {keys} keys differ"
    return KeysDifferError(message, problems=problems, fix="give the model that it was trained with")


@pytest.mark.parametrize(("keys", "listed", "rest"), [(3, 3, []), (8, 8, []), (9, 8, ["  and 1 more keys"])])
def test_at_most_eight_keys_are_listed_and_the_headline_is_last(
    keys: int, listed: int, rest: list[str], capsys: Captured
) -> None:
    show_error(differing(keys))
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "missing in the checkpoint" in line] == lines[:listed]
    assert lines[listed:-2] == rest
    assert lines[-2] == "fix: give the model that it was trained with"
    assert lines[-1] == f"error: the checkpoint w.pt is not of this model: {keys} of {keys} keys differ"


def test_the_document_has_every_key(capsys: Captured) -> None:
    show_error(differing(200), as_json=True)
    captured = capsys.readouterr()
    assert "  and 192 more keys" in captured.err.splitlines()
    assert len(json.loads(captured.out)["error"]["problems"]) == 200
