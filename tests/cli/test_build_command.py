"""`edgedistill build`: exit codes, what goes to stdout and what to stderr, and the last table."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from factories import make_proof

import edgedistill as api
from edgedistill.base.errors import Problem, UnreachableError
from edgedistill.base.progress import Note, StageAdvanced, StageFinished, StageStarted
from edgedistill.cli.build_table import standing
from edgedistill.documents.measurements import (
    MeasuredLatency,
    Percentiles,
    PredictedLatency,
    RelativeLatency,
    UnknownLatency,
)
from edgedistill.documents.results import (
    BuildIndex,
    BuildResult,
    Found,
    FrontierPoint,
    IndexEntry,
    SearchResult,
)
from edgedistill.documents.specs import Budget, Percentile
from edgedistill.outputs.explain.winner import winning_trial

BUDGET = Budget(latency_ms=5, percentile=Percentile.P95)


def measured(p50_ms: float, p95_ms: float, p99_ms: float) -> MeasuredLatency:
    return MeasuredLatency(p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms, samples=1000, device="a CPU")


def test_met_shows_one_table_and_the_paths(
    command: Any, built: dict[str, Any], result: BuildResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "package").mkdir(parents=True)
    (out / "build.json").write_text("{}")
    (out / "report.html").write_text("")
    assert command("build", tmp_path / "build.toml") == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == f"budget met: {result.verdict}"
    row = next(line for line in lines if "student-int8.onnx" in line)
    assert row.split() == [
        "package/student-int8.onnx",
        "int8",
        "311.4",
        "KiB",
        "97.41%",
        "(94.7%",
        "to",
        "98.7%)",
        "0.198",
        "ms",
        "0.211",
        "ms",
        "22",
        "sessions",
        "met",
    ]
    other = next(line for line in lines if "student-fp32.onnx" in line)
    assert other.split()[-3:] == ["1", "session", "inside"], "no figure of one session passes for one of twenty"
    teacher = next(line for line in lines if line.strip().startswith("teacher"))
    assert "98.52%" in teacher
    assert "2.06 ms" in teacher and teacher.rstrip().endswith("6 sessions")
    coreml = next(line for line in lines if "student-fp16.mlpackage" in line and "MiB" not in line.split(":")[0][-1:])
    assert coreml.split().count("unknown") == 4
    for name in ("build.json", "report.html", "package"):
        assert f"{out / name}" in shown
    assert "dropped onnx fp16: 0.3% slower than fp32" in shown
    assert "latency unknown: no NVIDIA GPU" in shown


def test_what_a_reference_interpreter_computed_stands_below_the_table(
    command: Any, built: dict[str, Any], realistic: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    built["result"] = realistic.with_reference()
    assert command("build", "build.toml") == 0
    shown = capsys.readouterr().out
    assert "student-fp16.mlpackage: accuracy on the device unknown; a reference interpreter, not the device, " in shown
    assert "gets 99.22% (97.2% to 99.8%) of 256 validation images right" in shown
    assert shown.count("reference interpreter") == 1


def test_options_reach_the_loop(command: Any, built: dict[str, Any], tmp_path: Path) -> None:
    arguments = (
        "--target",
        "pixel-6",
        "--target",
        "host",
        "--one-student",
        "--budget",
        "7ms@p99",
        "--out",
        tmp_path / "o",
        "--device",
        "board",
        "--require-measured",
    )
    arguments += ("--remeasure", "--no-teacher", "--skip-broken")
    arguments += ("--trials", "9", "--time", "2h", "-j", "2", "--executor", "ray", "--storage", "sqlite:///s.db")
    assert command("build", "build.toml", *arguments) == 0
    built.pop("listener")
    assert built == {
        "path": Path("build.toml"),
        "targets": ("pixel-6", "host"),
        "one_student": True,
        "budget": "7ms@p99",
        "out": tmp_path / "o",
        "device": "board",
        "require_measured": True,
        "trials": 9,
        "time": "2h",
        "jobs": 2,
        "executor": "ray",
        "storage": "sqlite:///s.db",
        "remeasure": True,
        "skip_broken": True,
        "keep_teacher": False,
    }


@pytest.mark.parametrize(
    ("status", "require", "code"),
    [("met", False, 0), ("met", True, 0), ("unmeasured", False, 0), ("unmeasured", True, 4), ("not_met", False, 3)],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_exit_codes(
    command: Any, built: dict[str, Any], result: BuildResult, status: str, require: bool, code: int, as_json: bool
) -> None:
    built["result"] = result.model_copy(update={"status": status})
    options = ["--require-measured"] * require + ["--json"] * as_json
    assert command("build", "build.toml", *options) == code


@pytest.mark.parametrize(("name", "shown"), [("build", "report.html"), ("search", "search.json")])
def test_an_index_names_what_was_made_for_each_target(
    command: Any,
    built: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    shown: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "report.html").write_text("of this build, or of one before this search")
    entry = IndexEntry(target="host", folder="host", status="not_met", verdict="Budget not met.")
    built["result"] = BuildIndex(edgedistill_version="1", targets=(entry,), seconds=1.0)
    monkeypatch.setattr(api, "search_all", api.build_all)
    assert command(name, "build.toml", "--out", tmp_path) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == str(tmp_path / "host" / shown)
    (row,) = [line for line in lines if line.split()[:1] == ["host"]]
    assert row.split()[1:] == ["not", "met", *"––––"], "what lies there no longer is not told of"
    assert lines[-1].split()[0] == str(tmp_path / f"{name}.json")


def index_of(folder: Path, name: str, **results: Found) -> BuildIndex:
    """An index of these, each left in a folder of its name."""
    entries = []
    for target, found in results.items():
        (folder / target).mkdir()
        (folder / target / f"{name}.json").write_text(found.model_dump_json())
        entries.append(IndexEntry(target=target, folder=target, status=found.status, verdict=found.verdict))
    return BuildIndex(edgedistill_version="1", targets=tuple(entries), seconds=1.0)


def test_several_targets_end_with_a_table_of_what_won_on_each(
    command: Any, built: dict[str, Any], realistic: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {"host": realistic.make_result(), "phone": realistic.make_unmeasured(), "board": realistic.make_not_met()}
    built["result"] = index_of(tmp_path, "build", **results)
    assert command("build", "build.toml", "--out", tmp_path) == 3
    shown = capsys.readouterr().out
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.splitlines() if line.split()[:1]}
    assert rows["host"] == "budget met mobileone w0.5 d1 @16 int8 p95 0.211 ms 97.41% (94.7% to 98.7%)"
    assert rows["phone"].startswith("unmeasured mobileone w0.5 d1 @16 int8 p95 guess ≈ 3.20 ms (2.10 ms to 4.90 ms)")
    assert rows["board"] == "not met – – – –"
    assert "host: dropped onnx fp16: 0.3% slower than fp32" in shown
    assert "on the test split" in shown


@pytest.mark.parametrize("columns", ["80", "200"])
def test_several_targets_are_listed_by_whole_names(
    command: Any,
    built: dict[str, Any],
    realistic: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    columns: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    made = (realistic.make_result(), realistic.make_unmeasured(), realistic.make_not_met())
    results = dict(zip(("raspberry-pi-5", "iphone-15-pro", "jetson-orin-nano"), made, strict=True))
    built["result"] = index_of(tmp_path, "build", **results)
    assert command("build", "build.toml", "--out", tmp_path) == 3
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.split()[:1] == ["target"])
    table = lines[first : next(number for number, line in enumerate(lines) if line.startswith("latency at batch 1"))]
    assert max(map(len, table)) <= int(columns)
    assert results.keys() <= {line.split()[0] for line in table if line.strip()}
    assert ("precision" in table[0].split()) is (columns == "200"), "the first that gives way"


def test_a_search_for_several_targets_tells_of_the_validation_split_and_of_what_was_dropped(
    command: Any,
    built: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    result: BuildResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert result.proof is not None
    won, sha256 = winning_trial(result), result.proof.artifact_sha256
    assert won is not None
    schemes = tuple(
        s if s.artifact.sha256 == sha256 else s.model_copy(update={"dropped": "neither faster nor smaller"})
        for s in won.schemes
    )
    trials = tuple(won.model_copy(update={"schemes": schemes}) if t is won else t for t in result.trials)
    fields = dict(result.model_copy(update={"trials": trials}))
    found = SearchResult(**{name: fields[name] for name in SearchResult.model_fields})
    built["result"] = index_of(tmp_path, "search", host=found)
    monkeypatch.setattr(api, "search_all", api.build_all)
    assert command("search", "build.toml", "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "host: dropped onnx fp32: neither faster nor smaller" in shown and "on the validation split" in shown
    (row,) = [line for line in shown.splitlines() if line.split()[:1] == ["host"]]
    assert " int8 " in row and " p95 0." in row and row.rstrip().endswith("%)")
    built["result"] = found
    assert command("search", "build.toml", "--out", tmp_path) == 0
    assert "dropped onnx fp32: neither faster nor smaller" in capsys.readouterr().out


def test_json_is_the_result_and_nothing_else(
    command: Any, built: dict[str, Any], result: BuildResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("build", "build.toml", "--json") == 0
    captured = capsys.readouterr()
    assert captured.out == result.model_dump_json() + "\n"
    assert BuildResult.model_validate_json(captured.out) == result


def test_not_met_says_what_would_do(
    command: Any, built: dict[str, Any], result: BuildResult, capsys: pytest.CaptureFixture[str]
) -> None:
    point = FrontierPoint(trial=4, precision="int8", latency_ms=0.12345, quality_validation=0.9331)
    changes = {"status": "not_met", "artifacts": (), "proof": None, "student": None, "frontier": (point,)}
    built["result"] = result.model_copy(update=changes | {"fastest_ms": 0.12345, "budget_that_would_do_ms": 0.12345})
    assert command("build", "build.toml") == 3
    shown = capsys.readouterr().out
    assert shown.startswith("not met: ")
    assert "fastest seen: 6.0% of the teacher's at p95, in 1 session" in shown
    assert "mobileone w0.25 d0.5 @16" in shown
    assert "93.31%" in shown
    # Rounded up: the budget that is offered must not lie below what was measured.
    assert "--budget 6.00%@p95" in shown
    in_ms = result.budget.model_copy(update={"share_of_teacher": None})
    limits = tuple(
        one.model_copy(update={"budget": in_ms}) if one.kind == "latency" else one for one in result.constraints
    )
    built["result"] = built["result"].model_copy(update={"constraints": limits})
    assert command("build", "build.toml") == 3
    shown = capsys.readouterr().out
    assert "fastest seen: 0.123 ms at p95, in 1 session" in shown
    assert "--budget 0.124ms@p95" in shown


PREDICTED = PredictedLatency(
    latency_ms=2,
    low_ms=1.5,
    high_ms=2.5,
    percentile="p95",
    precision="int8",
    calibrated=False,
    basis="published",
    device="a phone",
)


BESIDE = RelativeLatency(p50=1, p95=1.2, p99=2, anchor_sha256="a", anchor_ms=Percentiles(p50=2, p95=4, p99=5))


@pytest.mark.parametrize(
    ("latency", "proof", "word"),
    [
        (measured(1, 4, 9), make_proof([4.0]), "met"),
        (measured(1, 6, 9), make_proof([4.0]), "met"),
        (measured(1, 4, 9), make_proof([4.0, 6.0]), "not proven"),
        (measured(1, 4, 9), None, "inside"),
        (measured(1, 6, 9), None, "over"),
        (measured(1, 6, 9).model_copy(update={"relative": BESIDE}), None, "inside"),
        (UnknownLatency(reason="no GPU", device="x"), None, "unknown"),
        (PREDICTED, None, "unknown"),
    ],
)
def test_only_a_measurement_stands_inside_a_budget_and_only_a_proof_meets_it(
    latency: Any, proof: Any, word: str
) -> None:
    assert standing(latency, BUDGET, proof)[0] == word


def test_load_without_a_pause_is_told(
    command: Any, built: dict[str, Any], realistic: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    built["result"] = realistic.make_measured_again()
    assert command("build", "build.toml") == 0
    assert "under load: p95 was 0.210 ms in the first third of 1 min 0 s" in capsys.readouterr().out


def test_a_prediction_is_marked_as_one(
    command: Any, built: dict[str, Any], result: BuildResult, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = result.artifacts[0].model_copy(update={"latency": PREDICTED})
    changes = {"status": "unmeasured", "artifacts": (artifact,), "proof": None}
    built["result"] = result.model_copy(update=changes)
    assert command("build", "build.toml") == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "student-int8" in line)
    assert "guess: 1.50 ms to 2.50 ms" in row
    assert row.split()[-1] == "unknown"
    told = next(line for line in shown.splitlines() if "not measured" in line)
    assert "latency a guess, not measured: " in told
    assert "uncalibrated" in told and told.endswith("from published")
    calibrated = artifact.model_copy(update={"latency": PREDICTED.model_copy(update={"calibrated": True})})
    built["result"] = result.model_copy(update=changes | {"artifacts": (calibrated,)})
    assert command("build", "build.toml") == 0
    shown = capsys.readouterr().out
    assert "predicted 1.50 ms to 2.50 ms" in shown and "guess" not in shown


@pytest.mark.parametrize("budget", ["0ms", "-5ms", "infms", "0%", "101%", "5 parsec", "5", "5ms@p90", ""])
def test_a_wrong_budget_is_named_and_so_is_the_missing_file(
    command: Any, budget: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("build", "no-such.toml", "--budget", budget) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--budget: " in captured.err
    assert "Traceback" not in captured.err and "no-such.toml" in captured.err


@pytest.mark.parametrize("name", ["build", "search"])
def test_all_wrong_options_are_named_at_once(command: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(name, "no-such.toml", "--trials", "0", "--time", "2 weeks", "--budget", "5") == 2
    shown = capsys.readouterr().err
    assert all(option in shown for option in ("--trials: 0", "--time: ", "2h", "--budget: "))
    assert command(name, "no-such.toml", "--jobs", "0", "--executor", "slurm", "--budget", "5") == 2
    shown = capsys.readouterr().err
    assert "--jobs: 0" in shown and "unknown executor 'slurm'" in shown and "local or ray" in shown
    assert "--budget: " in shown and "no-such.toml" in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_a_users_error_lists_every_problem(
    command: Any, monkeypatch: pytest.MonkeyPatch, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path, **options: Any) -> BuildResult:
        problems = [Problem("a.toml:3", "wrong", "say it right"), Problem("a.toml:9", "wrong too")]
        raise UnreachableError("the phone [pixel] does not answer", fix="plug it in\nand unlock it", problems=problems)

    monkeypatch.setattr(api, "build_all", fails)
    assert command("build", "build.toml", *["--json"] * as_json) == 4
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: the phone [pixel] does not answer",
        "  a.toml:3: wrong (say it right)",
        "  a.toml:9: wrong too",
        "fix: plug it in",
        "     and unlock it",
    ]
    if not as_json:
        assert captured.out == ""
        return
    assert json.loads(captured.out) == {
        "error": {
            "message": "the phone [pixel] does not answer",
            "problems": [
                {"where": "a.toml:3", "what": "wrong", "fix": "say it right"},
                {"where": "a.toml:9", "what": "wrong too", "fix": ""},
            ],
            "fix": "plug it in\nand unlock it",
            "exit_code": 4,
        }
    }


def test_an_interruption_says_how_to_go_on(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: Path, **options: Any) -> BuildResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "build_all", interrupted)
    assert command("build", "build.toml", "--json") == 130
    captured = capsys.readouterr()
    assert "run the same command to go on" in captured.err
    assert json.loads(captured.out)["error"]["exit_code"] == 130


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bug_keeps_its_traceback(
    command: Any, monkeypatch: pytest.MonkeyPatch, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path, **options: Any) -> BuildResult:
        raise ZeroDivisionError("we did this")

    monkeypatch.setattr(api, "build_all", broken)
    assert command("build", "build.toml", *["--json"] * as_json) == 1
    captured = capsys.readouterr()
    assert "Traceback (most recent call last)" in captured.err
    assert "ZeroDivisionError: we did this" in captured.err
    assert "please report it" in captured.err
    assert (json.loads(captured.out)["error"]["exit_code"] == 1) if as_json else captured.out == ""


@pytest.mark.parametrize("arguments", [("-q", "build"), ("build", "-q"), ("--quiet", "build", "--verbose")])
def test_quiet_prints_results_and_errors_only(
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
    result: BuildResult,
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def build(path: Path, listener: Any, **options: Any) -> BuildResult:
        listener(StageStarted("views", "digits [8 px]", 400))
        listener(StageFinished("views", "digits [8 px]", 12.3, reused=False))
        listener(Note("the clock is not steady", warning=True))
        if path.name == "wrong.toml":
            raise UnreachableError("the phone does not answer")
        return result

    monkeypatch.setattr(api, "build_all", build)
    assert command(*arguments, "build.toml") == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.startswith("budget met: ")
    assert command(*arguments, "wrong.toml") == 4
    assert capsys.readouterr() == ("", "error: the phone does not answer\n")
    assert command("build", "build.toml") == 0
    assert "views digits [8 px]  12 s" in capsys.readouterr().err, "the next command line has its own say"


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_is_plain_lines_on_stderr(
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
    result: BuildResult,
    verbose: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def build(path: Path, listener: Any, **options: Any) -> BuildResult:
        listener(StageStarted("views", "digits [8 px]", 400))
        listener(StageAdvanced("views", 120, note="120 of them"))
        listener(StageFinished("views", "digits [8 px]", 12.3, reused=False))
        listener(StageFinished("teacher", "resnet18", 0.0, reused=True))
        listener(StageAdvanced("nothing began", 1))
        listener(Note("waiting for another build"))
        listener(Note("the clock is not steady", warning=True))
        return result

    monkeypatch.setattr(api, "build_all", build)
    assert command(*["-v"] * verbose, "build", "build.toml") == 0
    said = capsys.readouterr().err
    assert command("build", "build.toml", *["--verbose"] * verbose) == 0
    assert capsys.readouterr().err == said
    assert said.splitlines() == [
        "views digits [8 px]: 400 steps",
        "views digits [8 px]  12 s",
        *["teacher resnet18  reused"] * verbose,
        "waiting for another build",
        "warning: the clock is not steady",
    ]
