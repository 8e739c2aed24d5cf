"""A device whose disk is full: a small file system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import built_runner
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pipe_transport import PipeTransport
from small_models import save_classifier

from edgedistill.base.errors import UnreachableError
from edgedistill.devices.base import run_pushed
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import PythonServer, RunnerServer, Server
from edgedistill.devices.session import SessionJob
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

DISK_BYTES = 40 * 2**20
"""Room for the library that the runner brings, and not for the large model besides."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system in a file."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext2", "mount", "umount"))):
        pytest.skip("needs root and mount to make a small file system")
    image, point = tmp_path / "disk", tmp_path / "point"
    with image.open("wb") as stream:
        stream.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext2", "-q", "-F", image], check=True)
    point.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, point], capture_output=True, check=False).returncode:
        pytest.skip("this system mounts no files")
    (point / "lost+found").rmdir()
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture(params=["python", "runner"])
def server(request: pytest.FixtureRequest, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("TMPDIR", str(disk.parent))
    if request.param == "python":
        return PythonServer(sys.executable)
    return RunnerServer(built_runner.runner(), built_runner.library())


def job(model: Path) -> SessionJob:
    loader = format_for(Format.ONNX).on_device
    return SessionJob(model=model, loader=loader, threads=1, seconds=0.1)


def large(path: Path) -> Path:
    """A file of 42 MB."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal(10_500_000).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [10_500_000])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_does_not_fit_is_told_and_what_fits_is_measured(disk: Path, server: Server, tmp_path: Path) -> None:
    with closing(RemoteDevice(PipeTransport(), server, folder=str(disk))) as device:
        with pytest.raises(UnreachableError, match=r"has no room: .* bytes cannot be kept") as caught:
            run_pushed(device, job(large(tmp_path / "large.onnx")))
        assert "No space left on device" in caught.value.message
        assert "`folder` in your devices.toml" in caught.value.fix
        report = run_pushed(device, job(save_classifier(tmp_path / "small.onnx")))
        assert len(report.session.samples_ns) > 10
    assert list(disk.iterdir()) == [], "nothing is left, the half of a file neither"


def test_a_disk_without_room_for_our_own_files(disk: Path, server: Server, tmp_path: Path) -> None:
    with (disk / "filler").open("wb") as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(b"\0" * 4096)
            stream.flush()
    with closing(RemoteDevice(PipeTransport(), server, folder=str(disk))) as device:
        with pytest.raises(UnreachableError) as caught:
            run_pushed(device, job(save_classifier(tmp_path / "small.onnx")))
        assert caught.value.fix
    (disk / "filler").unlink()
    assert list(disk.iterdir()) == []
