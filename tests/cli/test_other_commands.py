"""init, targets, doctor, profile, report and cache, as they are called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.base.store import Store, digest
from edgedistill.cli.completion import complete_target
from edgedistill.commands import installed
from edgedistill.documents.answers import Diagnosis
from edgedistill.documents.build_file import load_config
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.specs import Target
from edgedistill.documents.targets import target_names
from edgedistill.outputs.report import html

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


# -- init -------------------------------------------------------------------------------------------------------


def test_init_takes_defaults_where_it_cannot_ask(command: Any, tmp_path: Path, capsys: Captured) -> None:
    assert command("init") == 0
    assert "next: edgedistill build build.toml" in capsys.readouterr().out
    assert load_config(tmp_path / "build.toml").data.source == "digits"


def test_init_with_options(command: Any, tmp_path: Path) -> None:
    options = (
        "--data",
        "hf:mnist",
        "--teacher",
        "timm:vit_tiny_patch16_224",
        "--target",
        "pixel-6",
        "--budget",
        "7ms@p99",
    )
    assert command("init", "project", *options, "--yes") == 0
    config = load_config(tmp_path / "project" / "build.toml")
    assert (config.data.name, config.teacher.model, config.target) == ("mnist", "timm:vit_tiny_patch16_224", "pixel-6")
    assert str(config.budget) == "7.00 ms@p99"


def test_init_overwrites_only_if_told(command: Any, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "build.toml").write_text("mine")
    assert command("init") == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "build.toml").read_text() == "mine"
    assert command("init", "--force") == 0
    assert load_config(tmp_path / "build.toml").target == "host"


def test_init_refuses_wrong_options_together(command: Any, tmp_path: Path, capsys: Captured) -> None:
    assert command("init", "--data", "nowhere", "--target", "hots", "--budget", "0%", "--teacher", "x") == 2
    err = capsys.readouterr().err
    assert all(f"{option}: " in err for option in ("--data", "--teacher", "--target", "--budget"))
    assert not (tmp_path / "build.toml").exists()


def test_init_asks_again_until_the_answer_holds(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answers: Iterator[str] = iter(["nowhere", "digits", "timm:resnet18", "hots", "host", "5", "5ms"])
    asked: list[str] = []

    def prompt(question: str, default: str) -> str:
        asked.append(question.split(" ")[0])
        return next(answers)

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert command("init") == 0
    assert asked == ["images", "images", "teacher", "device", "device", "latency", "latency"]
    err = capsys.readouterr().err
    assert "did you mean host?" in err
    assert str(load_config(tmp_path / "build.toml").budget) == "5.00 ms@p95"


# -- targets ----------------------------------------------------------------------------------------------------


def test_targets_lists_all(command: Any, capsys: Captured) -> None:
    assert command("targets") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in target_names())


def test_targets_as_json(command: Any, capsys: Captured) -> None:
    assert command("targets", "--json") == 0
    found = [Target.model_validate(entry) for entry in json.loads(capsys.readouterr().out)]
    assert tuple(target.name for target in found) == target_names()


@pytest.mark.parametrize("name", target_names())
def test_one_target_shows_everything(command: Any, name: str, capsys: Captured) -> None:
    assert command("targets", "show", name, "--json") == 0
    target = Target.model_validate_json(capsys.readouterr().out)
    assert command("targets", "show", name) == 0
    shown = capsys.readouterr().out
    assert target.how_to_measure.strip() in shown
    assert all(f"{fact}: {source}" in shown for fact, source in target.sources.items())
    assert any(f"targets/{name}.toml" in line for line in shown.splitlines() if line.startswith("file "))
    assert all(row.model in shown for row in target.published)


def test_targets_refuses_an_unknown_name(command: Any, capsys: Captured) -> None:
    assert command("targets", "show", "hots", "--json") == 2
    captured = capsys.readouterr()
    assert "did you mean host?" in captured.err
    assert json.loads(captured.out)["error"]["message"] == "unknown target 'hots'"


def test_completion_knows_the_targets() -> None:
    assert sorted(complete_target("")) == sorted(target_names())
    assert complete_target("iph") == [name for name in target_names() if name.startswith("iph")]


# -- doctor -----------------------------------------------------------------------------------------------------


def test_doctor(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(installed, "try_import", lambda name: (name != "torch", "said so"))
    assert command("doctor", "--json") == 0
    found = Diagnosis.model_validate_json(capsys.readouterr().out)
    assert command("doctor") == 0
    shown = capsys.readouterr().out
    for check in found.checks:
        assert check.name in shown
        assert check.fix in shown
    row = next(line for line in shown.splitlines() if line.strip().startswith("torch "))
    assert row.split()[1] == "no"
    # A command can be copied: it is on a line of its own, once, with what it brings.
    lines = [line.strip() for line in shown.splitlines()]
    for fix in {check.fix for check in found.checks if check.fix}:
        (line,) = [line for line in lines if line.startswith(f"{fix}  # ")]
        assert {check.name for check in found.checks if check.fix == fix} == set(line.partition("# ")[2].split(", "))


def test_doctor_tells_what_it_does(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(installed, "try_import", lambda name: (True, ""))
    assert command("doctor", "--json") == 0
    assert "import installed packages: " in capsys.readouterr().err
    assert command("doctor", "--json", "--quiet") == 0
    assert capsys.readouterr().err == ""


# -- profile ----------------------------------------------------------------------------------------------------


def test_profile(command: Any, monkeypatch: pytest.MonkeyPatch, profiled: ProfileResult, capsys: Captured) -> None:
    called: dict[str, Any] = {}

    def profile(path: Path, **options: Any) -> ProfileResult:
        called.update(options, path=path)
        return profiled

    monkeypatch.setattr(api, "profile", profile)
    assert command("profile", "model.onnx", "--json") == 0
    assert ProfileResult.model_validate_json(capsys.readouterr().out) == profiled
    assert (called["path"], called["target"]) == (Path("model.onnx"), "host")
    assert command("profile", "model.onnx", "--target", "./mine.toml") == 0
    assert called["target"] == "./mine.toml"
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "model.onnx"
    row = next(line for line in shown.splitlines() if "310.5 KiB" in line)
    assert row.split()[2:] == ["0.200", "ms", "0.210", "ms", "0.250", "ms", "18.4", "ms", "2.60", "ms", "58.5", "MiB"]
    assert "3,000 runs in 1 session on a CPU" in shown
    assert "p95 differs by 2.1% from session to session" in shown
    operators = [line for line in shown.splitlines() if "fused_with_activation" in line]
    assert len(operators) == 10
    assert operators[0].split()[-1] == "40%"


def test_profile_says_unknown(
    command: Any, monkeypatch: pytest.MonkeyPatch, profiled: ProfileResult, capsys: Captured
) -> None:
    unknown = {"latency": {"kind": "unknown", "reason": "no GPU", "device": "x"}, "load_ms": None, "first_run_ms": None}
    changes = unknown | {"peak_memory_bytes": None, "environment": None, "op_timings": ()}
    bare = ProfileResult.model_validate(profiled.model_dump() | changes)
    monkeypatch.setattr(api, "profile", lambda path, **options: bare)
    assert command("profile", "model.onnx") == 0
    shown = capsys.readouterr().out
    assert "latency unknown: no GPU" in shown
    assert next(line for line in shown.splitlines() if "310.5 KiB" in line).split().count("unknown") == 6


# -- report -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["out", "out/build.json"])
def test_report_draws_again(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, capsys: Captured
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "build.json").write_text("{}")
    drawn, opened = [], []
    monkeypatch.setattr(html, "write_report", drawn.append)
    monkeypatch.setattr(typer, "launch", opened.append)
    assert command("report", given, "--open") == 0
    assert drawn == [Path("out")]
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    assert capsys.readouterr().out == "out/report.html\n"


def test_report_of_nothing(command: Any, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "out").mkdir()
    assert command("report", "out") == 2
    (tmp_path / "out" / "build.json").write_text("{}")
    assert command("report", ".") == 2
    assert "did you mean out?" in capsys.readouterr().err


# -- cache ------------------------------------------------------------------------------------------------------


def test_cache_info_and_clear(command: Any, own_cache: Path, capsys: Captured) -> None:
    Store().stage("train", digest(1), lambda folder: (folder / "w").write_text("x" * 5000) and None)
    assert command("cache", "info", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["path"] == str(own_cache)
    assert info["stages"]["train"]["entries"] == 1
    assert info["bytes"] > 5000
    assert command("cache", "info") == 0
    assert "train" in capsys.readouterr().out
    assert command("cache", "clear") == 2
    assert "cache clear --yes" in capsys.readouterr().err
    assert Store().find("train", digest(1)) is not None
    assert command("cache", "clear", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(own_cache), "freed_bytes": info["bytes"]}
    assert Store().find("train", digest(1)) is None
    assert command("cache", "clear") == 0


@pytest.mark.parametrize("sub", ["info", "clear"])
def test_cache_where_none_can_be(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sub: str, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError):
        Store()
    assert command("cache", sub) == 2
    assert "EDGEDISTILL_CACHE" in capsys.readouterr().err
