"""Latencies that something else measured: an app's kit, or a vendor's program. Evidence for predictions, never a proof."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.documents.specs import Frozen, Precision

Ms = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Program(StrEnum):
    """What measured: LiteRT's (in C++ and in Python), ONNX Runtime's and TensorRT's own programs, or a kit of ours inside
    an app."""

    BENCHMARK_MODEL = "benchmark_model"
    LITERT_BENCHMARK = "litert-benchmark"
    PERF_TEST = "onnxruntime_perf_test"
    TRTEXEC = "trtexec"
    KIT = "kit"

    @classmethod
    def of_path(cls, path: str) -> Program | None:
        """The vendor's program that lies at `path`, by its name there, as `android_aarch64_benchmark_model`; None for
        another."""
        name = PurePath(path).name.lower()
        return next((program for program in cls if program is not cls.KIT and program in name), None)


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


class Told(Frozen):
    """A figure over a program's sessions: the geometric mean of what each told, and its 95% interval (Student's of the
    logs), null for one session."""

    value_ms: Ms
    interval_ms: tuple[float, float] | None


class ProgramComparison(Frozen):
    """How fast a file is beside the `other`, of which a session followed each of its own: the mean over those of the ratio
    of their medians, or of their means where `of` says so, with its 95% interval. Below 1 the file is the faster one."""

    other: str
    sessions: tuple[Figures, ...]
    of: Literal["p50", "mean"]
    ratio: Annotated[float, Field(gt=0)]
    interval: tuple[float, float] | None

    @property
    def told(self) -> bool:
        """Whether the sessions tell which one is faster."""
        return self.interval is not None and not self.interval[0] <= 1 <= self.interval[1]


class ByProgram(Frozen):
    """What a vendor's program on the device told of a file, in several short sessions. Null is what it does not tell. It
    ran alone each time, so it proves nothing."""

    program: Program
    sessions: Annotated[tuple[Figures, ...], Field(min_length=1)]
    p50: Told | None
    p95: Told | None
    p99: Told | None
    mean: Told | None
    comparison: ProgramComparison | None = None


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
