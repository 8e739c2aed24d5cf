"""`edgedistill export`: one model as files of several formats, each converted, compiled and run for parity.

    open the model -> one torch program -> for each format and precision: convert -> compile -> run

The last three happen in child processes: what one format does to its process costs that file alone.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from edgedistill import __version__
from edgedistill.artifacts import CompiledArtifact, ExportedModel, Parity
from edgedistill.converters import SUFFIX, Conversion, convert
from edgedistill.documents import ExportedFile, ExportFailure, ExportResult
from edgedistill.errors import EdgedistillError, InputError
from edgedistill.exporters.program import probe_images, reference_logits, rounding_of, to_program
from edgedistill.isolation import CONVERSION, in_child
from edgedistill.opening import engine_record, record_path
from edgedistill.parity import parity_of
from edgedistill.progress import Listener, StageFinished, StageStarted
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import Images, Logits, NotRunnableError
from edgedistill.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.store import sync_folder, write_atomic
from edgedistill.verification import run_all
from edgedistill.workbench import Source

PROBES = 8
CALIBRATION_IMAGES = 256


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be made, whatever it is made from. `machine` is the processor that ONNX Runtime's int8 files are laid out
    for; `calibration` are uint8 images [n, 3, R, R], needed for int8."""

    formats: tuple[Format, ...]
    precisions: tuple[Precision, ...]
    target: Target
    machine: str
    out: Path
    calibration: Images | None = None
    verify: bool = True

    def calibrating(self) -> Images:
        """The calibration images. Raises InputError without any."""
        if self.calibration is None:
            raise InputError("static int8 needs images to read the activations' ranges off", fix="add --data FOLDER")
        return self.calibration


@dataclass(eq=False)
class Making:
    """The files of one model while they are made: `label` names it; `images` [n, ...] in the layout of its files' input go
    through each file and `reference` are the model's own logits for them (both empty: nothing is run, and `not_run` says
    why); `module` loads the torch module, where there is one; `full` is the fp32 ONNX file once there is one."""

    wanted: Wanted
    listener: Listener
    folder: Path
    label: str
    images: Images
    reference: Logits
    conversion: Conversion
    contract: Contract | None
    module: Callable[[], nn.Module] | None = None
    full: ExportedModel | None = None
    not_run: str = ""
    files: list[ExportedFile] = field(default_factory=list)
    failures: list[ExportFailure] = field(default_factory=list)

    @cached_property
    def own_rounding(self) -> float:
        """See rounding_of; 0 where there is no torch module."""
        return rounding_of(self.module(), self.images, self.conversion.program()) if self.module is not None else 0.0

    def make(self) -> None:
        """Every format in every precision; what fails is listed and costs the others nothing."""
        for form in self.wanted.formats:
            for precision in self.wanted.precisions:
                _one(self, form, precision)


def export_source(source: Source, notes: tuple[str, ...], wanted: Wanted, listener: Listener) -> ExportResult:
    """Files of a torch model. They appear in the output folder whole. Raises UnsupportedError or TrialFailure where there is
    no torch program to make anything from, InputError for an output folder that cannot be written to."""
    make_folder(wanted.out)
    module = source.load()
    listener(StageStarted("trace", source.label))
    began = time.monotonic()
    program = to_program(module, source.contract)
    listener(StageFinished("trace", source.label, time.monotonic() - began, reused=False))
    images = probe_images(source.contract, PROBES)
    with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=wanted.out) as scratch:
        making = Making(
            wanted=wanted,
            listener=listener,
            folder=Path(scratch),
            label=source.label,
            images=images,
            # One at a time: a .pt2 program takes the batch that it was exported with.
            reference=reference_logits(module, images, 1) if wanted.verify else np.empty((0, 0), np.float32),
            conversion=Conversion(
                contract=source.contract,
                build_hash=source.key,
                module=source.load,
                program=lambda: program,
                calibration=wanted.calibrating,
                style=IntegerStyle.for_onnxruntime(wanted.machine),
                delegate=wanted.target.delegate,
                soc=wanted.target.soc,
            ),
            contract=source.contract,
            module=source.load,
            not_run="" if wanted.verify else "not asked for",
        )
        making.make()
    return ExportResult(
        edgedistill_version=__version__,
        model=source.label,
        contract=source.contract,
        parameters=sum(p.numel() for p in module.parameters()),
        files=tuple(making.files),
        failures=tuple(making.failures),
        notes=notes,
    )


def make_folder(out: Path) -> None:
    """Make the output folder. Raises InputError where it cannot be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"the output folder {out} cannot be written to: {error.strerror}", fix="use --out DIR"
        ) from None


def _one(making: Making, form: Format, precision: Precision) -> None:
    subject = f"{making.label} {form} {precision}"
    making.listener(StageStarted("export", subject))
    began = time.monotonic()
    try:
        making.files.append(_made(making, form, precision, began))
    except EdgedistillError as error:
        making.failures.append(
            ExportFailure(
                format=form,
                precision=precision,
                cause=error.message,
                problems=tuple(map(str, error.problems)),
                fix=error.fix,
                seconds=time.monotonic() - began,
            )
        )
    making.listener(StageFinished("export", subject, time.monotonic() - began, reused=False))


def _made(making: Making, form: Format, precision: Precision, began: float) -> ExportedFile:
    scheme = QuantScheme(
        precision=precision,
        calibration_images=0 if making.wanted.calibration is None else len(making.wanted.calibration),
    )
    folder = making.folder / f"{form}-{precision}"
    model = _converted(making, form, scheme, folder)
    target = making.wanted.target.model_copy(update={"formats": making.wanted.formats})
    runtime = runtime_for(form)
    artifact = in_child(f"compiling for {form}", CONVERSION, runtime.compile, model, target, folder / "compiled")
    converted = time.monotonic()
    parity, not_run, checks = _checked(making, artifact)
    path = _settled(making, artifact)
    return ExportedFile(
        format=form,
        precision=precision,
        path=path.name,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        parity=parity,
        computed_by=runtime.computed_by if parity else None,
        not_run=not_run,
        checks=checks,
        record=artifact.record,
        fallbacks=artifact.fallbacks,
        seconds_conversion=converted - began,
        seconds_verification=time.monotonic() - converted,
    )


def _converted(making: Making, form: Format, scheme: QuantScheme, folder: Path) -> ExportedModel:
    """The portable file. An engine's is the ONNX file of its precision, with Q/DQ pairs where its builder wants them."""
    onnx_based = form in (Format.ONNX, Format.TENSORRT)
    if not onnx_based:
        return convert(making.conversion, form, scheme, folder)
    if making.full is None:
        making.full = convert(
            making.conversion, Format.ONNX, QuantScheme(precision=Precision.FP32), making.folder / "onnx-full"
        )
    if scheme.precision is Precision.FP32:
        return making.full
    style = IntegerStyle.TENSORRT if form is Format.TENSORRT else making.conversion.style
    what = replace(making.conversion, full=making.full, style=style)
    return convert(what, form, scheme, folder)


def _checked(making: Making, artifact: CompiledArtifact) -> tuple[Parity | None, str, tuple[str, ...]]:
    """Parity by running the file, or why it cannot run here with what was checked instead. Raises TrialFailure where it
    computes something else than the model."""
    if making.not_run:
        return None, making.not_run, ()
    logits, not_run, checks = in_child(
        f"running {artifact.format} {artifact.scheme.label}", CONVERSION, _run, artifact, making.images
    )
    if logits is None:
        return None, not_run, checks
    parity, remarks = parity_of(logits, making.reference, artifact.scheme.precision, lambda: making.own_rounding)
    return parity, "", remarks


def _run(artifact: CompiledArtifact, images: Images) -> tuple[Logits | None, str, tuple[str, ...]]:
    runtime = runtime_for(artifact.format)
    try:
        return run_all(runtime, artifact, images, classes=None), "", ()
    except NotRunnableError as error:
        return None, error.message, runtime.inspect(artifact).checks


def _settled(making: Making, artifact: CompiledArtifact) -> Path:
    """Move a finished file, with the builder's record beside an engine, into the output folder."""
    stem = re.sub(r"[^\w.-]+", "_", making.label.partition(":")[2] or making.label)
    suffix = ".engine" if artifact.format is Format.TENSORRT else SUFFIX[artifact.format]
    path = making.wanted.out / f"{stem.removesuffix('.pt2')}.{artifact.scheme.precision}{suffix}"
    if path.is_dir():
        shutil.rmtree(path)
    artifact.path.replace(path)
    if artifact.format is Format.TENSORRT:
        write_atomic(record_path(path), engine_record(artifact, making.contract, path.name))
    sync_folder(making.wanted.out)
    return path


def parse_formats(text: str) -> tuple[Format, ...]:
    """`"onnx,coreml"` or `"all"`. Raises InputError naming what is unknown."""
    shippable = [form for form in Format if form is not Format.NULL]
    if text.strip() == "all":
        return tuple(shippable)
    return _parsed(text, shippable, "format")


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """`"fp32,int8"`. Raises InputError naming what is unknown."""
    asked_for = [p for p in Precision if p is not Precision.MIXED]
    return _parsed(text, asked_for, "precision")


def _parsed(text: str, known: Sequence[Format] | Sequence[Precision], what: str) -> tuple:  # type: ignore[type-arg]
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"unknown {what} {', '.join(unknown) or repr(text)}", fix=f"use {', '.join(known)}")
    return tuple(item for item in known if item.value in names)
