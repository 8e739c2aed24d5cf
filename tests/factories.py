"""Objects that many tests need and whose values do not matter there; what does is given by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedistill.artifacts import CompiledArtifact, Environment
from edgedistill.specs import Format, Precision, QuantScheme


def make_environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "device": "board",
        "os": "os",
        "machine": "m",
        "cpu": "c",
        "runtime": "r",
        "runtime_version": "1",
        "provider": "p",
        "threads": 1,
        "pinned_cpus": (0,),
        "power": "unknown",
        "temperature_c": None,
    }
    return Environment.model_validate(values | changes)


def make_artifact(precision: Precision = Precision.FP32, **changes: Any) -> CompiledArtifact:
    values: dict[str, Any] = {
        "path": Path("folder/model.onnx"),
        "format": Format.ONNX,
        "scheme": QuantScheme(precision=precision),
        "target": "host",
        "toolchain": {},
        "sha256": "0" * 64,
        "bytes": 1000,
    }
    return CompiledArtifact.model_validate(values | changes)
