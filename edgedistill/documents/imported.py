"""Latencies that something else measured: an app's kit, or a vendor's program. Evidence for predictions, never a proof."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.documents.specs import Frozen, Precision

Ms = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Program(StrEnum):
    """What measured: LiteRT's and ONNX Runtime's and TensorRT's own programs, or a kit of ours inside an app."""

    BENCHMARK_MODEL = "benchmark_model"
    PERF_TEST = "onnxruntime_perf_test"
    TRTEXEC = "trtexec"
    KIT = "kit"


class Figures(Frozen):
    """What a program tells of one file, called `file` where it names it; null is what it does not tell."""

    program: Program
    file: str = ""
    device: str = ""
    p50_ms: Ms | None = None
    p95_ms: Ms | None = None
    p99_ms: Ms | None = None
    mean_ms: Ms | None = None
    load_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    first_run_ms: Ms | None = None
    picture_to_label_ms: Ms | None = None
    runs: Annotated[int, Field(ge=1)] | None = None

    @property
    def typical_ms(self) -> float | None:
        """The median, else the mean."""
        return self.p50_ms if self.p50_ms is not None else self.mean_ms


class ImportedLatency(Frozen):
    """Figures of a file of a build, which has this hash, on a target's device."""

    target: str
    sha256: str
    precision: Precision
    multiply_adds: Annotated[int, Field(gt=0)]
    figures: Figures
    imported_at: str


class ImportedLatencies(Frozen):
    """All that was imported for a target, in the user's own folder."""

    schema_version: Literal[1] = 1
    target: str
    latencies: tuple[ImportedLatency, ...]
