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
    assert error.problems == (*MANY[:9], Problem("", "and 31 more such"), STRAY)
    file = default_root() / LIST_FILE
    assert error.fix == f"{file} lists all 41"
    assert file.read_text().splitlines() == [str(problem) for problem in (*MANY, STRAY)]
    assert len(str(error).splitlines()) == 13


def test_problems_that_differ_by_a_number_are_of_one_kind() -> None:
    large = [Problem(f"{n}.png", f"is {n} x 16000 pixels", "replace it") for n in range(30)]
    error = data_error("70 problems", [*MANY, *large])
    told = [problem.what for problem in error.problems]
    assert told == [MANY[0].what] * 5 + ["and 35 more such"] + [problem.what for problem in large[:5]] + [
        "and 25 more such"
    ]


def test_more_kinds_than_lines_are_counted() -> None:
    each = [Problem("a.png", f"is {letter}", "replace it") for letter in "abcdefghijklm"]
    error = data_error("13 problems", each)
    assert error.problems == (*each[:10], Problem("", "and 3 more of other kinds"))


def test_a_name_that_is_no_text_is_listed_as_it_is() -> None:
    data_error("many", [*MANY, Problem(os.fsdecode(b"\xff.png"), "is empty", "replace it")])
    assert b"\xff.png: is empty" in (default_root() / LIST_FILE).read_bytes()


def test_without_a_cache_the_rest_is_counted_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    error = data_error("many", MANY)
    assert error.fix == ""
    assert error.problems[-1].what == "and 30 more such"


def test_names_are_shown_up_to_five() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
