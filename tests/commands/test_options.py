"""Options stand in one place: Python and the command line take the same ones."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import edgedistill
from edgedistill.cli.build import build, search
from edgedistill.cli.export import export
from edgedistill.cli.options import model_options, search_options
from edgedistill.cli.quantize import quantize
from edgedistill.commands.options import ModelOptions, SearchOptions

OWN = {"path", "target", "one_student", "model"}
"""Arguments that Python's functions have by name."""


def names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_command_line_has_the_options_of_the_functions() -> None:
    assert set(names(search_options)) - OWN == set(SearchOptions.__annotations__)
    assert set(names(model_options)) - {"model"} == set(ModelOptions.__annotations__)


def test_build_and_search_take_the_same() -> None:
    assert set(names(build)) - set(names(search)) == {"no_teacher"}
    assert set(names(search)) < set(names(build))
    assert names(build)[: len(names(search_options))] == names(search_options)
    for command in (export, quantize):
        assert names(command)[: len(names(model_options))] == names(model_options)


def test_an_option_that_there_is_not_is_refused_as_python_does() -> None:
    misspelt: dict[str, Any] = {"trails": 3}
    other: dict[str, Any] = {"lables": "x"}
    for function in (edgedistill.build, edgedistill.build_all, edgedistill.search, edgedistill.search_all):
        with pytest.raises(TypeError, match="unexpected keyword argument 'trails'; known: budget"):
            function("build.toml", **misspelt)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lables'"):
        edgedistill.export("timm:resnet18", out="out", **other)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lables'"):
        edgedistill.quantize("timm:resnet18", data="digits", **other)
