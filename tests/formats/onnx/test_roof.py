"""The files that show what ONNX Runtime reaches: measured here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgedistill.devices.base import run_pushed
from edgedistill.devices.latency.roofs import measure_roofs
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.specs import Format
from edgedistill.formats import SHIPPED, format_for


def test_roofs_of_this_machine(tmp_path: Path) -> None:
    form = format_for(Format.ONNX)
    assert form.on_device is not None
    files = {name: (file.path, file.op_type) for name, file in form.roof_files(tmp_path).items()}
    assert max(path.stat().st_size for path, _ in files.values()) < 2**21, "quickly brought to a device"
    device = LocalDevice(lock_file=tmp_path / "lock")
    roofs = measure_roofs(files, form.on_device, 1, partial(run_pushed, device))
    assert 1e9 < roofs.fp32_multiply_adds_per_s < 1e12, "a core multiplies two to sixteen numbers in a clock, no more"
    assert roofs.int8_multiply_adds_per_s > 1e9
    assert 1e8 < roofs.memory_bytes_per_s < roofs.cache_bytes_per_s < 1e12


def test_formats_without_shapes_in_their_traces_have_none(tmp_path: Path) -> None:
    without = [form for form in SHIPPED if form is not Format.ONNX]
    assert [dict(format_for(form).roof_files(tmp_path)) for form in without] == [{}] * len(without)
