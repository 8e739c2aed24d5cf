"""What the next profile of a file says of the last one."""

from __future__ import annotations

from pathlib import Path

import factories
import pytest

from edgedistill.commands import kept_profiles
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.latency.profiles import list_profiles
from edgedistill.documents.measurements import OpTiming, Profile
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.specs import Format
from edgedistill.outputs.explain.profiled import since_sentence


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    return tmp_path / "own"


def profile(*medians_us: int, us: float = 10.0, **environment: object) -> Profile:
    """Sessions with these medians."""
    sessions = [factories.make_session([us * 1000] * 40) for us in medians_us]
    timings = (OpTiming(name="a", op_type="Conv", median_us=us), OpTiming(name="b", op_type="Relu", median_us=1))
    where = factories.make_environment(**environment)
    return factories.make_profile(*sessions, environment=where, op_timings=timings)


def result() -> ProfileResult:
    return ProfileResult(
        path="model.onnx",
        format=Format.ONNX,
        sha256="a",
        bytes=1,
        latency={"kind": "unknown", "reason": "made up", "device": "board"},
        peak_memory_bytes=1,
        load_ms=1.0,
        op_timings=(),
        environment=None,
        notes=(),
    )


def test_the_first_has_none_before_it_and_the_newest_is_kept(folder: Path) -> None:
    assert kept_profiles.replace_kept(result(), profile(100, 101, 99), "") is None
    second = kept_profiles.replace_kept(result(), profile(110, 111, 109, us=14), "")
    assert second is not None and second.p50_ratio == pytest.approx(1.1, rel=1e-3)
    assert second.interval is not None and 1.05 < second.interval[0] < 1.1 < second.interval[1] < 1.15
    assert [(change.name, change.before_us, change.now_us) for change in second.operators] == [("a", 10, 14)]
    third = kept_profiles.replace_kept(result(), profile(110, 111, 109, us=14), "")
    assert third is not None and third.p50_ratio == 1 and third.operators == ()
    assert len(list((folder / "files").iterdir())) == 1
    assert list_profiles(lambda form: "").problems == (), "they are no device profiles"


def test_what_is_different_around_it_is_told() -> None:
    kept_profiles.replace_kept(result(), profile(100), "")
    found = kept_profiles.replace_kept(result(), profile(120, runtime_version="2", power="powersave"), "")
    assert found is not None and found.interval is None, "one session says nothing of how sessions differ"
    assert found.environment == ("runtime_version: 1 became 2", "power: unknown became powersave")
    assert since_sentence(found).endswith("; runtime_version: 1 became 2; power: unknown became powersave")


def test_others_are_not_mixed_with_it() -> None:
    kept_profiles.replace_kept(result(), profile(100), "board 1")
    assert kept_profiles.replace_kept(result(), profile(100), "board 2") is None, "a device that is alike"
    other = profile(100).model_copy(update={"artifact_sha256": "another"})
    assert kept_profiles.replace_kept(result(), other, "board 1") is None
    beside = profile(100).model_copy(update={"anchor_sha256": "anchor"})
    assert kept_profiles.replace_kept(result(), beside, "board 1") is None, "in turn with another file it is slower"
    assert kept_profiles.replace_kept(result(), profile(100, device="another"), "board 1") is None


def test_a_file_that_is_none_is_replaced(folder: Path) -> None:
    path = kept_profiles.kept_path(profile(100), "")
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 0}')
    assert kept_profiles.replace_kept(result(), profile(100), "") is None
    assert kept_profiles.read_kept(path) is not None
