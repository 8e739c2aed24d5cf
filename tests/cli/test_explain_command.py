"""`edgedistill explain`: what stands on the terminal, in a pipe and in JSON; what it says of wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from edgedistill.documents.explanation import ExplainResult
from edgedistill.outputs import schemas

Captured = pytest.CaptureFixture[str]
MAKERS = ["make_result", "make_not_met", "make_unmeasured"]


@pytest.fixture
def build(tmp_path: Path, realistic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes one of the made-up builds, with the winner's profile, and returns its folder."""
    monkeypatch.chdir(tmp_path)

    def write(make: str) -> Path:
        result = getattr(realistic, make)()
        folder = tmp_path / "out"
        (folder / "profiles").mkdir(parents=True)
        (folder / "build.json").write_text(result.model_dump_json())
        if result.proof:
            profile = realistic.make_profile(result.proof.artifact_sha256, 0.198)
            (folder / "profiles/onnx-int8.json").write_text(profile.model_dump_json())
        return folder

    return write


@pytest.mark.parametrize("make", MAKERS)
def test_json_fits_its_schema(command: Any, build: Any, make: str, capsys: Captured) -> None:
    assert command("explain", build(make), "--budget", "0.3ms", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    jsonschema.validate(document, schemas.load("explain"), cls=jsonschema.Draft202012Validator)
    ExplainResult.model_validate_json(captured.out)
    assert captured.err == ""


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("columns", ["100", "60", None])
def test_every_part_is_there_and_fits(
    command: Any, build: Any, make: str, columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert command("explain", build(make)) == 0
    shown = capsys.readouterr().out
    for heading in ("which operators cost the time", "what another budget would give", "the search"):
        assert f"\n{heading}" in shown
    assert max(map(len, shown.splitlines())) <= int(columns or 200)
    assert "\x1b" not in shown, "plain where the output is no terminal"
    assert "None" not in shown
    assert "nan" not in shown.split()


def test_a_build_that_was_met(command: Any, build: Any, capsys: Captured) -> None:
    assert command("explain", build("make_result")) == 0
    shown = capsys.readouterr().out
    for part in (
        "the fastest of 2 students as accurate as the most accurate one (within 2.0 points, 95% confidence), of 3 students",
        "97.41% (94.7% to 98.7%)",
        "0.211 ms  22 sessions",
        "2.06 ms   6 sessions",
        "proven: in 22 sessions of 3.0 s over 1 min 28 s p95 was 10.0%",
        "9.8 times as fast as its teacher, -1.11 points on the test split",
        "p95 0.496 ms in int8 (24.1% of the teacher's by way of the anchor): 20.3% over",
        "96.90%, 0.50 points behind the winner",
        "9 more: --students 12",
        "\nwhat another budget would give, as a share of the teacher's p95\n",
        "more: --all; another one: --budget",
        "mobileone w0.75 d1 @24, int8, not trained",
        "stopped: no untried candidate is likely enough to do better",
        "5 of 6 predicted intervals held",
    ):
        assert part in shown, part
    conv = next(line for line in shown.splitlines() if line.strip().startswith("Conv "))
    assert conv.split()[-1] == "79.7%"


def test_one_budget_is_all_that_is_answered(command: Any, build: Any, capsys: Captured) -> None:
    assert command("explain", build("make_result"), "--budget", "0.12ms") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a budget of 0.120 ms at p95"
    assert lines[1].startswith("predicted: ≈ 95.1%")
    assert len(lines) == 2


def test_a_few_of_each_kind_are_shown_and_all_where_asked_for(command: Any, build: Any, capsys: Captured) -> None:
    folder = build("make_result")

    def shown(*options: str) -> str:
        assert command("explain", folder, *options) == 0
        return capsys.readouterr().out

    def trials(text: str) -> int:
        table = text.partition("what the next ones lacked\n")[2].partition("\n\n")[0]
        return sum(line.split()[0].isdecimal() for line in table.splitlines())

    short, whole = shown(), shown("--all")
    assert (trials(short), trials(whole), trials(shown("--students", "5"))) == (3, 12, 5)
    assert "lacked" not in shown("--students", "0")
    assert "interpolated" in whole and "interpolated" not in short
    assert whole.count("_fused_with_activation_") == 10 and "_fused_with_activation_" not in short
    assert "--all" not in whole and "--students" not in whole


def test_json_has_as_many_students_as_before(command: Any, build: Any, capsys: Captured) -> None:
    folder = build("make_result")
    for options, count in (((), 10), (("--students", "2"), 2), (("--all",), 12)):
        assert command("explain", folder, "--json", *options) == 0
        found = ExplainResult.model_validate_json(capsys.readouterr().out)
        assert (len(found.others), found.left_out) == (count, 12 - count)


def test_unmeasured_and_not_met_claim_nothing(command: Any, build: Any, tmp_path: Path, capsys: Captured) -> None:
    assert command("explain", build("make_unmeasured")) == 0
    shown = capsys.readouterr().out
    assert "unknown: package/student-int8.onnx is not measured" in shown
    assert not any(line.split()[-1:] == ["yes"] for line in shown.splitlines())


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, (), "holds no build.json"),
        ('{"schema_version": 1}', (), "build it again with this version"),
        ("{", (), "is damaged"),
        ("whole", ("--budget", "3furlongs"), "write it like 5ms"),
        ("whole", ("--budget", ""), "is not a duration"),
    ],
)
def test_wrong_input_has_a_cause_and_a_way_out(
    command: Any, build: Any, content: str | None, arguments: tuple[str, ...], says: str, capsys: Captured
) -> None:
    folder = build("make_result")
    if content is None:
        (folder / "build.json").unlink()
    elif content != "whole":
        (folder / "build.json").write_text(content)
    assert command("explain", folder, *arguments, "--json") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert json.loads(captured.out)["error"]["fix"]


def test_names_out_of_a_foreign_file_drive_no_terminal(command: Any, build: Any, capsys: Captured) -> None:
    folder = build("make_result")
    path = folder / "build.json"
    path.write_text(path.read_text().replace("the loss was not finite", "owned\\u001b[2J[red]x[/red]"))
    assert command("explain", folder, "--students", "20") == 0
    shown = capsys.readouterr().out
    assert "owned?[2J[red]x[/red]" in shown
    assert "\x1b" not in shown
