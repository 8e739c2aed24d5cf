"""ONNX Runtime's sessions of one thread on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.base.quiet import quiet_import

PROVIDER = "CPUExecutionProvider"


def session(model: Path | bytes, entries: Mapping[str, str] | None = None) -> Any:
    """An InferenceSession of one thread on a file, or on the bytes of one; `entries` are further settings of the session by
    name."""
    with quiet_import():
        import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for name, value in (entries or {}).items():
        options.add_session_config_entry(name, value)
    return ort.InferenceSession(model, options, providers=[PROVIDER])
