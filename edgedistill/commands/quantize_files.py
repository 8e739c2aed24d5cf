"""`edgedistill quantize`: the ladder for one model, its winner written as a file in each format.

open the model -> calibration and validation images -> for each format: fp32 -> fp16 beside -> the ladder -> the winner
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import EdgedistillError, InputError, UnreachableError
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import Store, write_atomic
from edgedistill.base.units import format_percent
from edgedistill.commands.export import kept, parse_formats
from edgedistill.commands.model import (
    CALIBRATION_IMAGES,
    ModelSettings,
    check_onnx_file,
    onnx_source,
    open_model,
    open_onnx_file,
)
from edgedistill.commands.options import ModelOptions, chosen, listed
from edgedistill.data.argument import data_config
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.devices.attach import attach
from edgedistill.documents.answers import FormatLadder, QuantizeResult
from edgedistill.documents.artifacts import answers_of
from edgedistill.documents.build_file import ExportConfig, parse_percent
from edgedistill.documents.specs import Format, Precision, QuantScheme, Target
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.build import make_folder
from edgedistill.pipeline.judge import beside, climbed, made
from edgedistill.pipeline.meter import Meter
from edgedistill.selection.ladder import Margins

FP32 = QuantScheme(precision=Precision.FP32)


@dataclass(frozen=True, eq=False)
class QuantizeRequest:
    """What is wanted of a model: `beside` are precisions tried beside the ladder."""

    formats: tuple[Format, ...]
    target: Target
    out: Path
    margins: Margins
    beside: tuple[Precision, ...] = (Precision.FP16,)


def quantize(
    model: str,
    *,
    data: str,
    out: Path | str = "quantized",
    max_loss: str = "0.5%",
    formats: str = "onnx",
    also: str = "fp16",
    listener: Listener = silent,
    **options: Unpack[ModelOptions],
) -> QuantizeResult:
    """Quantise a model (what `export` takes) to int8, or as much of it as loses no more than `max_loss` of its accuracy on
    `data` (see `--data`), by the first rung of the ladder that does in each format of `formats`; winners are written to
    `out`. `also` are precisions tried beside ("fp16,int8-weights"); see ModelOptions for the others. Raises InputError for
    bad input."""
    settings = ModelSettings.of(options)
    margins = Margins(max_loss=parse_percent(max_loss))
    asked = with_beside(
        QuantizeRequest(parse_formats(formats), load_target(str(options.get("target", "host"))), Path(out), margins),
        also,
    )
    return quantize_model(model, settings, data, asked, listener=listener)


def quantize_model(
    model: str, options: ModelSettings, data: str, asked: QuantizeRequest, *, listener: Listener = silent
) -> QuantizeResult:
    """Climb the ladder in every format of `asked` and write each winner, with the indices of its calibration images beside
    it as NAME.calibration.json. `model` is what `open_model` takes, or an ONNX file that carries a contract; `data` is what
    `--data` takes.

    A format without a winner is in the result, which is then not `ok`. Raises InputError for bad input.
    """
    config = data_config(data)
    dataset = load_dataset(config, listener)  # first: a wrong path is told before any weights are fetched
    source, notes = _opened(model, options, asked)
    _check(source, dataset, data)
    make_folder(asked.out)
    with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=asked.out) as scratch:
        store = Store(Path(scratch), listener)
        bench = Bench(
            target=asked.target.model_copy(update={"formats": asked.formats}),
            store=store,
            data=config,
            dataset=dataset,
            mean=source.contract.mean,
            std=source.contract.std,
            export=ExportConfig(calibration_images=CALIBRATION_IMAGES).model_copy(
                update={
                    "max_accuracy_loss": asked.margins.max_loss,
                    "margin_speed": asked.margins.speed,
                    "margin_size": asked.margins.size,
                }
            ),
            meter=_meter(asked.target, store),
        )
        found = tuple(_climbed(bench, source, form, asked) for form in asked.formats)
        calibration = bench.calibration.chosen
    assert calibration is not None
    return QuantizeResult(
        model=source.label,
        data=data,
        target=asked.target.name,
        max_loss=asked.margins.max_loss,
        calibration=calibration,
        images=len(dataset.splits.validation),
        formats=found,
        notes=notes,
    )


def _meter(target: Target, store: Store) -> Meter:
    try:
        return Meter(target, attach(target, store.listener))
    except UnreachableError as error:
        return Meter(target, None, error.message)


def _climbed(bench: Bench, source: Source, form: Format, asked: QuantizeRequest) -> FormatLadder:
    try:
        baseline = made(bench, source, FP32, form)
        rungs = climbed(bench, source, form, baseline)
        winner = next((rung for rung in rungs if rung.accepted), None)
        file = None if winner is None else made(bench, source, winner.scheme, form)
    except EdgedistillError as error:
        return FormatLadder(format=form, problem=f"{error.message} {error.fix}".strip())
    kinds, paths = [], []
    for precision in asked.beside:
        rung, other = beside(bench, source, QuantScheme(precision=precision), form, baseline)
        kinds.append(rung)
        if rung.accepted and other is not None:
            paths.append(kept(other.artifact, source.label, asked.out).name)
    if file is not None:
        path = kept(file.artifact, source.label, asked.out)
        assert bench.calibration.chosen is not None
        write_atomic(path.with_name(f"{path.name}.calibration.json"), bench.calibration.chosen.model_dump_json() + "\n")
    answers = answers_of(baseline)
    return FormatLadder(
        format=form,
        accuracy=None if answers is None else answers.accuracy,
        bytes=baseline.artifact.bytes,
        computed_by=None if answers is None else format_for(form).computed_by,
        rungs=rungs,
        beside=tuple(kinds),
        path=None if file is None else path.name,
        paths=tuple(paths),
    )


def _opened(model: str, options: ModelSettings, asked: QuantizeRequest) -> tuple[Source, tuple[str, ...]]:
    if not model.endswith(".onnx"):
        return open_model(model, options, Path.cwd())
    path = Path(model)
    check_onnx_file(path, options, asked.formats, "quantised")
    file = open_onnx_file(path, asked.target)
    if file.contract is None:
        raise InputError(
            f"{path.name} does not say how images go in: it carries no contract", fix="export it with edgedistill"
        )
    return onnx_source(path, file), ()


def _check(source: Source, dataset: Dataset, data: str) -> None:
    if len(dataset.classes) != len(source.contract.labels):
        raise InputError(
            f"{data} has {len(dataset.classes)} classes, and {source.label} tells {len(source.contract.labels)} apart",
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


def with_beside(asked: QuantizeRequest, text: str) -> QuantizeRequest:
    """`asked` with the precisions of a command line's list (`"fp16,int8-weights"`, may be empty). Raises InputError."""
    known = (Precision.FP16, Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
    return replace(asked, beside=chosen(text, known, "precision") if listed(text) else ())
