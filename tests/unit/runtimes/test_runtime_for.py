"""Every format has a runtime; installed packages may take one over."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from edgedistill import runtimes
from edgedistill.errors import InputError
from edgedistill.runtimes import runtime_for
from edgedistill.specs import Format


class Other:
    """A third party's."""


@pytest.mark.parametrize("format", list(Format))
def test_every_format_has_its_runtime(format: Format) -> None:
    runtime = runtime_for(format)
    assert runtime.format is format
    for method in ("unsupported", "compile", "run", "profile", "inspect"):
        assert callable(getattr(runtime, method))


def test_a_package_takes_a_format_over_and_two_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    points = [EntryPoint("onnx", "test_runtime_for:Other", runtimes.ENTRY_POINTS)]
    monkeypatch.setattr(runtimes, "entry_points", lambda **wanted: EntryPoints(points).select(**wanted))
    assert type(runtime_for(Format.ONNX)).__name__ == "Other"
    assert runtime_for(Format.NULL).format is Format.NULL
    points.append(EntryPoint("onnx", "another:Runtime", runtimes.ENTRY_POINTS))
    with pytest.raises(InputError, match="several packages provide a runtime for onnx"):
        runtime_for(Format.ONNX)


def test_no_sdk_and_no_torch_before_it_is_needed() -> None:
    code = (
        "import sys; from edgedistill.runtimes import runtime_for; from edgedistill.specs import Format;"
        "import edgedistill.runtimes.onnxruntime, edgedistill.devices.local, edgedistill.devices.stats;"
        "import edgedistill.verification;"
        "runtime_for(Format.ONNX);"
        "print(sorted({'onnxruntime', 'onnx', 'torch', 'coremltools', 'tensorrt', 'scipy'} & set(sys.modules)))"
    )
    root = Path(runtimes.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
