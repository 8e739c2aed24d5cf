"""What a runtime is: five methods. What a measuring session is asked, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgedistill.artifacts import (
    CompiledArtifact,
    Environment,
    ExportedModel,
    Fallbacks,
    Inspection,
    OpTiming,
    Profile,
    Session,
    TensorSignature,
)
from edgedistill.errors import EdgedistillError, Problem
from edgedistill.specs import ComputedBy, Format, Frozen, Target

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


class NotRunnableError(EdgedistillError):
    """The artifact is fine, but this machine lacks what runs it; the message says what."""


class SessionJob(Frozen):
    """One measuring process, as the agent on the device is asked for it.

    `format` says which runtime loads `model`. `inputs` is a .npy file of values for the input called `input_name`, in
    the file's own dtype and layout without its batch dimension, [n, ...], cycled through at batch 1: for our own
    artifacts uint8 images, [n, 3, R, R] for ONNX and ExecuTorch, [n, R, R, 3] for LiteRT. An empty `input_name` means
    the first input (ExecuTorch's have no names). Inputs without values are filled with seeded random ones of the
    model's own dtype and shape; a dimension that the model leaves open takes its size from `input_shapes`, else 1.

    Runs go on for `seconds`, and until there are `min_runs`, but end after four times `seconds`. With an `anchor`, a
    file of the same format, the two run in turn for `burst_s` and at least 5 runs each; its inputs are random.
    `pinned_cpus` empty: the device chooses. `operators` asks for a run apart with the runtime's own profiler on.
    """

    model: Path
    format: Format = Format.ONNX
    inputs: Path | None = None
    input_name: str = ""
    input_shapes: dict[str, tuple[int, ...]] = {}
    threads: Annotated[int, Field(ge=1)]
    pinned_cpus: tuple[int, ...] = ()
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    min_runs: Annotated[int, Field(ge=1)] = 1
    anchor: Path | None = None
    burst_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.04
    operators: bool = False


class SessionReport(Frozen):
    """What the agent answers."""

    session: Session
    environment: Environment
    op_timings: tuple[OpTiming, ...]


Timed = Callable[[], int]
"""One run of a loaded model; returns its duration in ns."""


class Sampler(Protocol):
    """Warms up and samples one model, or two in turn, within a job's limits. Returns the fields of Session that this gives:
    `samples_ns`, `anchor_ns`, `turns`, `warmup_runs`."""

    def __call__(self, models: Sequence[Timed], job: SessionJob, /) -> dict[str, Any]: ...


@dataclass(frozen=True)
class MeasurementProtocol:
    """How a session is taken: by `execute` (a device's way to run the agent) or, where a runtime measures in its own
    process, by `sample`. Both are handed in, so that runtimes know no device. The limits are those of SessionJob;
    `anchor` is a file of the same format that runs in turn with the one measured; `input_shapes` serves models with open
    dimensions."""

    target: Target
    seconds: float
    min_runs: int
    operators: bool
    execute: Callable[[SessionJob], SessionReport]
    sample: Sampler
    anchor: CompiledArtifact | None = None
    burst_s: float = 0.04
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def job(self, artifact: CompiledArtifact) -> SessionJob:
        """What each session of `artifact` is asked, without inputs."""
        return SessionJob(
            model=artifact.path.absolute(),
            format=artifact.format,
            threads=self.target.threads,
            input_shapes=dict(self.input_shapes),
            seconds=self.seconds,
            min_runs=self.min_runs,
            anchor=None if self.anchor is None else self.anchor.path.absolute(),
            burst_s=self.burst_s,
            operators=self.operators,
        )


def fallback_problems(name: str, fallbacks: Fallbacks, target: Target) -> tuple[Problem, ...]:
    """The operations of the file `name` that the target's accelerator leaves to the CPU, each with its way out. Empty
    for a target without one, where they are allowed, and where nothing is known of them."""
    if not target.accelerator or target.allow_fallbacks:
        return ()
    return tuple(
        Problem(
            f"{name}: {count} x {operation}",
            f"{fallbacks.by} does not compute it, and on {target.name} it would fall back from the {target.accelerator} to "
            "the CPU",
            "replace the operation in the model, or set allow_fallbacks = true in [export]",
        )
        for operation, count in sorted((fallbacks.elsewhere or {}).items())
    )


def signature_problems(
    model: ExportedModel, inputs: tuple[TensorSignature, ...], outputs: tuple[TensorSignature, ...]
) -> list[Problem]:
    """Where a file's inputs and outputs are not those that its exporter stated."""
    return [
        Problem(
            f"{model.path.name}: {kind}",
            f"the file has {', '.join(t.shown for t in found) or 'none'}; stated were {', '.join(t.shown for t in stated)}",
            "export it again",
        )
        for kind, found, stated in (("inputs", inputs, model.inputs), ("outputs", outputs, model.outputs))
        if found != stated
    ]


class Runtime(Protocol):
    """A runtime: makes a target's file from a portable model, runs it, measures it, looks inside. `computed_by` says
    what `run` computes with on this machine."""

    format: Format
    computed_by: ComputedBy

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """What of `model` this runtime cannot do on `target`: operation, place and way out. Empty if all is well."""
        ...

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Make the file the target loads inside `folder` (whole or not at all). Raises UnsupportedError."""
        ...

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits float32 [B, classes] for each batch of uint8 [B, 3, R, R]. Loads once. Raises NotRunnableError before
        the first batch where this machine cannot run the artifact."""
        ...

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """One session: latency samples at batch 1, cycling through `inputs` (uint8 [n, 3, R, R]); None: the runtime makes
        random inputs of the file's own signature. Raises NotRunnableError."""
        ...

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Read the file back and check it as far as this machine can."""
        ...
