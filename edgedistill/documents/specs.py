"""What is asked for and what may be tried: frozen choices, no paths, no results.

Everything here is a pydantic model with `frozen=True, extra="forbid"`, so it hashes, compares, and goes to JSON
and back without loss.
"""

from __future__ import annotations

import base64
import math
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgedistill.base.errors import InputError
from edgedistill.base.units import format_ms, format_percent, parse_fraction, parse_latency_ms


class Frozen(BaseModel):
    """Base of every serialisable object: immutable; an unknown field is an error, and so is a number that is not finite:
    pydantic would write it to JSON as `null`, and the file could not be read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Format(StrEnum):
    """File formats that a build can ship. `NULL` is for the loop's own tests and ships nothing."""

    ONNX = "onnx"
    COREML = "coreml"
    TENSORRT = "tensorrt"
    LITERT = "litert"
    EXECUTORCH = "executorch"
    NULL = "null"


class Precision(StrEnum):
    """Numeric precision of an artifact.

    `fp32`, `fp16` and `int8` are those of weights and activations; `mixed` is int8 with some layers kept in floating point
    (QuantScheme.kept). `int8-weights` and `int4-weights` store weights so and compute in floating point.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    MIXED = "mixed"
    INT8_WEIGHTS = "int8-weights"
    INT4_WEIGHTS = "int4-weights"


class Delegate(StrEnum):
    """What computes the parts of an ExecuTorch program that it can take; the rest is left to portable kernels on the CPU.

    - `xnnpack`: any CPU.
    - `coreml`: Apple devices from iOS 17; needs coremltools to lower, and the Core ML backend in the app. coremltools puts
      random identifiers into its part, so that two files of one program differ.
    - `qnn`: the neural processor of a Qualcomm chip, which the target names; needs Qualcomm's SDK to lower.
    """

    XNNPACK = "xnnpack"
    COREML = "coreml"
    QNN = "qnn"


class ComputedBy(StrEnum):
    """What computed an artifact's outputs: the format's own runtime, or a reference interpreter in its place."""

    DEVICE = "device"
    REFERENCE = "reference"


class Calibration(StrEnum):
    """How an activation's range is read off the calibration images: `minmax` takes the smallest and largest value,
    `percentile` leaves the outermost thousandth of a percent out, `entropy` takes the range whose rounded histogram has the
    smallest divergence from the full one (Migacz 2017)."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


class Percentile(StrEnum):
    """Percentile of latency at which a budget holds."""

    P50 = "p50"
    P95 = "p95"
    P99 = "p99"

    @property
    def fraction(self) -> float:
        return int(self.value[1:]) / 100

    @classmethod
    def of_limit(cls, text: str) -> tuple[str, Percentile]:
        """What stands before `@` in a limit such as `"5ms@p99"`, and the percentile behind it, p95 where there is none.
        Raises InputError for another one."""
        quantity, at, percentile = text.strip().partition("@")
        if at and percentile not in set(cls):
            raise InputError(f"{text!r}: unknown percentile {percentile!r}", fix="use p50, p95 or p99: 5ms@p95")
        return quantity, cls(percentile) if at else cls.P95


class ProofLevel(StrEnum):
    """How much a proof claims: that 80, 90 or 95% of sessions keep the budget."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"

    @property
    def claimed(self) -> float:
        """The share of sessions, 0 to 1."""
        return {ProofLevel.QUICK: 0.80, ProofLevel.STANDARD: 0.90, ProofLevel.THOROUGH: 0.95}[self]


class QuantScheme(Frozen):
    """How a student's numbers are made smaller. `calibration_images` come from the training split; `calibration` reads
    the activations' ranges off them. `kept` are the layers of a mixed scheme that stay in floating point, by the name of
    their module (a weight's name without its last part: `network.blocks.0.conv`), or of their node in a format where they
    have no weight.

    What is done to the weights before: `equalized` evens out channels between neighbouring layers, `bias_corrected` takes
    the mean error of each layer into its bias, `qat_epochs` counts epochs of training under rounding.
    """

    precision: Precision
    per_channel: bool = True
    calibration_images: Annotated[int, Field(ge=0)] = 0
    calibration: Calibration = Calibration.MINMAX
    kept: tuple[str, ...] = ()
    equalized: bool = False
    bias_corrected: bool = False
    qat_epochs: Annotated[int, Field(ge=0)] = 0

    @property
    def label(self) -> str:
        return self.precision.value

    @property
    def floating(self) -> bool:
        """Whether weights are stored and computed in floating point."""
        return self.precision in (Precision.FP32, Precision.FP16)

    @property
    def integer(self) -> bool:
        """Whether layers are computed in integers, so that ranges have to be read off images."""
        return self.precision in (Precision.INT8, Precision.MIXED)

    @property
    def details(self) -> str:
        """The precision and all that was done for it: `mixed, percentile ranges, equalised, 4 layers in float`."""
        steps = (
            (self.calibration is not Calibration.MINMAX, f"{self.calibration.value} ranges"),
            (self.equalized, "equalised"),
            (self.bias_corrected, "biases corrected"),
            (self.qat_epochs > 0, f"trained under rounding for {self.qat_epochs} epoch{'s' * (self.qat_epochs > 1)}"),
            (len(self.kept) > 0, f"{len(self.kept)} layer{'s' * (len(self.kept) > 1)} in float"),
        )
        return ", ".join([self.precision.value, *(words for done, words in steps if done)])


class BudgetRequest(Frozen):
    """A budget as asked for: either milliseconds or a share of the teacher's latency at the same percentile."""

    latency_ms: float | None = None
    share_of_teacher: float | None = None
    percentile: Percentile = Percentile.P95

    @classmethod
    def parse(cls, text: str) -> BudgetRequest:
        """`"5ms"`, `"5ms@p99"`, `"20%@p50"`. Raises InputError on a wrong unit, a share outside (0%, 100%], or a
        latency that is not positive and finite."""
        quantity, chosen = Percentile.of_limit(text)
        if not quantity.strip().endswith("%"):
            try:
                return cls(latency_ms=parse_latency_ms(quantity), percentile=chosen)
            except InputError as error:
                fix = f"{error.fix}, or as a share of the teacher's latency: 20%"
                raise InputError(error.message, fix=fix) from None
        share = parse_fraction(quantity)
        if not 0 < share <= 1:
            raise InputError(f"{text!r}: a share of the teacher lies above 0%, at most at 100%", fix="e.g. 20%@p95")
        return cls(share_of_teacher=share, percentile=chosen)

    def require_measurable(self, target: str = "this target") -> None:
        """Raises InputError for a share of the teacher's latency; called where that cannot be measured."""
        if self.share_of_teacher is not None:
            raise InputError(
                f"the budget is a share of the teacher's latency, which cannot be measured on {target}",
                fix="give the budget in milliseconds, e.g. --budget 5ms@p95",
            )

    def resolve(self, teacher_latency_ms: float | None) -> Budget:
        """In milliseconds. Raises InputError if a share is asked for and the teacher's latency is not measured."""
        if self.latency_ms is not None:
            return Budget(latency_ms=self.latency_ms, percentile=self.percentile)
        if teacher_latency_ms is None:
            self.require_measurable()
        assert self.share_of_teacher is not None and teacher_latency_ms is not None
        return Budget(
            latency_ms=self.share_of_teacher * teacher_latency_ms,
            percentile=self.percentile,
            share_of_teacher=self.share_of_teacher,
        )

    def __str__(self) -> str:
        share = self.share_of_teacher
        amount = format_ms(self.latency_ms or math.nan) if share is None else format_percent(share)
        return f"{amount}@{self.percentile}"


class Budget(Frozen):
    """A latency that the shipped artifact must stay within, at a percentile: in ms, or as a share of the teacher's.

    `latency_ms` is what files are compared with in a search. For a share it is that share of the teacher's comparable
    latency (MeasuredLatency.comparable), not a latency of any one session, and is never shown.
    """

    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    percentile: Percentile
    share_of_teacher: float | None = None

    @property
    def claim(self) -> str:
        """What is proven of it: `0.412 ms at p95`, or `20.0% of the teacher's p95`, which says nothing of milliseconds."""
        if self.share_of_teacher is None:
            return f"{format_ms(self.latency_ms)} at {self.percentile}"
        return f"{format_percent(self.share_of_teacher)} of the teacher's {self.percentile}"

    def figure(self, latency_ms: float) -> str:
        """A comparable latency in this budget's unit, for a place that says of what a share is: `0.412 ms`, or `20.0%`."""
        if self.share_of_teacher is None:
            return format_ms(latency_ms)
        return format_percent(self.share_of_teacher * latency_ms / self.latency_ms)

    def in_its_unit(self, latency_ms: float) -> str:
        """A comparable latency as this budget tells it: `0.412 ms`, or `20.0% of the teacher's`."""
        return self.figure(latency_ms) + " of the teacher's" * (self.share_of_teacher is not None)


Metric = Literal["accuracy", "recall@1", "k-NN accuracy", "zero-shot accuracy", "neighbour recall@10"]
"""What a quality is, each a share of images. `accuracy`: those whose class is answered. `recall@1`: those whose nearest
other image is of their class. `k-NN accuracy`: those whose class their nearest images vote for. `zero-shot accuracy`: those
nearest to the vector of their class. `neighbour recall@10`: those whose nearest other image by the teacher's vectors is
among the 10 nearest by the file's own."""


def scored(metric: Metric, figure: str, images: str, *, several: bool = False) -> str:
    """A quality in words, behind what it is of: `gets 93.2% of the validation split right`, `has a recall@1 of 93.2% on the
    validation split`; of `several`, which `get` and `have`."""
    if metric == "accuracy":
        return f"{'get' if several else 'gets'} {figure} of {images} right"
    return f"{'have' if several else 'has'} a {metric} of {figure} on {images}"


class Objective(StrEnum):
    """What makes one student better than another, both inside all limits."""

    QUALITY = "quality"
    LATENCY = "latency"


class Goal(Frozen):
    """What a student is chosen by. Its file keeps `budget` and, where they are given, `max_bytes` (the file's size),
    `max_memory_bytes` (peak memory of a process that runs it) and `min_quality` (validation split).

    Of the files that keep all, the fastest wins that is no less accurate than the most accurate by more than
    `quality_margin`, on the same images with 95% confidence; or the fastest of all. `aim_ms` is the latency from which on a
    proof of the budget would hardly succeed, since sessions differ; null where that is not known.
    """

    budget: Budget
    objective: Objective = Objective.QUALITY
    aim_ms: Annotated[float, Field(gt=0)] | None = None
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    max_memory_bytes: Annotated[int, Field(gt=0)] | None = None
    min_quality: Annotated[float, Field(ge=0, le=1)] | None = None
    quality_margin: Annotated[float, Field(ge=0, lt=1)] = 0.005

    @property
    def limit_ms(self) -> float:
        """What a file's comparable latency has to stay inside to be worth a proof."""
        return self.budget.latency_ms if self.aim_ms is None else min(self.aim_ms, self.budget.latency_ms)


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError(f"{side} is even; a kernel has a middle: 3, 5, 7, 9 or 11")
    return side


Kernel = Annotated[int, Field(ge=3, le=11), AfterValidator(_odd)]
"""Side of a square convolution kernel in pixels."""

CHANNEL_MULTIPLE = 8
"""What channels are rounded to where nothing else is known of a target."""


class StudentSpec(Frozen):
    """A student's architecture. `width` and `depth` multiply the family's own channels and block counts; `resolution`
    is the side of the square input in pixels.

    `kernel` is the side of the convolutions that mix places, `expansion` how many times wider a block is inside; None
    leaves the family's own, which may differ from stage to stage. Not every family has them (Family.kernels, .expansions).
    Channels are rounded to `channel_multiple`.
    """

    family: str
    width: Annotated[float, Field(gt=0)]
    depth: Annotated[float, Field(gt=0)]
    resolution: Annotated[int, Field(ge=8, le=1024)]
    kernel: Kernel | None = None
    expansion: Annotated[float, Field(gt=0)] | None = None
    channel_multiple: Annotated[int, Field(ge=1)] = CHANNEL_MULTIPLE

    @property
    def label(self) -> str:
        """`resnet w0.5 d1 @32`, with `k5`, `e4` and `m16` where kernel, expansion and multiple are not the usual ones."""
        unusual = self._unusual("k{}", "e{:g}", "m{}")
        return " ".join([self.family, f"w{self.width:g}", f"d{self.depth:g}", *unusual, f"@{self.resolution}"])

    @property
    def described(self) -> str:
        """Its choices in words: `width 0.5, depth 1, kernel 5, 32 px`."""
        unusual = self._unusual("kernel {}", "expansion {:g}", "channels in multiples of {}")
        return ", ".join([f"width {self.width:g}", f"depth {self.depth:g}", *unusual, f"{self.resolution} px"])

    def _unusual(self, kernel: str, expansion: str, multiple: str) -> list[str]:
        """The kernel, expansion and multiple that are not the usual ones, each in the words given for it."""
        choices = (
            (kernel, self.kernel, None),
            (expansion, self.expansion, None),
            (multiple, self.channel_multiple, CHANNEL_MULTIPLE),
        )
        return [words.format(value) for words, value, usual in choices if value != usual]


Channel = Annotated[int, Field(ge=0, le=255)]


TaskName = Literal["classification", "embedding"]

Score = Literal["retrieval", "knn", "zero_shot", "neighbours"]
"""How the quality of vectors is told: see `networks.tasks.Embedding`."""


LEAST_DIMENSION: Final = 2
MOST_DIMENSION: Final = 65_536
"""Numbers of a vector."""


class VectorContract(Frozen):
    """What an embedding is: `dimension` numbers for an image. The model divides them by their Euclidean length
    (`normalisation`), so that the product of two vectors is their cosine. `score` is how its quality is told. For
    `zero_shot` `class_vectors` holds float16 [classes, dimension], little-endian, as base64: a vector for each of the
    contract's labels."""

    dimension: Annotated[int, Field(ge=LEAST_DIMENSION, le=MOST_DIMENSION)]
    normalisation: Literal["l2"] = "l2"
    score: Score = "retrieval"
    class_vectors: str = ""


def _decoded_bytes(text: str) -> int:
    """Of what is written as base64, -1 for what is not."""
    try:
        return len(base64.b64decode(text, validate=True))
    except ValueError:
        return -1


class Contract(Frozen):
    """The one input and output contract that every artifact and every app keeps.

    An app turns an image as its EXIF `orientation` says and puts what is transparent on `background`: each channel c with
    alpha a of 255 on a background b becomes (a c + (255 - a) b) / 255, rounded. It cuts and resizes the image as stated
    here, and hands in RGB in 0..255 at `resolution` x `resolution`. `mean` and `std` (0..255 scale, per channel) are applied
    inside the model.

    `task` says what the model is for, and by it how its answers are scored. For `classification` the output is `logits`,
    float [1, classes], unnormalised log-probabilities in the order of `labels`. For `embedding` it is `embedding`, float
    [1, dimension], as `vector` says; there are labels then only where it has class vectors.
    """

    task: TaskName = "classification"
    input_name: Literal["image"] = "image"
    output_name: Literal["logits", "embedding"] = "logits"
    color: Literal["RGB"] = "RGB"
    layout: Literal["NCHW"] = "NCHW"
    value_range: tuple[Literal[0], Literal[255]] = (0, 255)
    orientation: Literal["exif"] = "exif"
    background: tuple[Channel, Channel, Channel] = (255, 255, 255)
    resolution: int
    resize_filter: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    crop: Literal["stretch", "center"] = "stretch"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: tuple[str, ...]
    vector: VectorContract | None = None

    @model_validator(mode="after")
    def _of_one_task(self) -> Contract:
        embedding = self.task == "embedding"
        if embedding != (self.vector is not None) or embedding != (self.output_name == "embedding"):
            raise ValueError(f"a contract for {self.task} has another task's output")
        if self.vector is not None:
            wanted = 2 * len(self.labels) * self.vector.dimension if self.vector.score == "zero_shot" else 0
            if _decoded_bytes(self.vector.class_vectors) != wanted:
                raise ValueError("class_vectors are not a vector for each label")
        return self

    @property
    def computed(self) -> dict[str, object]:
        """What decides outputs, for the keys of stages: all but how vectors are judged."""
        judging: Any = {"labels": True, "vector": {"score", "class_vectors"}}
        return self.model_dump(mode="json", exclude=judging if self.vector else None)

    @property
    def described(self) -> str:
        """What a model with this contract is: `image classifier with 9 classes`."""
        if self.vector is None:
            return f"image classifier with {len(self.labels)} classes"
        return f"image embedding of {self.width} numbers"

    @property
    def output_said(self) -> str:
        """What comes out, in words."""
        return "one logit a class, in the order of the labels" if self.vector is None else "a vector of length 1"

    @property
    def width(self) -> int:
        """How many numbers the output has."""
        return len(self.labels) if self.vector is None else self.vector.dimension


class Probabilities(Frozen):
    """How probabilities come of a file's logits: softmax(logits / `temperature`), and where the largest one is below
    `none_below`, the answer is "none of these"; null where that is no answer."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    none_below: Annotated[float, Field(ge=0, le=1)] | None = None


class PublishedLatency(Frozen):
    """A latency that someone else measured on this device and published: evidence for a prediction, never a proof."""

    model: str
    precision: Precision
    multiply_adds: Annotated[float, Field(gt=0)]
    latency_ms: Annotated[float, Field(gt=0)]
    source: str


class CoreGroup(Frozen):
    """Cores of a processor that are alike: their `name` ("Cortex-A76"), how many, and their highest clock."""

    name: str
    count: Annotated[int, Field(ge=1)]
    max_mhz: Annotated[int, Field(ge=1)] | None = None


class Target(Frozen):
    """A device and how it is used, read from a TOML file in `targets/`.

    `runtime` is the format that the budget is held against; `formats` are all that a build makes for it. `precisions` are
    those worth trying there. `transport` says how the device is reached: `local` is this machine, `browser` a browser on
    it, the others need a device attached. `accelerator` names what computes there instead of the CPU ("GPU"), empty where
    the CPU does: an operation that it leaves to the CPU is then an error, unless `allow_fallbacks` (here, or in a build's
    `[export]`). `delegate` is what ExecuTorch programs are lowered for, `soc` the chip as Qualcomm's calls it ("SM8550").
    `channel_multiple` is what its kernels want channels to be multiples of. `cores` are those of its processor, the fastest
    first. `sources` say by the name of a fact here where it comes from.
    """

    name: str
    title: str
    runtime: Format
    formats: tuple[Format, ...]
    precisions: tuple[Precision, ...]
    threads: Annotated[int, Field(ge=1)] = 1
    channel_multiple: Annotated[int, Field(ge=1)] = CHANNEL_MULTIPLE
    cores: tuple[CoreGroup, ...] = ()
    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    transport: Literal["local", "browser", "ssh", "adb", "none"]
    machine: str | None = None
    compute_capabilities: tuple[int, ...] = ()
    accelerator: str = ""
    allow_fallbacks: bool = False
    delegate: Delegate = Delegate.XNNPACK
    soc: str = ""
    how_to_measure: str = ""
    published: tuple[PublishedLatency, ...] = ()
    sources: dict[str, str] = {}
