"""`edgedistill targets show`, `new` and `check`."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import jsonschema
import pytest
from pipe_transport import PipeTransport

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.devices import attach as attaching
from edgedistill.documents.devices import FILE_VARIABLE
from edgedistill.documents.specs import Format
from edgedistill.documents.targets import all_targets, load_target, target_names
from edgedistill.outputs import schemas

BOARD = """name = "board"
title = "A board"
runtime = "onnx"
formats = ["onnx"]
precisions = ["fp32"]
cores = [{ name = "Cortex-A76", count = 4 }]
threads = 4
transport = "ssh"
how_to_measure = "by hand"

[sources]
cores = "https://example.org (four)"
"""


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    (checked,) = api.check_targets((str(path),)).targets
    return [problem.removeprefix(f"{path}:") for problem in checked.problems]


def test_every_target_that_ships_has_a_source_for_each_fact() -> None:
    found = api.check_targets()
    assert [target.name for target in found.targets] == list(target_names())
    assert {target.name: target.problems for target in found.targets if target.problems} == {}


def test_at_least_25_real_devices_ship() -> None:
    real = [target for target in all_targets() if target.transport != "local" and not target.name.startswith("linux-")]
    assert len(real) >= 25


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "", []),
        ('cores = "https://example.org (four)"', "", ["6: cores has no source"]),
        ("threads = 4", "threads = 5", ["7: 5 threads are more than its cores"]),
        ("threads = 4", "threads = 4\nmemory_bytes = 1024", ["8: memory_bytes has no source"]),
        ("https://example.org (four)", "a book", ["12: the source of cores is no address"]),
        ("[sources]", '[sources]\nsoc = "https://example.org"', ["12: there is a source for soc"]),
        ("[sources]", '[sources]\ntitle = "https://example.org"', ["12: title is nothing that a target states"]),
        ('how_to_measure = "by hand"', "", ["8: it does not say how it is measured by hand"]),
        ('formats = ["onnx"]', 'formats = ["onnx", "tensorrt"]', ["4: TensorRT needs compute_capabilities"]),
        ("threads = 4", "threads = 4\nthreats = 1", ["8: unknown key threats"]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, before: str, after: str, told: list[str]) -> None:
    found = problems(tmp_path / "board.toml", BOARD.replace(before, after) if before else BOARD)
    assert len(found) == len(told)
    for line, wanted in zip(found, told):
        assert line.startswith(wanted)


def test_a_file_of_any_name_is_a_target_of_ones_own(tmp_path: Path) -> None:
    assert problems(tmp_path / "other.toml", BOARD) == []


def test_an_unknown_target_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown target 'hots'") as caught:
        api.check_targets(("host", "hots"))
    assert "did you mean host?" in caught.value.fix


@pytest.mark.parametrize(("text", "code"), [(BOARD, 0), (BOARD.replace("threads = 4", "threads = 9"), 2)])
def test_the_exit_code_and_the_json(tmp_path: Path, text: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "board.toml").write_text(text)
    assert run(["targets", "check", str(tmp_path / "board.toml")]) == code
    assert ("nothing is wrong" in capsys.readouterr().out) == (code == 0)
    assert run(["targets", "check", str(tmp_path / "board.toml"), "--json"]) == code
    jsonschema.validate(json.loads(capsys.readouterr().out), schemas.load("targets_check"))


# -- new ----------------------------------------------------------------------------------------------------------------


def test_a_new_target_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = api.new_target("my-board", like="host-litert")
    assert path == Path("my-board.toml")
    target = load_target(path)
    assert (target.name, target.runtime, target.transport) == ("my-board", Format.LITERT, "local")
    assert (target.machine, target.formats) == (platform.machine(), (Format.LITERT, Format.ONNX))
    assert api.check_targets(("./my-board.toml",)).ok


def test_a_new_target_is_a_device_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "devices.toml").write_text(
        f'[board]\naddress = "ssh://board"\npython = "{sys.executable}"\nfolder = "{tmp_path / "work"}"\n'
    )
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "devices.toml"))
    monkeypatch.setattr(attaching, "transport_to", lambda known: PipeTransport())
    target = load_target(api.new_target("it", device="board", out=tmp_path / "it.toml"))
    assert (target.transport, target.machine) == ("ssh", platform.machine())


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("", {}, "no name of a target"),
        ("a/b", {}, "no name of a target"),
        ("x.toml", {}, "no name of a target"),
        ("there", {}, "exists already"),
        ("x", {"like": "macbook-air-m2"}, "computes on its Neural Engine or GPU"),
        ("x", {"like": "nothing"}, "unknown target"),
        ("x", {"device": "unknown"}, "no device is called"),
        ("x", {"out": "absent/x.toml"}, "does not exist"),
    ],
)
def test_what_is_no_new_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "devices.toml"))
    (tmp_path / "there.toml").write_text("mine")
    with pytest.raises(InputError, match=what):
        api.new_target(name, **options)
    assert (tmp_path / "there.toml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.toml"]


def test_new_says_how_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["targets", "new", "my-board"]) == 0
    assert "--target ./my-board.toml" in capsys.readouterr().out
