"""`edgedistill recipes`: what is listed can be written into a build file as it is shown."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.recipes import RECIPES

Captured = pytest.CaptureFixture[str]


def test_all_are_listed_with_when_they_help(command: Any, capsys: Captured) -> None:
    assert command("recipes") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RECIPES)
    assert command("recipes", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["when"]) for one in listed] == [(r.name, r.when) for r in RECIPES.values()]


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_shown_is_a_build_files(name: str, command: Any, capsys: Captured) -> None:
    assert command("recipes", "show", name) == 0
    shown = capsys.readouterr().out
    toml = shown[shown.index("[train]") :]
    named, _, composed = toml.partition("# the same, to change it:")
    assert TrainConfig.model_validate(tomllib.loads(named)["train"]).composition == RECIPES[name].terms
    assert TrainConfig.model_validate(tomllib.loads(composed)["train"]).composition == RECIPES[name].terms


def test_an_unknown_one_gets_the_nearest(command: Any, capsys: Captured) -> None:
    assert command("recipes", "show", "dkdd") == 2
    assert "did you mean dkd?" in capsys.readouterr().err
    assert command("recipes", "show", "distill", "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["fix"].startswith("did you mean kd?")
