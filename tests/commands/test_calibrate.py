"""A small calibration of this machine with ONNX Runtime and a real clock."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgedistill as api
from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.devices.latency.profile import DeviceProfile, Quantity
from edgedistill.devices.latency.profiles import find_profile
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.specs import Percentile, Precision
from edgedistill.documents.targets import load_target


@pytest.mark.slow
def test_this_machine_is_calibrated_in_fp32_and_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "own"))
    profile = api.calibrate("host", models=4, families="resnet", resolutions="8,32", precisions="fp32,int8")
    assert profile.environment.runtime == "onnxruntime" and profile.environment.threads == 1
    fp32, int8 = profile.of(Precision.FP32), profile.of(Precision.INT8)
    assert len(fp32) == len(int8) == 4
    for wide, narrow in zip(fp32, int8, strict=True):
        assert wide.spec == narrow.spec and wide.sha256 != narrow.sha256
        assert wide.relative.p50 > 0 and wide.relative.anchor_sha256 == narrow.relative.anchor_sha256
        assert wide.measured(Quantity.LATENCY) == pytest.approx(wide.relative.p50 * wide.relative.anchor_ms.p50)
        assert wide.peak_memory_bytes > 10_000_000
        if wide.structure.weights_bytes > 500_000:
            assert wide.bytes == pytest.approx(wide.structure.weights_bytes, rel=0.1)
            assert narrow.bytes < 0.5 * wide.bytes
    # What takes a hundred times the work takes longer, whatever else the machine does meanwhile.
    least, most = (pick(fp32, key=lambda row: row.structure.multiply_adds) for pick in (min, max))
    assert most.structure.multiply_adds > 20 * least.structure.multiply_adds
    assert most.relative.p50 > least.relative.p50
    model = profile.latency_model(Precision.INT8, Percentile.P95)
    assert model is not None and not model.calibrated
    found = find_profile(load_target("host"), LocalDevice().facts(), [Precision.INT8])
    assert found is not None and found.differences == ()
    assert DeviceProfile.load(found.path) == profile
