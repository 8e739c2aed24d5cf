"""What a measuring session is asked, and what it answers, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from edgedistill.base.errors import EdgedistillError
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Environment, Fallbacks, OpTiming, Session
from edgedistill.documents.package import Step
from edgedistill.documents.specs import Frozen, Target


class NotRunnableError(EdgedistillError):
    """The artifact is fine, but this machine lacks what runs it; the message says what."""


class PictureWay(Frozen):
    """The way from a decoded picture of `width` x `height` pixels, with transparency, to a label: by `steps` to what the
    model takes, in that layout."""

    steps: tuple[Step, ...]
    layout: Literal["NCHW", "NHWC"]
    width: Annotated[int, Field(ge=1)] = 640
    height: Annotated[int, Field(ge=1)] = 480


class SessionJob(Frozen):
    """One measuring process, as the agent on the device is asked for it.

    `loader` is the format's file that loads `model` on the device, and runs it; None where a format is measured in this
    process. `inputs` is a .npy file of values for the input called `input_name`, in the file's own dtype and layout without
    its batch dimension, [n, ...], cycled through at batch 1: for our own artifacts uint8 images, [n, 3, R, R] for ONNX and
    ExecuTorch, [n, R, R, 3] for LiteRT. An empty `input_name` means the first input (ExecuTorch's have no names). Inputs
    without values are filled with seeded random ones of the model's own dtype and shape; a dimension that the model leaves
    open takes its size from `input_shapes`, else 1.

    Runs go on for `seconds`, and until there are `min_runs`, but end after four times `seconds`. With an `anchor`, a
    file of the same format, the two run in turn for `burst_s` and at least 5 runs each; its inputs are random.
    `pinned_cpus` empty: the device chooses. `picture` asks for the way from a picture to a label, which the runner times: an
    agent in Python would not go it as an app does. `operators` asks for a run apart with the runtime's own profiler on.
    """

    model: Path
    loader: Path | None = None
    inputs: Path | None = None
    input_name: str = ""
    input_shapes: dict[str, tuple[int, ...]] = {}
    threads: Annotated[int, Field(ge=1)]
    pinned_cpus: tuple[int, ...] = ()
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    min_runs: Annotated[int, Field(ge=1)] = 1
    anchor: Path | None = None
    burst_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.04
    picture: PictureWay | None = None
    operators: bool = False


class SessionReport(Frozen):
    """What the agent answers. `fallbacks` is what computes the model's operations, where it tells."""

    session: Session
    environment: Environment
    op_timings: tuple[OpTiming, ...]
    fallbacks: Fallbacks | None = None


Timed = Callable[[], int]
"""One run of a loaded model; returns its duration in ns."""


class Sampler(Protocol):
    """Warms up and samples one model, or two in turn, within a job's limits. Returns the fields of Session that this gives:
    `samples_ns`, `anchor_ns`, `turns`, `warmup_runs`."""

    def __call__(self, models: Sequence[Timed], job: SessionJob, /) -> dict[str, Any]: ...


@dataclass(frozen=True)
class MeasurementProtocol:
    """How a session is taken: by `execute` (a device's way to run the agent) or, where a runtime measures in its own
    process, by `sample`. Both are handed in, so that runtimes know no device. The limits and `picture` are those of
    SessionJob; `anchor` is a file of the same format that runs in turn with the one measured; `input_shapes` serves models
    with open dimensions."""

    target: Target
    seconds: float
    min_runs: int
    operators: bool
    execute: Callable[[SessionJob], SessionReport]
    sample: Sampler
    anchor: CompiledArtifact | None = None
    burst_s: float = 0.04
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    picture: PictureWay | None = None

    def job(self, artifact: CompiledArtifact, loader: Path | None = None) -> SessionJob:
        """What each session of `artifact` is asked, without inputs. See SessionJob for `loader`."""
        return SessionJob(
            model=artifact.path.absolute(),
            loader=loader,
            threads=self.target.threads,
            input_shapes=dict(self.input_shapes),
            seconds=self.seconds,
            min_runs=self.min_runs,
            anchor=None if self.anchor is None else self.anchor.path.absolute(),
            burst_s=self.burst_s,
            picture=self.picture,
            operators=self.operators,
        )
