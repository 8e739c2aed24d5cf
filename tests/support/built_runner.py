"""The C++ runner, built once for all tests of a machine, and the library of ONNX Runtime that the wheel carries."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from shared import SHARED

from edgedistill.devices import servers

SOURCES = servers.RUNNER_SOURCES
HEADERS = [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]
ARM64: dict[str, Any] = {
    "compiler": "aarch64-linux-gnu-g++",
    "library": Path("/usr/lib/aarch64-linux-gnu/libonnxruntime.so.1.21"),
}


def library() -> Path:
    """The wheel's own."""
    return next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))


def litert() -> Path:
    """The library of LiteRT that its wheel carries. Skips the test without it."""
    package = pytest.importorskip("ai_edge_litert")
    found = Path(package.__file__).with_name("libLiteRt.so")
    if not found.is_file():
        pytest.skip("the wheel of LiteRT has no library of its C API")
    return found


def runner(compiler: str = "g++") -> Path:
    """The program, for the architecture of `compiler`. Skips the test where it cannot be built."""
    header = next((folder for folder in HEADERS if (folder / "onnxruntime_c_api.h").is_file()), None)
    if header is None or not all(map(shutil.which, ("cmake", compiler))):
        pytest.skip(f"needs cmake, {compiler} and ONNX Runtime's headers: apt-get install cmake libonnxruntime-dev")
    hashed = hashlib.sha256(compiler.encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file() and "build" not in path.parts):
        hashed.update(path.read_bytes())
    folder = SHARED / f"edgedistill-runner-build-{os.getuid()}-{hashed.hexdigest()[:16]}"
    program = folder / "edgedistill-runner"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not program.exists():
            settings = [
                f"-DONNXRUNTIME_INCLUDE={header}",
                f"-DCMAKE_CXX_COMPILER={compiler}",
                "-DCMAKE_CXX_FLAGS=-Werror",
            ]
            if compiler != "g++":
                settings += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
            build = folder / "build"
            for command in (["cmake", "-S", SOURCES, "-B", build, *settings], ["cmake", "--build", build]):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            shutil.copy(build / "edgedistill-runner", folder / "part")
            (folder / "part").rename(program)
    return program
