"""`edgedistill calibrate` and `edgedistill profiles`, with real files and a law in the clock's place."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from null_format import law_ms

import edgedistill as api
from edgedistill.base.errors import InputError, UnreachableError, UnsupportedError
from edgedistill.base.progress import Event, Note, StageAdvanced
from edgedistill.cli.app import run
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.latency.profile import DeviceProfile, Quantity
from edgedistill.devices.latency.profiles import find_profile
from edgedistill.documents.specs import Percentile, Precision
from edgedistill.documents.targets import load_target
from edgedistill.networks.counting import structure_of
from edgedistill.outputs import schemas
from edgedistill.pipeline.make import portable
from edgedistill.pipeline.measure import ANCHOR_SPEC, SCALE_SESSIONS, anchor_name, anchor_source

NULL_TARGET = Path(__file__).with_name("null.toml")
SMALL: dict[str, Any] = {"models": 4, "families": "resnet,mobilenetv4", "resolutions": "8,16"}
OPTIONS = ("--target", NULL_TARGET, "--models", 4, "--family", "resnet,mobilenetv4", "--resolution", "8,16")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    return tmp_path / "own"


def test_a_calibration_measures_what_it_says_and_predicts_the_law(own: Path) -> None:
    events: list[Event] = []
    profile = api.calibrate(NULL_TARGET, **SMALL, listener=events.append)
    assert (own / "null.fp32-int8.json").is_file()
    assert DeviceProfile.load(own / "null.fp32-int8.json") == profile
    assert len({row.spec for row in profile.rows}) == 4 and len(profile.rows) == 8
    anchor_ms = law_ms(structure_of(anchor_source().load(), ANCHOR_SPEC.resolution).multiply_adds, Precision.FP32)
    for row in profile.rows:
        wanted_ms = law_ms(row.structure.multiply_adds, row.precision)
        assert row.relative.p50 == pytest.approx(wanted_ms / anchor_ms, rel=0.01)
        assert row.relative.in_ms(Percentile.P50) == pytest.approx(wanted_ms, rel=0.01)
        assert row.measured(Quantity.LATENCY) == row.relative.in_ms(Percentile.P50) < row.relative.in_ms(Percentile.P95)
        assert row.spec.resolution in (8, 16) and row.spec.family in ("resnet", "mobilenetv4")
    assert len({row.relative.anchor_sha256 for row in profile.rows}) == 1
    assert {(e.precision, e.quantity) for e in profile.errors} == {
        (p, q) for p in (Precision.FP32, Precision.INT8) for q in Quantity
    }
    assert [e.done for e in events if isinstance(e, StageAdvanced) and e.stage == "calibrate"] == [1, 2, 3, 4]
    model = profile.latency_model(Precision.INT8, Percentile.P50)
    assert model is not None and not model.calibrated
    found = find_profile(load_target(NULL_TARGET), profile.facts)
    assert found is not None and found.differences == () and found.profile == profile
    assert any("synthetic" in note for note in profile.notes)


def test_the_same_again_comes_from_the_cache(own: Path) -> None:
    api.calibrate(NULL_TARGET, **SMALL)
    again = api.calibrate(NULL_TARGET, **SMALL, precisions="fp32", out=own / "mine" / "p.json")
    # The space and what the runtime takes of it; the anchor's file in two steps and its sessions; three steps a model.
    assert again.reused == 2 + (2 + SCALE_SESSIONS) + 4 * 3
    assert again.precisions == (Precision.FP32,) and len(again.rows) == 4
    assert not any("synthetic" in note for note in again.notes)
    assert (own / "mine" / "p.json").is_file()


def test_a_candidate_that_cannot_be_made_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = api.calibrate(NULL_TARGET, **SMALL)
    bad = whole.rows[2].spec

    def sometimes(bench: Any, source: Any, scheme: Any, form: Any) -> Any:
        if source.label.startswith(f"{bad.label} ("):
            raise UnsupportedError("this one cannot")
        return portable(bench, source, scheme, form)

    monkeypatch.setattr("edgedistill.commands.calibrate_target.portable", sometimes)
    events: list[Event] = []
    found = api.calibrate(NULL_TARGET, **SMALL, listener=events.append)
    specs = {row.spec for row in found.rows}
    assert len(specs) == 4 and bad not in specs
    assert [text for text in found.failures if "this one cannot" in text] == list(found.failures) and found.failures
    assert any(isinstance(e, Note) and e.warning and bad.label in e.text for e in events)


def test_where_nothing_can_be_made_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(bench: Any, source: Any, scheme: Any, form: Any) -> Any:
        raise UnsupportedError(f"no {scheme.label} here")

    monkeypatch.setattr("edgedistill.commands.calibrate_target.portable", never)
    with pytest.raises(UnsupportedError, match="nothing could be measured") as caught:
        api.calibrate(NULL_TARGET, **SMALL)
    assert {"no fp32 here", "no int8 here"} <= {p.what.rpartition(": ")[2] for p in caught.value.problems}


def test_wrong_wishes_are_told_at_once_and_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        api.calibrate(NULL_TARGET, models=3, families="rsnet", resolutions="4,x,32", precisions="fp32,mixed")
    assert [problem.where for problem in caught.value.problems] == [
        "--models",
        "--resolution",
        "--resolution",
        "--family",
        "--precision",
    ]
    with pytest.raises(InputError, match="is a folder"):
        api.calibrate(NULL_TARGET, **SMALL, out=tmp_path)
    with pytest.raises(InputError, match="to choose 400 from"):
        api.calibrate(NULL_TARGET, **SMALL | {"models": 400})
    with pytest.raises(UnreachableError):
        api.calibrate("pixel-6", **SMALL)


def test_the_commands(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*arguments: object) -> str:
        assert run([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    document = json.loads(answer("calibrate", *OPTIONS, "--json"))
    assert document["target"] == "null" and len(document["rows"]) == 8
    shown = answer("calibrate", *OPTIONS)
    assert "latency" in shown and "peak memory" in shown
    assert str(own / "null.fp32-int8.json") in shown and "uncalibrated" in shown
    (own / "broken.json").write_text("{")
    result = json.loads(answer("profiles", "--json"))
    jsonschema.validate(result, schemas.load("profiles"))
    assert [entry["target"] for entry in result["profiles"] if not entry["shipped"]] == ["null"]
    assert len([problem for problem in result["problems"] if str(own) in problem]) == 1
    listed = answer("profiles")
    assert "null device" in listed and document["measured_at"][:10] in listed
    assert "broken.json is not a device profile" in listed
    for arguments, code in (
        (("--target", "pixel-6"), 4),
        (("--target", "hots"), 2),
        ((*OPTIONS, "--precision", "x"), 2),
    ):
        assert run(["calibrate", *map(str, arguments)]) == code
        complaint = capsys.readouterr().err
        assert "error: " in complaint and "Traceback" not in complaint


def measured(cache: Path) -> dict[str, int]:
    """The finished profiles of a cache, with the time at which each was done."""
    done = cache.glob("profile/*/manifest.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in done if path.parent.suffix != ".part"}


@pytest.mark.slow
def test_a_killed_calibration_goes_on_where_it_stopped(loop: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = loop.start("calibrate", *OPTIONS, cache=cache)
    try:
        deadline = time.monotonic() + 120
        while len(measured(cache)) < SCALE_SESSIONS + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = measured(cache)
    assert len(before) >= SCALE_SESSIONS + 2, "sessions of the anchor, then of the first student in both precisions"
    again = loop.run("calibrate", *OPTIONS, "--json", cache=cache)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["reused"] >= 1 + (2 + SCALE_SESSIONS) + 2 * 3
    assert measured(cache).items() >= before.items()
    assert loop.damaged(cache) == []


def test_a_build_begins_with_what_a_calibration_measured(loop: Any, own: Path) -> None:
    profile = api.calibrate(NULL_TARGET, **SMALL)
    path = own / "null.fp32-int8.json"
    notes = " ".join(loop.build(loop.write("calibrated", "1ms", *loop.few)).notes)
    assert f"8 files of the profile {path.name} from {profile.measured_at[:10]} tell what to expect of others" in notes
    profile.model_copy(update={"anchor": "another network"}).save(path)
    notes = " ".join(loop.build(loop.write("otherwise", "1ms", *loop.few)).notes)
    assert f"its files ran in turn with another network; now they do with {anchor_name()}" in notes
