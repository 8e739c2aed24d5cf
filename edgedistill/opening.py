"""A model file of any format from anywhere, as an artifact that its runtime takes.

What reads a foreign file runs in a child process: `reading` is how.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import ValidationError

from edgedistill.artifacts import CompiledArtifact
from edgedistill.errors import CONTROLS, InputError, Problem, TrialFailure, UnsupportedError
from edgedistill.exporters.carried import carried_contract
from edgedistill.isolation import ChildBug, ChildFailure, Limits, in_child
from edgedistill.problem_words import first_fault
from edgedistill.specs import Contract, Format, Frozen, Target
from edgedistill.store import file_sha256

P = ParamSpec("P")
R = TypeVar("R")

SUFFIXES = {
    ".onnx": Format.ONNX,
    ".mlpackage": Format.COREML,
    ".engine": Format.TENSORRT,
    ".plan": Format.TENSORRT,
    ".tflite": Format.LITERT,
    ".pte": Format.EXECUTORCH,
}
LARGEST_RESOLUTION = 2048
_LARGEST_RECORD_BYTES = 16 * 2**20
_BUILD_AGAIN = "build it again"
_HOSTILE = "the file is damaged or hostile; export it again from its model"
_EXPORT_AGAIN = "export it again from its model"


class EngineRecord(Frozen):
    """What stands beside an engine, as `NAME.engine.json`: an engine cannot be read back without its GPU, so its builder's
    record and the contract travel apart."""

    artifact: CompiledArtifact
    contract: Contract | None


def record_path(engine: Path) -> Path:
    """Where an engine's record stands."""
    return engine.with_name(engine.name + ".json")


def engine_record(artifact: CompiledArtifact, contract: Contract | None, name: str) -> str:
    """The record of an engine that will be called `name`, as JSON."""
    record = EngineRecord(artifact=artifact.model_copy(update={"path": Path(name)}), contract=contract)
    return record.model_dump_json(indent=1) + "\n"


@dataclass(frozen=True, eq=False)
class Opened:
    """A file that was read. `contract` is None where it carries none: it was made by something else."""

    artifact: CompiledArtifact
    contract: Contract | None

    def contracted(self) -> Contract:
        """The contract. Raises UnsupportedError where the file has none."""
        if self.contract is None:
            raise UnsupportedError(
                f"{self.artifact.path.name} does not say how images go in: it carries no contract",
                fix="export it with edgedistill from its model",
            )
        return self.contract


def format_of(path: Path) -> Format:
    """The format that a file's name says. Raises InputError for another, or a file that is not there."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path} is no model file by its name", fix=f"give one that ends in {', '.join(SUFFIXES)}")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", fix="check the path") from None
    except OSError as error:  # a name too long, links in a circle, no permission
        raise InputError(f"{path} cannot be opened: {error.strerror}", fix="check the path") from None
    wanted, name = (stat.S_ISDIR, "a folder") if form is Format.COREML else (stat.S_ISREG, "a file")
    if not wanted(mode):
        raise InputError(f"{path} is not {name}, and a {path.suffix} is one", fix="export it again, or name another")
    return form


def reading(path: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function` in a child with the limits of a file like `path`. Raises InputError for a path that is no model file, and
    as `reading_within` does."""
    format_of(path)
    return reading_within(path, Limits.for_file(path), function, *args, **kwargs)


def reading_within(path: Path, limits: Limits, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`function`, which reads the file at `path`, in a child with these limits. Raises InputError where the child does not
    come back, where the file does not do what it should, or where something raises what nobody expected: readers of many
    hands do on damaged files. The file is at fault, as far as anyone can tell."""
    try:
        return in_child(f"reading {path.name}", limits, function, *args, **kwargs)
    except ChildFailure as failure:
        raise InputError(f"{path} cannot be read: {failure.message}", fix=failure.fix or _HOSTILE) from failure
    except TrialFailure as failure:
        raise InputError(failure.message, problems=failure.problems, fix=failure.fix or _HOSTILE) from failure
    except ChildBug as error:
        raise InputError(f"{path} cannot be read: {error.summary}", fix=_HOSTILE) from error


def open_file(path: Path, target: Target) -> Opened:
    """Read a model file. Raises InputError where it is damaged or not what its name says, MissingDependencyError where the
    package that reads its format is absent."""
    try:
        opened = _OPENERS[format_of(path)](path, target)
    except InputError as error:
        if error.fix or error.problems:
            raise
        raise InputError(error.message, fix=_EXPORT_AGAIN) from error
    if opened.contract is not None and (problems := list(_implausible(opened.contract))):
        raise InputError(f"{path}: the contract in its metadata cannot be kept", problems=problems, fix=_EXPORT_AGAIN)
    return opened


def _implausible(contract: Contract) -> Iterator[Problem]:
    """What no model was made for: whoever believed it would ask for memory without end, or print what is no text."""
    if not 1 <= contract.resolution <= LARGEST_RESOLUTION:
        yield Problem("resolution", f"{contract.resolution} is not between 1 and {LARGEST_RESOLUTION}")
    if not contract.labels:
        yield Problem("labels", "names no class")
    if any(CONTROLS.search(label) for label in contract.labels):
        yield Problem("labels", "holds characters that are no text and drive a terminal")
    if not all(math.isfinite(value) for value in contract.mean):
        yield Problem("mean", "is not finite")
    if not all(math.isfinite(value) and value > 0 for value in contract.std):
        yield Problem("std", "is not above zero and finite")


def _onnx(path: Path, target: Target) -> Opened:
    from edgedistill.exporters.metadata import read_contract
    from edgedistill.runtimes.onnxruntime import OnnxRuntime

    return Opened(OnnxRuntime().adopt(path, target), read_contract(path))


def _coreml(path: Path, target: Target) -> Opened:
    from edgedistill.runtimes.coreml import CoreMLRuntime
    from edgedistill.runtimes.coreml_package import read_package

    return Opened(CoreMLRuntime().adopt(path, target), carried_contract(read_package(path).metadata, path))


def _litert(path: Path, target: Target) -> Opened:
    from edgedistill.runtimes.litert import LiteRTRuntime, read_entries

    return Opened(LiteRTRuntime().adopt(path, target), carried_contract(read_entries(path), path))


def _executorch(path: Path, target: Target) -> Opened:
    from edgedistill.runtimes.executorch import ExecuTorchRuntime
    from edgedistill.runtimes.executorch_program import read_entries

    return Opened(ExecuTorchRuntime().adopt(path, target), carried_contract(read_entries(path), path))


def _engine(path: Path, target: Target) -> Opened:
    """By the record beside it."""
    from edgedistill.runtimes.tensorrt import RECORDED

    beside = record_path(path)
    try:
        if beside.stat().st_size > _LARGEST_RECORD_BYTES:
            raise InputError(f"{beside} is far too large for an engine's record", fix=_BUILD_AGAIN)
        record = EngineRecord.model_validate_json(beside.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"an engine tells nothing without its GPU, and its record {beside.name} is not beside it",
            fix="keep NAME.engine.json with the engine, or look at the ONNX file it was built from",
        ) from None
    except (OSError, ValidationError) as error:
        reason = first_fault(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{beside} is not an engine's record: {reason}", fix=_BUILD_AGAIN) from error
    missing = [name for name in RECORDED if not record.artifact.record.get(name)]
    if record.artifact.format is not Format.TENSORRT or missing:
        what = f"it leaves out {', '.join(missing)}" if missing else f"it tells of a file in {record.artifact.format}"
        raise InputError(f"{beside} is not an engine's record: {what}", fix=_BUILD_AGAIN)
    if record.artifact.sha256 != file_sha256(path):
        raise InputError(f"{path} is not the engine that {beside.name} tells of: its SHA-256 differs", fix=_BUILD_AGAIN)
    return Opened(record.artifact.model_copy(update={"path": path}), record.contract)


_OPENERS: dict[Format, Callable[[Path, Target], Opened]] = {
    Format.ONNX: _onnx,
    Format.COREML: _coreml,
    Format.TENSORRT: _engine,
    Format.LITERT: _litert,
    Format.EXECUTORCH: _executorch,
}
