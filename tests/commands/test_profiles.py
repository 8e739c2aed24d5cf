"""`edgedistill profiles show`, `export`, `import` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.store import file_sha256
from edgedistill.cli.app import run
from edgedistill.commands import profiles as commands
from edgedistill.devices.latency.compared import compared
from edgedistill.devices.latency.folders import PROFILES_VARIABLE, shipped_folder
from edgedistill.devices.latency.imported import imported_for, imported_path, with_imported
from edgedistill.devices.latency.model import prior_from_published
from edgedistill.devices.latency.profile import DeviceProfile
from edgedistill.documents.imported import Program
from edgedistill.documents.package import KitLatency
from edgedistill.documents.targets import load_target

TEXT = (
    "Graph: [/data/local/tmp/{file}]\nInference timings in us: Init: 800, First inference: 9000, Warmup (avg): 3100, \
Inference (avg): 3000.5"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def out(tmp_path: Path, realistic: ModuleType) -> Path:
    """A finished build's folder, whose package has SHA256SUMS."""
    made = tmp_path / "out"
    (made / "package").mkdir(parents=True)
    (made / "package" / "SHA256SUMS").write_text("sums\n")
    (made / "build.json").write_text(realistic.make_result(target="pixel-8").model_dump_json())
    return made


def names(out: Path) -> list[str]:
    return [Path(a["path"]).name for a in json.loads((out / "build.json").read_text())["artifacts"]]


def text_file(tmp_path: Path, file: str) -> Path:
    path = tmp_path / "benchmark.txt"
    path.write_text(TEXT.format(file=file))
    return path


def shipped() -> DeviceProfile:
    """A profile that comes with edgedistill."""
    return DeviceProfile.load(next(iter(sorted(shipped_folder().glob("*.json")))))


def test_a_vendors_figure_is_evidence_for_predictions(tmp_path: Path, out: Path) -> None:
    file = names(out)[0]
    before = prior_from_published(with_imported(load_target("pixel-8")))
    result = commands.import_profiles(text_file(tmp_path, file), build=out)
    (taken,) = result.latencies
    assert (taken.target, taken.figures.file, taken.figures.program) == ("pixel-8", file, Program.BENCHMARK_MODEL)
    assert (taken.figures.mean_ms, taken.figures.p95_ms) == (3.0005, None), "what it does not tell is unknown"
    assert taken.multiply_adds > 0 and imported_for("pixel-8") == (taken,)
    target = with_imported(load_target("pixel-8"))
    point = target.published[-1]
    assert (point.latency_ms, point.precision) == (3.0005, taken.precision) and "benchmark_model" in point.source
    after = prior_from_published(target)
    assert before == {} and list(after) == [taken.precision]
    assert "imported on" in after[taken.precision].basis
    assert with_imported(load_target("raspberry-pi-5")).published == load_target("raspberry-pi-5").published


def test_the_same_file_is_replaced(tmp_path: Path, out: Path) -> None:
    first, second = names(out)[:2]
    for file in (first, second, first):
        commands.import_profiles(text_file(tmp_path, file), build=out)
    assert [one.figures.file for one in imported_for("pixel-8")] == [second, first]


def test_an_apps_figure_is_of_the_package_that_it_has(tmp_path: Path, out: Path) -> None:
    told = KitLatency(
        platform="android",
        file=names(out)[0],
        sha256_sums=file_sha256(out / "package" / "SHA256SUMS"),
        device="Pixel 8",
        system="Android 16",
        threads=None,
        load_ms=30,
        first_run_ms=9,
        run_p50_ms=3,
        run_p95_ms=4,
        picture_to_label_ms=7,
        runs=50,
    )
    path = tmp_path / "latency.json"
    path.write_text(told.model_dump_json())
    (taken,) = commands.import_profiles(path, build=out).latencies
    assert (taken.figures.p50_ms, taken.figures.p95_ms, taken.figures.picture_to_label_ms) == (3, 4, 7)
    assert taken.figures.device == "Pixel 8, Android 16"
    path.write_text(told.model_copy(update={"sha256_sums": "other"}).model_dump_json())
    with pytest.raises(InputError, match="the app that measured has another package than"):
        commands.import_profiles(path, build=out)


@pytest.mark.parametrize("p95_ms", [0, -1, "NaN", "soon"])
def test_an_app_cannot_tell_a_latency_that_there_is_not(tmp_path: Path, out: Path, p95_ms: object) -> None:
    told = {"platform": "android", "file": names(out)[0], "device": "Pixel 8", "system": "Android 16", "threads": None}
    ms = {"load_ms": 30, "first_run_ms": 9, "run_p50_ms": 3, "run_p95_ms": p95_ms, "picture_to_label_ms": 7}
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({**told, **ms, "runs": 50, "sha256_sums": file_sha256(out / "package" / "SHA256SUMS")}))
    with pytest.raises(InputError, match="p95_ms"):
        commands.import_profiles(path, build=out)


def test_what_is_not_known_is_asked_for(tmp_path: Path, out: Path) -> None:
    path = text_file(tmp_path, "renamed.tflite")
    with pytest.raises(InputError, match="it is not known which") as caught:
        commands.import_profiles(path)
    assert "--build OUT" in caught.value.fix
    with pytest.raises(InputError, match=r"has no file renamed\.tflite") as caught:
        commands.import_profiles(path, build=out)
    assert names(out)[0] in caught.value.fix
    file = names(out)[1]
    assert commands.import_profiles(path, build=out, file=file).latencies[0].figures.file == file
    assert commands.import_profiles(path, build=out, file=file, target="pixel-6").target == "pixel-6"
    with pytest.raises(InputError, match="pixel-66"):
        commands.import_profiles(path, build=out, file=file, target="pixel-66")


def test_profiles_travel_from_one_machine_to_another(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = shipped().model_copy(update={"target": "pixel-8", "measured_at": "2026-01-02T03:04:05"})
    measured.save(tmp_path / "measured.json")
    commands.import_profiles(tmp_path / "measured.json")
    commands.import_profiles(text_file(tmp_path, names(out)[0]), build=out)
    written = commands.export_profiles("pixel-8", tmp_path / "bundle.json")
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="nothing is known of latencies on pixel-8"):
        commands.show_profiles("pixel-8")
    result = commands.import_profiles(written)
    shown = commands.show_profiles("pixel-8")
    assert len(result.profiles) == len(shown.profiles) == 1 and shown.details == (measured,)
    assert len(shown.imported) == len(result.latencies) == 1
    again = commands.import_profiles(written)
    assert again.profiles == result.profiles, "the same content has the same name"
    assert str(tmp_path) not in written.read_text()


def test_a_shipped_profile_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="come with edgedistill"):
        commands.export_profiles(shipped().target, tmp_path / "bundle.json")


@pytest.mark.parametrize(
    "content", ['{"kind": "edgedistill profiles"}', '{"rows": []}', '{"run_p50_ms": 3}', "[]", "\x00\x01", ""]
)
def test_files_that_are_none_of_these_are_told(tmp_path: Path, out: Path, content: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        commands.import_profiles(path, build=out)
    assert caught.value.fix
    assert not imported_path("pixel-8").exists()


def test_a_damaged_file_of_imports_is_told(folder: Path) -> None:
    imported_path("pixel-8").parent.mkdir(parents=True)
    imported_path("pixel-8").write_text("{")
    with pytest.raises(InputError, match="cannot be read") as caught:
        with_imported(load_target("pixel-8"))
    assert "import again" in caught.value.fix


def test_two_profiles_differ_by_what_changed() -> None:
    """Every file a tenth slower, a new runtime, one file less."""
    before = shipped()

    def slower(row: Any) -> Any:
        ratio = row.relative.model_copy(update={"p50": row.relative.p50 * 1.1})
        return row.model_copy(update={"relative": ratio})

    after = before.model_copy(
        update={
            "rows": tuple(slower(row) for row in before.rows[1:]),
            "environment": before.environment.model_copy(update={"runtime_version": "9.9"}),
            "threads": before.threads + 1,
        }
    )
    found = compared(before, after, ("a", "b"))
    assert f"threads: {before.threads} became {after.threads}" in found.differences
    assert f"runtime_version: {before.environment.runtime_version} became 9.9" in found.differences
    assert sum(change.common for change in found.precisions) == len(before.rows) - 1
    assert sum(change.before_alone for change in found.precisions) == 1
    for change in found.precisions:
        assert change.ratio == pytest.approx(1.1) and change.lowest == pytest.approx(1.1)
    same = compared(before, before, ("a", "a"))
    assert same.differences == () and {change.ratio for change in same.precisions} == {1.0}


def test_on_the_command_line(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = text_file(tmp_path, names(out)[0])
    assert run(["profiles", "import", str(path), "--build", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latencies"][0]["figures"]["mean_ms"] == 3.0005
    assert run(["profiles", "show", "pixel-8"]) == 0
    shown = capsys.readouterr().out
    assert "benchmark_model" in shown and "3.00 ms" in shown and "unknown" in shown
    assert run(["profiles", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert run(["profiles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed
    target = shipped().target
    assert run(["profiles", "diff", target, target]) == 0
    assert "nothing around them is different" in capsys.readouterr().out
    assert run(["profiles", "export", "pixel-8", str(tmp_path / "bundle.json")]) == 0
    assert (tmp_path / "bundle.json").is_file()
    assert run(["profiles", "show", "pixel-88"]) == 2
