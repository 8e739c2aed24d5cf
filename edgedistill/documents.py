"""What the commands on single models and files answer, as `--json` prints it."""

from __future__ import annotations

from typing import Literal

from edgedistill.artifacts import Fallbacks, Fraction, Parity
from edgedistill.specs import ComputedBy, Contract, Format, Frozen, Precision


class ExportedFile(Frozen):
    """A file that `export` wrote. `path` is relative to the output folder. `parity` is beside the fp32 torch program (the
    outputs of an ONNX model, where that was exported), computed by `computed_by`; where nothing here can run the file it is
    null and `not_run` says why. `checks` are sentences of what was checked. `record` are the builder's own words,
    `fallbacks` who computes the operations. Seconds are wall time: of conversion and compilation, and of running it for
    parity."""

    format: Format
    precision: Precision
    path: str
    bytes: int
    sha256: str
    parity: Parity | None
    computed_by: ComputedBy | None
    not_run: str
    checks: tuple[str, ...]
    record: dict[str, str]
    fallbacks: Fallbacks | None
    seconds_conversion: float
    seconds_verification: float


class ExportFailure(Frozen):
    """A format and precision that could not be made: why, and the way out."""

    format: Format
    precision: Precision
    cause: str
    problems: tuple[str, ...]
    fix: str
    seconds: float


class ExportResult(Frozen):
    """What `export` made of one model. `contract` is null for an ONNX file that carries none."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    model: str
    contract: Contract | None
    parameters: int | None
    files: tuple[ExportedFile, ...]
    failures: tuple[ExportFailure, ...]
    notes: tuple[str, ...]


class VerifyResult(Frozen):
    """What `verify` found in a file: `ok` is the sum of it. `parity` is beside `against`, a second file, on the same
    `parity.images` probe images, or beside the golden outputs of the package that the file lies in."""

    path: str
    format: Format
    precision: Precision
    sha256: str
    ok: bool
    checks: tuple[str, ...]
    failures: tuple[str, ...]
    against: str | None
    parity: Parity | None
    computed_by: ComputedBy | None
    not_run: str


class EvaluateResult(Frozen):
    """Accuracy of a file on a data set: the share of `images` of `split` whose top class is the label."""

    path: str
    format: Format
    precision: Precision
    sha256: str
    data: str
    split: str
    images: int
    accuracy: Fraction
    computed_by: ComputedBy
    seconds: float


class InspectResult(Frozen):
    """What is in a file, without running it: signature, contract, sentences of what was checked, and facts by name."""

    path: str
    format: Format
    precision: Precision
    bytes: int
    sha256: str
    contract: Contract | None
    checks: tuple[str, ...]
    facts: dict[str, str]


class Guess(Frozen):
    """One class of an image: its place in the output, its name, and its softmax probability."""

    index: int
    label: str
    probability: Fraction


class RunResult(Frozen):
    """The most probable classes of one image, the first first."""

    path: str
    format: Format
    input: str
    computed_by: ComputedBy
    top: tuple[Guess, ...]
