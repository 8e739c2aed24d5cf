"""The objects that a build passes along, one per arrow; the document it ends with is in `results.py`, latencies, sessions
and proofs are in `measurements.py`.

All are frozen pydantic models holding plain values and paths, so that a build can be stopped, moved and resumed. Accuracy on
the test split exists on the finished build alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgedistill.base.intervals import Answers
from edgedistill.base.units import format_percent
from edgedistill.documents.measurements import Fallbacks, Latency, Proof, StandIn
from edgedistill.documents.specs import (
    ComputedBy,
    Format,
    Frozen,
    QuantScheme,
    StudentSpec,
)

Fraction = Annotated[float, Field(ge=0, le=1)]


# -- from student to file ---------------------------------------------------------------------------------------


class TrainedStudent(Frozen):
    """A student's weights after `epochs` of a schedule of `total_epochs`. `quality_validation` is the torch model's,
    in fp32: it ranks candidates between rungs and is never reported as an artifact's. `train_seconds` counts all epochs
    so far, `images_per_second` is the speed over them, null where it is not known."""

    spec: StudentSpec
    weights: Path
    epochs: int
    total_epochs: int
    quality_validation: Fraction
    train_seconds: float
    images_per_second: float | None = None


class TensorSignature(Frozen):
    """One input or output of a model file. `dtype` is NumPy's name, or `RGB image` for a picture, whose shape is its
    height and width. An open dimension is -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def shown(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape) if self.shape else ''}"


class Layer(Frozen):
    """A layer with weights of its own: a convolution, a linear layer, a matrix product with a constant. `name` is the
    file's word for it. `weights` is the type that they are stored in, `arithmetic` what the layer computes in:
    `float32`, `float16`, `int8`, or `int8 dynamic` where activations are rounded by ranges found at every run.
    `parameters` counts its weights, biases aside."""

    name: str
    weights: str
    arithmetic: str
    parameters: int

    @property
    def described(self) -> str:
        """`int8`, or `int8 weights, float32` where the two differ."""
        return self.arithmetic if self.weights == self.arithmetic else f"{self.weights} weights, {self.arithmetic}"


class ExportedModel(Frozen):
    """A model file in a portable form, as the exporter or quantiser left it."""

    path: Path
    format: Format
    scheme: QuantScheme
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    sha256: str
    bytes: int


class Inspection(Frozen):
    """What can be told about an artifact without running it. `checks` are sentences of what was checked, with the
    result; `operations` counts by kind, in the format's own words; `layers` are those with weights; `bytes_by_part`
    adds up to the file (an engine cannot be taken apart: empty); `facts` are what only this format has."""

    checks: tuple[str, ...]
    inputs: tuple[TensorSignature, ...] = ()
    outputs: tuple[TensorSignature, ...] = ()
    operations: dict[str, int] = {}
    layers: tuple[Layer, ...] = ()
    bytes_by_part: dict[str, int] = {}
    fallbacks: Fallbacks | None = None
    facts: dict[str, str] = {}


class CompiledArtifact(Frozen):
    """A file that the target's runtime loads. `toolchain` are names and versions of what made it, `record` the
    builder's own words about it (capabilities, log), `fallbacks` what computes its operations. `handed_over` is the
    network as the builder was given it, for a format that cannot be read back."""

    path: Path
    format: Format
    scheme: QuantScheme
    target: str
    toolchain: dict[str, str]
    sha256: str
    bytes: int
    record: dict[str, str] = {}
    fallbacks: Fallbacks | None = None
    handed_over: Inspection | None = None


class Parity(Frozen):
    """An artifact's outputs beside the fp32 torch program's, on `images` validation images: the largest absolute
    difference of any number, and of logits the share of images whose top class agrees, of vectors the mean and the least
    cosine. The others are null."""

    max_abs_error: float
    top1_agreement: Fraction | None = None
    cosine_mean: Annotated[float, Field(ge=-1, le=1)] | None = None
    cosine_least: Annotated[float, Field(ge=-1, le=1)] | None = None
    images: int

    @property
    def measure(self) -> str:
        """What `agreement` is, for the head of a column."""
        return "same class" if self.cosine_least is None else "least cosine"

    @property
    def agreement(self) -> str:
        """The share of images whose top class agrees, or the least cosine: `99.6% of 256`, `0.9987 of 256`."""
        if self.cosine_least is not None:
            return f"{self.cosine_least:.4f} of {self.images}"
        return f"{format_percent(self.top1_agreement or 0.0)} of {self.images}"

    @property
    def sentence(self) -> str:
        """`the same top class on 99.6% of 256 images`, `the cosine of two vectors is 0.9995 in the mean of 256 images`."""
        if self.cosine_mean is None or self.cosine_least is None:
            return f"the same top class on {format_percent(self.top1_agreement or 0.0)} of {self.images} images"
        mean, least = f"{self.cosine_mean:.4f}", f"{self.cosine_least:.4f}"
        return f"the cosine to its vectors is {mean} in the mean of {self.images} images, and at least {least}"


class Verified(Frozen):
    """The artifact was run: by its own runtime (`device`), or by an interpreter that computes what the file says where
    that runtime does not exist (`reference`: the numbers are the file's, the arithmetic is not the device's). `right`
    is one bit for each validation image in order, 1 where its top class is the label, packed as hexadecimal digits: two
    files are compared image by image. Empty where it was not kept. `temperature` is what its logits are divided by for
    probabilities, found on these images (see `networks.confidence`); null for vectors."""

    kind: Literal["run"] = "run"
    computed_by: ComputedBy = ComputedBy.DEVICE
    parity: Parity
    quality_validation: Fraction
    right: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = ""
    temperature: Annotated[float, Field(gt=0)] | None = None


class Inspected(Frozen):
    """The artifact could not be run here. `checks` are what was checked instead, each a sentence with its result."""

    kind: Literal["inspected"] = "inspected"
    reason: str
    checks: tuple[str, ...]


Verification = Annotated[Verified | Inspected, Field(discriminator="kind")]


# -- the study --------------------------------------------------------------------------------------------------


class CrossValidation(Frozen):
    """A `student` trained `folds` times, each time without a part of the images, which it then answered: its `quality` over
    `images`, all with a label of the training and the validation split, and which it got `right` (see `intervals.pack`).
    `part_qualities` is its quality on each part, empty in documents older than it."""

    student: str
    folds: int
    quality: Fraction
    part_qualities: tuple[Fraction, ...] = ()
    images: int
    right: str


class SchemeResult(Frozen):
    """One precision of one candidate on the target's own runtime. `profile` is the cache's key of its raw samples;
    `dropped` is why it was not kept, empty if it was. `peak_memory_bytes` is of a process that runs the file, null
    where it was not measured. `multiplying` is the share of its operators' time in convolutions and matrix products,
    null where that is not known. `proof` is what was tried of this very file, met or not; null where none was. `crossed` is
    the cross-validation of its student, null where none was asked for."""

    scheme: QuantScheme
    artifact: CompiledArtifact
    verification: Verification
    latency: Latency
    peak_memory_bytes: int | None = None
    profile: str | None = None
    stand_in: StandIn | None = None
    multiplying: Fraction | None = None
    dropped: str = ""
    proof: Proof | None = None
    crossed: CrossValidation | None = None

    @property
    def disproven(self) -> bool:
        """Whether a proof of it was tried and is not met."""
        return self.proof is not None and not self.proof.met


def answers_of(result: SchemeResult) -> Answers | None:
    """A file's answers to the validation split, or those of what was run in its place; None where neither could be
    run."""
    ran = result.verification
    if isinstance(ran, Verified):
        return Answers(ran.quality_validation, ran.parity.images, ran.right)
    stood_in = result.stand_in
    return Answers(stood_in.quality_validation, stood_in.images, stood_in.right) if stood_in else None


class LadderRung(Frozen):
    """One file that was tried: quality on the validation split, `loss` beside fp32 (both null where the file could not
    be made or run), bytes, and its p50 as a ratio to that of the fp32 file, run in turn with it (null where it was not
    measured). `reason` says why it is rejected, empty for the winner."""

    scheme: QuantScheme
    quality: Fraction | None = None
    loss: float | None = None
    bytes: int | None = None
    relative_p50: float | None = None
    accepted: bool
    reason: str = ""


class CalibrationSet(Frozen):
    """Training images that ranges are read off, by their `indices` in the data set whose content hashes to
    `fingerprint`."""

    fingerprint: str
    seed: int
    indices: tuple[int, ...]


class Rung(Frozen):
    """A candidate's quality after so many epochs, on the validation split."""

    rung: int
    epochs: int
    quality_validation: Fraction


class Trial(Frozen):
    """One candidate. `state` is how far it came: `failed` has a reason; `pruned` was less accurate than others at its
    last rung; `over_budget` was rejected by a measurement; `complete` went through all rungs. `crossed` is the
    cross-validation of its student after the last rung, null where none was asked for."""

    number: int
    spec: StudentSpec
    parameters: int
    multiply_adds: int
    predicted: Latency
    rungs: tuple[Rung, ...] = ()
    schemes: tuple[SchemeResult, ...] = ()
    crossed: CrossValidation | None = None
    state: Literal["failed", "pruned", "over_budget", "complete"]
    reason: str
