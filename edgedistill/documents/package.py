"""The documents of a package, as an app reads them: `contract.json`, `golden/golden.json` and `manifest.json`.

`Contract` (specs.py) is what a model file carries. These documents tell the steps of an app in their order, and leave out
what the model does itself.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, JsonValue, model_validator

from edgedistill.documents.artifacts import Fraction, TensorSignature
from edgedistill.documents.measurements import Latency
from edgedistill.documents.specs import Channel, ComputedBy, Contract, Format, Frozen, Metric, Precision, VectorContract

TOP: int = 5
"""Classes of each golden picture that `golden.json` names."""

Platform: TypeAlias = Literal["ios", "android", "web", "python"]
"""What an app runs on."""
PLATFORM_FORMATS: dict[Platform, tuple[Format, ...]] = {
    "ios": (Format.COREML,),
    "android": (Format.LITERT, Format.ONNX),
    "web": (Format.ONNX,),
    "python": (Format.ONNX,),
}
"""The formats that the kit of each platform loads, the usual one first."""


class Orient(Frozen):
    """Turn the picture as its EXIF orientation says."""

    step: Literal["orient"] = "orient"
    by: Literal["exif"] = "exif"


class Composite(Frozen):
    """Put what is transparent on a background: a channel c with alpha a on a background b becomes
    (a c + (255 - a) b) / 255, rounded to the nearest. The alpha is dropped then."""

    step: Literal["composite"] = "composite"
    background: tuple[Channel, Channel, Channel]


class Crop(Frozen):
    """Cut out the largest square in the middle. An odd pixel is lost at the right or at the bottom."""

    step: Literal["crop"] = "crop"
    to: Literal["center_square"] = "center_square"


class Resize(Frozen):
    """Resize to `width` x `height` pixels, each side by its own factor, first horizontally and then vertically; each pass
    is rounded to bytes. With `antialias` the filter is as much wider as a side shrinks. `bilinear` is a triangle of radius
    1, `bicubic` Keys' cubic with a = -0.5 and radius 2. It is what Pillow's `resize` does, called once for each side."""

    step: Literal["resize"] = "resize"
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    filter: Literal["bilinear", "bicubic"]
    antialias: bool


Step: TypeAlias = Annotated[Orient | Composite | Crop | Resize, Field(discriminator="step")]


class ImageInput(Frozen):
    """What goes in after all steps: a picture of `width` x `height` pixels, its channels 0 to 255. `normalization` says that
    the model subtracts the mean and divides by the standard deviation itself: an app must not."""

    name: Literal["image"] = "image"
    color: Literal["RGB"] = "RGB"
    value_range: tuple[Literal[0], Literal[255]] = (0, 255)
    width: int
    height: int
    normalization: Literal["in_model"] = "in_model"


class Output(Frozen):
    """What comes out: `logits`, float32 [1, classes], unnormalised log-probabilities in the order of the labels, or an
    `embedding`, float32 [1, dimension], a vector of length 1."""

    name: Literal["logits", "embedding"]
    width: Annotated[int, Field(ge=1)]


class TensorEdge(Frozen):
    """A file that takes the picture as a tensor."""

    kind: Literal["tensor"] = "tensor"
    dtype: str
    layout: Literal["NCHW", "NHWC"]
    shape: tuple[int, ...]


class ImageEdge(Frozen):
    """A file that takes the picture as an image object, which its runtime unpacks."""

    kind: Literal["image"] = "image"
    width: int
    height: int


class FileContract(Frozen):
    """How one model file takes the picture, and its exact signature. `tolerance` is how far each of its outputs may lie from
    the golden ones in an app (see `GoldenOutputs`); null where it has none. The probability of a class is that of
    softmax(logits / `temperature`), and an app that has an answer "none of these" gives it where the largest one is below
    `none_below`: both were found on the validation split, and are null where the file could not run or has no classes."""

    format: Format
    precision: Precision
    input: Annotated[TensorEdge | ImageEdge, Field(discriminator="kind")]
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    tolerance: Annotated[float, Field(gt=0)] | None
    temperature: Annotated[float, Field(gt=0)] | None = None
    none_below: Fraction | None = None


class PackageContract(Frozen):
    """`contract.json`: how a picture gets into the model files of a package, and what comes out.

    `preparation` are the steps from a decoded picture to the input, in their order. `labels` are the classes in the order of
    the logits, of an embedding those that have vectors; `labels_file` has one for each line. `recommended` names the file
    for an app by platform; a platform for which the package has none is not there.
    """

    schema_version: Literal[2] = 2
    task: Literal["classification", "embedding"]
    preparation: tuple[Step, ...]
    input: ImageInput
    output: Output
    labels: tuple[str, ...]
    labels_file: str | None
    vector: VectorContract | None
    files: dict[str, FileContract]
    recommended: dict[Platform, str]
    golden: str

    @model_validator(mode="after")
    def _names_its_files(self) -> PackageContract:
        unknown = sorted({*self.recommended.values()} - self.files.keys())
        if unknown:
            raise ValueError(f"recommended are files that the package does not have: {', '.join(unknown)}")
        return self


class GoldenPicture(Frozen):
    """A picture as an app may get one, `file`, and what the contract makes of it, `prepared`: both PNG, named from the
    package's folder."""

    file: str
    prepared: str
    width: int
    height: int


class GoldenOutputs(Frozen):
    """What a file gives for each golden picture, and how far each number may lie from that in an app.

    `computed_by` says whether the file's own runtime computed them, or a reference interpreter in its place. `tolerance` is
    twice the largest change of any output that came of changing each byte of the prepared pictures by -1, 0 or 1, as an
    app's own resize may.
    """

    computed_by: ComputedBy
    tolerance: Annotated[float, Field(gt=0)]
    outputs: tuple[tuple[float, ...], ...]
    top: tuple[tuple[int, ...], ...]


class GoldenDocument(Frozen):
    """`golden/golden.json`: pictures, and the outputs for them, in the same order, of each file that could be run when the
    package was made. `top` has the most probable classes of a picture by their place in the labels, the likeliest first; it
    is empty for an embedding."""

    schema_version: Literal[1] = 1
    output: Literal["logits", "embedding"]
    pictures: tuple[GoldenPicture, ...]
    files: dict[str, GoldenOutputs]


class About(Frozen):
    """What is told of a model in words: what `[package]` of the build file says. An empty text was not given; nothing is
    guessed. `license` is an SPDX identifier, or the name of a licence; `dataset` and `base_model` are names on the Hugging
    Face hub."""

    name: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    version: str = ""
    dataset: str = ""
    base_model: str = ""


class ManifestArtifact(Frozen):
    """A model file of a package. `sha256` is as `build.json` states it: of a folder that of the names and contents in it.
    `measured_sha256` is that of the file that was measured and proven: the same but for texts in its metadata and the
    temperature of its probabilities. `quality` is on the test split, by the package's `metric`; null where the file could
    not run when it was built. `not_reproducible` says why the same tools may make other bytes of the same student,
    empty where they make the same."""

    sha256: str
    measured_sha256: str
    bytes: int
    quality: Fraction | None
    latency: Latency
    not_reproducible: str = ""


class KitLatency(Frozen):
    """What a kit measured on a user's own device, in a form to send back: `file` of the package whose `SHA256SUMS` has that
    hash, one picture at a time. `device` is the device's model or the browser's words, `system` what runs on it, `threads`
    null where the runtime does not tell. `load_ms` is from the file to what can run, `first_run_ms` the first run of the
    model, the percentiles are of `runs` more, and `picture_to_label_ms` is from a decoded picture of 640 x 480 to labels."""

    schema_version: Literal[1] = 1
    platform: Platform
    file: str
    sha256_sums: str
    device: str
    system: str
    threads: int | None
    load_ms: float
    first_run_ms: float
    run_p50_ms: float
    run_p95_ms: float
    picture_to_label_ms: float
    runs: int


class Study(Frozen):
    """The search behind a package: how many candidates it began, how many of them went through all rungs, were less accurate
    than others, did not keep the budget or failed."""

    trials: int
    complete: int
    pruned: int
    over_budget: int
    failed: int


class Manifest(Frozen):
    """`manifest.json`: where the model files of a package come from, and what is known of them. `build_key` stands for all
    that went into the build: a build with the same key has the same build file, data, teacher and versions. `toolchain` are
    the versions of the tools that made the files. The hash of each file of the package is in `SHA256SUMS`. `settings`
    are the build file's that are not the defaults, as the build settled them, with the last part of a path alone."""

    schema_version: Literal[2] = 2
    edgedistill_version: str
    build_key: str
    target: str
    about: About = About()
    settings: dict[str, JsonValue] = {}
    study: Study | None = None
    data_fingerprint: str
    toolchain: dict[str, str]
    metric: Metric
    artifacts: dict[str, ManifestArtifact]


def preparation(contract: Contract) -> tuple[Step, ...]:
    """The steps of a contract, in their order."""
    side = contract.resolution
    steps: list[Step] = [Orient(by=contract.orientation), Composite(background=contract.background)]
    if contract.crop == "center":
        steps.append(Crop())
    return (*steps, Resize(width=side, height=side, filter=contract.resize_filter, antialias=contract.antialias))
