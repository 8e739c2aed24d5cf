"""Every format has its object; installed packages may take one over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from edgedistill import formats as runtimes
from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for


class Other:
    """A third party's."""


@pytest.mark.parametrize("format", list(Format))
def test_every_format_has_its_object(format: Format) -> None:
    found = format_for(format)
    assert found.format is format and found.suffixes[0].startswith(".")
    for method in ("convert", "open", "unsupported", "compile", "run", "profile", "inspect"):
        assert callable(getattr(found, method))


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Formats are found once a process."""
    format_for.cache_clear()
    yield
    format_for.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_a_package_takes_a_format_over_and_two_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    points = [EntryPoint("onnx", "test_format_for:Other", runtimes.ENTRY_POINTS)]
    monkeypatch.setattr(runtimes, "entry_points", lambda **wanted: EntryPoints(points).select(**wanted))
    assert type(format_for(Format.ONNX)).__name__ == "Other"
    assert format_for(Format.LITERT).format is Format.LITERT
    points.append(EntryPoint("onnx", "another:Runtime", runtimes.ENTRY_POINTS))
    format_for.cache_clear()
    with pytest.raises(InputError, match="several packages provide the format onnx"):
        format_for(Format.ONNX)


def test_no_sdk_and_no_torch_before_it_is_needed() -> None:
    code = (
        "import sys; from edgedistill.formats import format_for; from edgedistill.documents.specs import Format;"
        "import edgedistill.formats.onnx.runtime, edgedistill.devices.local, edgedistill.devices.stats;"
        "import edgedistill.formats.running;"
        "format_for(Format.ONNX);"
        "print(sorted({'onnxruntime', 'onnx', 'torch', 'coremltools', 'tensorrt', 'scipy'} & set(sys.modules)))"
    )
    root = Path(runtimes.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
