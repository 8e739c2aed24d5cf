"""A device profile: its models, its errors, and which one is found for a device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from factories import make_environment
from structures import law, matrix_of, structures

from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.devices.latency import profiles
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.latency.model import LatencyModel, Row
from edgedistill.devices.latency.profile import CalibrationRow, DeviceProfile, LeftOutError, Quantity, left_out_error
from edgedistill.devices.latency.profiles import differences, find_profile, list_profiles, own_path
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.measurements import Percentiles, RelativeLatency
from edgedistill.documents.specs import Format, Percentile, Precision, StudentSpec, Target
from edgedistill.documents.targets import load_target
from edgedistill.outputs import schemas
from edgedistill.pipeline.measure import anchor_name

FACTS = {
    "device": "a board",
    "processor": "a CPU",
    "machine": "m",
    "power mode": "performance",
    "onnxruntime": "1.23.0",
}
ANCHOR_MS = Percentiles(p50=1, p95=2, p99=3)


def make_rows(count: int, precision: Precision = Precision.FP32, noise: float = 0.0) -> tuple[CalibrationRow, ...]:
    """Latency is a law at p50, twice that at p95, as the anchor's; what a file's own slowest runs show is not compared."""
    found = structures(count, 3)
    rng = np.random.default_rng(7)
    latencies = (matrix_of(found) @ law(3)) * np.exp(rng.normal(0, noise, count))
    return tuple(
        CalibrationRow(
            spec=StudentSpec(family="resnet", width=1 + number / 100, depth=1.0, resolution=32),
            structure=structure,
            precision=precision,
            relative=RelativeLatency(
                p50=latency, p95=4 * latency, p99=7 * latency, anchor_sha256="0" * 64, anchor_ms=ANCHOR_MS
            ),
            bytes=structure.weights_bytes + 1000,
            peak_memory_bytes=30_000_000 + structure.weights_bytes + 2 * structure.activation_bytes,
            sha256=f"{number:064d}",
        )
        for number, (structure, latency) in enumerate(zip(found, latencies.tolist(), strict=True))
    )


@cache
def errors_of(rows: tuple[CalibrationRow, ...]) -> tuple[LeftOutError, ...]:
    return tuple(filter(None, (left_out_error(rows, quantity) for quantity in Quantity)))


def make_profile(rows: Sequence[CalibrationRow] = make_rows(24), **changes: Any) -> DeviceProfile:
    precisions = tuple(dict.fromkeys(row.precision for row in rows))
    values: dict[str, Any] = {
        "edgedistill_version": "0.1.0",
        "target": "host",
        "title": "a board",
        "runtime": Format.ONNX,
        "threads": 1,
        "environment": make_environment(runtime="onnxruntime", runtime_version="1.23.0"),
        "facts": FACTS,
        "anchor": "resnet, 1 multiply-add",
        "precisions": precisions,
        "rows": tuple(rows),
        "errors": errors_of(tuple(rows)),
        "measured_at": "2026-01-02T03:04:05+00:00",
        "seconds": 100.0,
        "reused": 0,
    }
    return DeviceProfile.model_validate(values | changes)


HOST = load_target("host")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder; nothing is shipped."""
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    monkeypatch.setattr(profiles, "shipped_folder", lambda: tmp_path / "shipped")
    return tmp_path / "own"


# -- the document -------------------------------------------------------------------------------------------------


def test_models_are_of_one_precision_and_percentile() -> None:
    profile = make_profile([*make_rows(24), *make_rows(2, Precision.INT8)])
    half, whole = (profile.latency_model(Precision.FP32, p) for p in (Percentile.P50, Percentile.P95))
    assert half is not None and whole is not None
    for structure in structures(5, 9):
        expected = float((matrix_of([structure]) @ law(3))[0])
        assert half.predict(structure).value == pytest.approx(expected, rel=0.4)
        assert whole.predict(structure).value == pytest.approx(2 * half.predict(structure).value)
    assert "24 models" in half.basis and "2026-01-02" in half.basis
    memory, size = (profile.bytes_model(Precision.FP32, q) for q in (Quantity.MEMORY, Quantity.SIZE))
    assert memory is not None and size is not None
    row = profile.rows[5]
    assert memory.predict(row.structure).value == pytest.approx(row.peak_memory_bytes, rel=0.02)
    assert size.predict(row.structure).value == pytest.approx(row.bytes, rel=0.02)
    assert profile.latency_model(Precision.INT8, Percentile.P50) is None
    assert profile.bytes_model(Precision.INT8, Quantity.MEMORY) is None


def test_memory_that_no_row_tells_is_not_predicted() -> None:
    rows = [row.model_copy(update={"peak_memory_bytes": None}) for row in make_rows(24)]
    profile = make_profile(rows)
    assert {error.quantity for error in profile.errors} == {Quantity.LATENCY, Quantity.SIZE}
    assert profile.bytes_model(Precision.FP32, Quantity.MEMORY) is None
    assert profile.bytes_model(Precision.FP32, Quantity.SIZE) is not None


def test_the_error_is_of_rows_that_the_model_never_saw() -> None:
    rows = make_rows(24, noise=0.1)
    found = left_out_error(rows, Quantity.LATENCY)
    assert found is not None
    expected = []
    for row in rows:
        others = [Row(r.structure, r.relative.in_ms(Percentile.P50)) for r in rows if r is not row]
        model = LatencyModel.fit(others)
        expected.append(abs(model.predict(row.structure).value / row.relative.in_ms(Percentile.P50) - 1))
    assert found.median_error == pytest.approx(np.median(expected))
    assert found.mape == pytest.approx(np.mean(expected))
    assert found.within_10 == pytest.approx(np.mean(np.array(expected) <= 0.1))
    assert 0.8 <= found.coverage <= 1
    assert (found.rows, found.left_out) == (24, 1)
    assert left_out_error(rows[:3], Quantity.LATENCY) is None


def test_a_profile_fits_its_schema_and_comes_back_equal(tmp_path: Path) -> None:
    profile = make_profile()
    profile.save(tmp_path / "p.json")
    assert DeviceProfile.load(tmp_path / "p.json") == profile
    content = json.loads((tmp_path / "p.json").read_text())
    jsonschema.validate(content, schemas.load("device_profile"), cls=jsonschema.Draft202012Validator)
    del content["facts"]
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"is not a device profile: facts: Field required"):
        DeviceProfile.load(tmp_path / "p.json")


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read"), ("{", "is not a device profile: Invalid")])
def test_a_file_that_is_no_profile_is_the_users_error(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        DeviceProfile.load(path)
    assert str(path) in caught.value.message


# -- which one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "facts", "says"),
    [
        ({}, {}, ()),
        ({"threads": 4}, {}, ("threads: measured with 4, here 1",)),
        ({}, {"onnxruntime": "1.24.1"}, ("onnxruntime: measured with 1.23.0, here 1.24.1",)),
        ({}, {"memory": "1 GiB"}, ()),
        ({}, {"processor": "another"}, ("processor: measured with a CPU, here another",)),
        ({"runtime": Format.LITERT}, {}, ("runtime: measured with litert, here onnx",)),
        ({"facts": {}}, {"processor": "another"}, ()),
    ],
)
def test_differences(changes: dict[str, Any], facts: dict[str, str], says: tuple[str, ...]) -> None:
    assert differences(make_profile(**changes), HOST, FACTS | facts) == says


def test_the_profile_that_covers_most_and_differs_least_is_found(own: Path, tmp_path: Path) -> None:
    assert find_profile(HOST, FACTS) is None
    fp32, int8 = make_rows(6), make_rows(6, Precision.INT8)
    make_profile(fp32, threads=4).save(own / "a.json")
    make_profile(fp32).save(tmp_path / "shipped" / "b.json")
    make_profile(fp32, target="pixel-6").save(own / "c.json")
    (own / "broken.json").write_text("{")
    found = find_profile(HOST, FACTS)
    assert found is not None
    assert (found.path.name, found.shipped, found.differences) == ("b.json", True, ())
    make_profile(fp32).save(own / "d.json")
    same = find_profile(HOST, FACTS)
    assert same is not None and same.path.name == "d.json"
    make_profile([*fp32, *int8], threads=2).save(own / "e.json")
    both = find_profile(HOST, FACTS)
    assert both is not None and both.path.name == "e.json" and len(both.differences) == 1
    single = find_profile(HOST, FACTS, [Precision.FP32])
    assert single is not None and single.path.name == "d.json"
    assert find_profile(HOST, FACTS, [Precision.INT4_WEIGHTS]) is None


def test_a_file_for_each_target_and_set_of_precisions(own: Path) -> None:
    odd = HOST.model_copy(update={"name": "my board/2"})
    paths = {
        own_path(HOST, [Precision.INT8, Precision.FP32]),
        own_path(HOST, [Precision.FP32, Precision.INT8]),
        own_path(HOST, [Precision.FP32]),
        own_path(odd, [Precision.FP32]),
    }
    assert {path.parent for path in paths} == {own}
    assert sorted(path.name for path in paths) == ["host.fp32-int8.json", "host.fp32.json", "my_board_2.fp32.json"]


def test_the_list_compares_with_this_machine_and_names_broken_files(own: Path, tmp_path: Path) -> None:
    here = LocalDevice().facts("onnxruntime")
    make_profile(facts=here).save(own / "same.json")
    make_profile(facts=here | {"onnxruntime": "0.1"}, threads=8).save(tmp_path / "shipped" / "other.json")
    make_profile(target="pixel-6").save(own / "phone.json")
    make_profile(target="unknown-board").save(own / "unknown.json")
    (own / "broken.json").write_text("not JSON")
    result = list_profiles(lambda form: {Format.ONNX: "onnxruntime"}.get(form, ""))
    found = {Path(entry.path).name: entry for entry in result.profiles}
    assert list(found) == ["same.json", "other.json", "phone.json", "unknown.json"]
    assert found["same.json"].differences == ()
    assert found["other.json"].shipped
    assert [text.partition(":")[0] for text in found["other.json"].differences or ()] == [
        "threads",
        "onnxruntime",
    ]
    assert found["phone.json"].differences is None and found["unknown.json"].differences is None
    assert len(result.problems) == 1 and "broken.json is not a device profile" in result.problems[0]
    jsonschema.validate(json.loads(result.model_dump_json()), schemas.load("profiles"))


def test_the_command_warns_of_what_differs(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profiles"]) == 0
    assert "edgedistill calibrate" in capsys.readouterr().out
    make_profile(facts=LocalDevice().facts(), threads=8).save(tmp_path / "shipped" / "host.json")
    make_profile(facts=LocalDevice().facts()).save(own / "mine.json")
    (own / "broken.json").write_text("{")
    assert run(["profiles"]) == 0
    shown = capsys.readouterr().out
    warnings = [line for line in shown.splitlines() if line.startswith("warning: ")]
    assert warnings[0] == "warning: host from 2026-01-02: threads: measured with 8, here 1"
    assert len(warnings) == 2 and "broken.json" in warnings[1]
    assert "shipped" in shown and str(own / "mine.json") in shown
    (latency,) = (error for error in make_profile().errors if error.quantity is Quantity.LATENCY)
    assert f"fp32 {latency.mape * 100:.1f}%" in shown


def test_profiles_that_are_shipped_can_be_read() -> None:
    """Those of this checkout, if there are any; each is of a target that is shipped too."""
    folder = Path(__file__).parents[3] / "profiles"
    assert folder.is_dir()
    for path in folder.glob("*.json"):
        profile = DeviceProfile.load(path)
        target: Target = load_target(profile.target)
        assert target.runtime is profile.runtime
        assert profile.anchor == anchor_name(), "no build would use it: calibrate again"
