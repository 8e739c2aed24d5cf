from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgedistill.base.errors import Problem
from edgedistill.base.store import default_root
from edgedistill.data.problems import LIST_FILE, data_error, some_of

MANY = [Problem(f"cat/{number}.png", "is empty (0 bytes)", "replace it") for number in range(40)]
STRAY = Problem("b.png", "has no label", "move it")


def test_few_problems_are_all_shown() -> None:
    error = data_error("3 problems", MANY[:10])
    assert error.problems == tuple(MANY[:10])
    assert error.fix == ""
    assert not (default_root() / LIST_FILE).exists()


def test_of_many_problems_each_kind_is_shown_and_all_are_in_a_file() -> None:
    error = data_error("41 problems", [*MANY, STRAY])
    assert error.problems == (*MANY[:9], STRAY, Problem("", "and 31 more"))
    file = default_root() / LIST_FILE
    assert error.fix == f"{file} lists all 41"
    assert file.read_text().splitlines() == [str(problem) for problem in (*MANY, STRAY)]
    assert len(str(error).splitlines()) == 13


def test_a_name_that_is_no_text_is_listed_as_it_is() -> None:
    data_error("many", [*MANY, Problem(os.fsdecode(b"\xff.png"), "is empty", "replace it")])
    assert b"\xff.png: is empty" in (default_root() / LIST_FILE).read_bytes()


def test_without_a_cache_the_rest_is_counted_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    error = data_error("many", MANY)
    assert error.fix == ""
    assert error.problems[-1].what == "and 30 more"


def test_names_are_shown_up_to_five() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
