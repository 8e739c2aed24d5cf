"""`edgedistill quantize`: the ladder for one model, its winner written as a file in each format.

open the model -> calibration and validation images -> for each format: fp32 -> fp16 beside -> the ladder -> the winner
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill.artifacts import CalibrationSet, CompiledArtifact, ExportedModel
from edgedistill.climbing import FP32, Climber, Evidence
from edgedistill.converters import SUFFIX
from edgedistill.data.argument import data_config
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.documents import FormatLadder, QuantizeResult
from edgedistill.errors import EdgedistillError, InputError
from edgedistill.exporters.metadata import load, read_contract, signatures
from edgedistill.exporting import make_folder
from edgedistill.ladder import Margins
from edgedistill.opening import reading
from edgedistill.progress import Listener, silent
from edgedistill.quantizers.calibration_set import calibration_pixels, choose_calibration
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.onnxruntime import OnnxRuntime
from edgedistill.sources import ModelOptions, check_onnx_file, open_model
from edgedistill.specs import Contract, Format, Precision, Target
from edgedistill.store import file_sha256, size_bytes, sync_folder, write_atomic
from edgedistill.units import format_percent
from edgedistill.workbench import Source

CALIBRATION_IMAGES = 256


@dataclass(frozen=True, eq=False)
class Asked:
    """What is wanted of a model: `beside` are precisions tried beside the ladder."""

    formats: tuple[Format, ...]
    target: Target
    out: Path
    margins: Margins
    beside: tuple[Precision, ...] = (Precision.FP16,)


@dataclass(frozen=True, eq=False)
class _Opened:
    label: str
    contract: Contract
    source: Source | None
    full: ExportedModel | None
    notes: tuple[str, ...]


def quantize_model(
    model: str, options: ModelOptions, data: str, asked: Asked, *, listener: Listener = silent
) -> QuantizeResult:
    """Climb the ladder in every format of `asked` and write each winner, with the indices of its calibration images beside
    it as NAME.calibration.json. `model` is what `open_model` takes, or an ONNX file that carries a contract; `data` is what
    `--data` takes.

    A format without a winner is in the result, which is then not `ok`. Raises InputError for bad input.
    """
    dataset = load_dataset(data_config(data))  # first: a wrong path is told before any weights are fetched
    opened = _open_onnx(Path(model), options, asked) if model.endswith(".onnx") else _open_torch(model, options)
    _check(opened, dataset, data)
    make_folder(asked.out)
    chosen = choose_calibration(dataset, CALIBRATION_IMAGES)
    validation = dataset.splits.validation
    evidence = Evidence(
        calibration=calibration_pixels(chosen, dataset, opened.contract),
        images=prepare(dataset.images, validation, opened.contract),
        labels=dataset.labels[validation],
    )
    found = []
    for form in asked.formats:
        with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=asked.out) as scratch:
            climber = Climber(
                label=opened.label,
                contract=opened.contract,
                evidence=evidence,
                form=form,
                target=asked.target,
                machine=asked.target.machine or platform.machine(),
                folder=Path(scratch),
                source=opened.source,
                full=opened.full,
                listener=listener,
            )
            found.append(_climbed(climber, asked, chosen))
    return QuantizeResult(
        model=opened.label,
        data=data,
        target=asked.target.name,
        max_loss=asked.margins.max_loss,
        calibration=chosen,
        images=len(validation),
        formats=tuple(found),
        notes=opened.notes,
    )


def _climbed(climber: Climber, asked: Asked, chosen: CalibrationSet) -> FormatLadder:
    try:
        baseline, found = climber.climb(asked.margins)
    except EdgedistillError as error:
        return FormatLadder(format=climber.form, problem=f"{error.message} {error.fix}".strip())
    beside, paths = [], []
    for precision in asked.beside:
        rung, artifact = climber.beside(precision, baseline, asked.margins)
        beside.append(rung)
        if rung.accepted and artifact is not None:
            paths.append(_settled(artifact, climber.label, asked.out, None).name)
    path = None if found.artifact is None else _settled(found.artifact, climber.label, asked.out, chosen).name
    return FormatLadder(
        format=climber.form,
        accuracy=baseline.accuracy,
        bytes=baseline.bytes,
        computed_by=None if baseline.accuracy is None else runtime_for(climber.form).computed_by,
        rungs=found.rungs,
        beside=tuple(beside),
        path=path,
        paths=tuple(paths),
    )


def _settled(artifact: CompiledArtifact, label: str, out: Path, chosen: CalibrationSet | None) -> Path:
    stem = re.sub(r"[^\w.-]+", "_", label.partition(":")[2] or label).removesuffix(".pt2")
    suffix = ".engine" if artifact.format is Format.TENSORRT else SUFFIX[artifact.format]
    path = out / f"{stem}.{artifact.scheme.precision}{suffix}"
    if path.is_dir():
        shutil.rmtree(path)
    artifact.path.replace(path)
    if chosen is not None:
        write_atomic(path.with_name(f"{path.name}.calibration.json"), chosen.model_dump_json() + "\n")
    sync_folder(out)
    return path


def _open_torch(model: str, options: ModelOptions) -> _Opened:
    source, notes = open_model(model, options, Path.cwd())
    return _Opened(model, source.contract, source, None, notes)


def _open_onnx(path: Path, options: ModelOptions, asked: Asked) -> _Opened:
    check_onnx_file(path, options, asked.formats, "quantised")
    full, contract = reading(path, _read_onnx, path, asked.target)
    if contract is None:
        raise InputError(
            f"{path.name} does not say how images go in: it carries no contract", fix="export it with edgedistill"
        )
    return _Opened(path.stem, contract, None, full, ())


def _read_onnx(path: Path, target: Target) -> tuple[ExportedModel, Contract | None]:
    artifact = OnnxRuntime().adopt(path, target)
    if artifact.scheme.precision is not Precision.FP32:
        raise InputError(f"{path} is {artifact.scheme.label} already", fix="give the fp32 file that it was made from")
    graph = load(path).graph
    model = ExportedModel(
        path=path.absolute(),
        format=Format.ONNX,
        scheme=FP32,
        inputs=signatures(list(graph.input)),
        outputs=signatures(list(graph.output)),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )
    return model, read_contract(path)


def _check(opened: _Opened, dataset: Dataset, data: str) -> None:
    if len(dataset.classes) != len(opened.contract.labels):
        raise InputError(
            f"{data} has {len(dataset.classes)} classes, and {opened.label} tells {len(opened.contract.labels)} apart",
            fix="give the data set that the model was trained for",
        )
    if len(dataset.splits.validation) == 0:
        raise InputError(f"{data} has no validation split to judge by", fix="give one with more images")


def way_out(ladder: FormatLadder, max_loss: float) -> str:
    """What to do where no rung was accepted, with the best that was seen."""
    if ladder.problem:
        return ladder.problem
    seen = [rung for rung in ladder.rungs if rung.loss is not None]
    if not seen:
        return f"no int8 file could be made or run: {ladder.rungs[-1].reason}" if ladder.rungs else "nothing was tried"
    best = min(seen, key=lambda rung: rung.loss or 0.0)
    if best.loss is not None and best.loss <= max_loss:
        return f"{best.scheme.details} is inside the loss and {best.reason}: ship fp32 or fp16"
    return (
        f"the best is {best.scheme.details}, which loses {format_percent(best.loss or 0.0, 2)}: allow that with --max-loss, "
        "or let a build train the student under rounding, for which it needs its teacher"
    )


def with_beside(asked: Asked, text: str) -> Asked:
    """`asked` with the precisions of a command line's list (`"fp16,int8-weights"`, may be empty). Raises InputError."""
    known = (Precision.FP16, Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"unknown precision {', '.join(unknown)}", fix=f"use {', '.join(known)}")
    return replace(asked, beside=tuple(precision for precision in known if precision.value in names))
