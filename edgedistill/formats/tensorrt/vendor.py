"""Which of NVIDIA's two builders is in use, and the one logger that it takes."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgedistill.base.errors import InputError, MissingDependencyError

VENDORS = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Vendor:
    """The builder in use: its module, name and version."""

    module: Any
    name: str
    version: str

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds for GPUs that are not in this machine."""
        return self.name == "tensorrt_rtx"


def local_capability() -> int | None:
    """Compute capability of this machine's GPU (89 for 8.9), None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return int(major) * 10 + int(minor)


def vendor() -> Vendor:
    """`tensorrt` where it is installed and a GPU is here to build on, else `tensorrt_rtx`. Raises MissingDependencyError."""
    here = importlib.util.find_spec("tensorrt") and local_capability() is not None
    return named_vendor("tensorrt" if here else "tensorrt_rtx")


@cache
def named_vendor(name: str) -> Vendor:
    """The vendor package `name`. Raises MissingDependencyError where it is not installed, InputError for a name that is none
    of theirs: it may come from a file, and importing a module runs it."""
    if name not in VENDORS:
        raise InputError(f"{name!a} builds no TensorRT engines", fix=f"build the engine with {' or '.join(VENDORS)}")
    if not importlib.util.find_spec(name):
        raise MissingDependencyError(
            "building a TensorRT engine needs the engine builder, which is not installed",
            fix="pip install 'edgedistill[tensorrt]' (Linux on x86-64)",
        )
    module = importlib.import_module(name)
    return Vendor(module, name, str(module.__version__))


@cache
def vendor_log(name: str) -> Any:
    """The one logger of a vendor's package: `.lines` holds the (severity, text) of warnings and errors in the order in which
    they came; 0 is the most severe. TensorRT keeps the first logger that it is given as long as the process lives."""
    trt = named_vendor(name).module

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[tuple[int, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.WARNING):
                self.lines.append((int(severity), message))

    return Log()
