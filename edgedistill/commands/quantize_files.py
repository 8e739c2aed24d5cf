"""What `quantize` makes: the ladder for one model, its winner written as a file in each format.

open the model -> calibration and validation images -> for each format: fp32 -> fp16 beside -> the ladder -> the winner
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.base.progress import Listener, silent, telling
from edgedistill.base.store import Store, write_atomic
from edgedistill.commands.export_files import kept
from edgedistill.commands.model import CALIBRATION_IMAGES, onnx_source, open_model, open_onnx_file
from edgedistill.commands.requests import ModelRequest
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.devices.attach import attach
from edgedistill.documents.answers import FormatLadder, QuantizeResult
from edgedistill.documents.artifacts import answers_of
from edgedistill.documents.build_file import DataConfig, ExportConfig
from edgedistill.documents.specs import Format, Precision, QuantScheme
from edgedistill.formats import format_for
from edgedistill.networks.tasks import task_of
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.build import make_folder
from edgedistill.pipeline.judge import beside, climbed, made
from edgedistill.pipeline.meter import Meter, reached
from edgedistill.selection.ladder import Margins

FP32 = QuantScheme(precision=Precision.FP32)


def quantize_files(
    asked: ModelRequest,
    data: DataConfig,
    data_name: str,
    margins: Margins,
    others: Sequence[Precision],
    listener: Listener = silent,
    device: str = "",
) -> QuantizeResult:
    """Climb the ladder in every format of `asked`, on `data`, which the caller calls `data_name`, and write each winner,
    with the indices of its calibration images beside it as NAME.calibration.json. `others` are precisions tried beside the
    ladder. An ONNX file has to carry a contract. `device` is the user's device that measures, empty for the target's own.

    A format without a winner is in the result, which is then not `ok`. Raises InputError for bad input, UnreachableError
    where a device that is named does not answer.
    """
    if device:
        attach(asked.target, listener, device).close()  # before any weights are fetched
    file = _file(asked) if asked.model.endswith(".onnx") else None  # it says whether data can judge it
    dataset = load_dataset(data, listener)  # what is wrong there is told before any weights are fetched
    with telling(listener, "load", asked.model):
        source, notes = (file, ()) if file else open_model(asked.model, asked.settings, Path.cwd())
    _check(source, dataset, data_name)
    if source.contract.background != data.background:  # a file's contract says which: the images are opened anew
        data = data.model_copy(update={"background": source.contract.background})
        dataset = load_dataset(data)
    make_folder(asked.out)
    with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=asked.out) as scratch:
        store = Store(Path(scratch), listener)
        bench = Bench(
            target=asked.target.model_copy(update={"formats": asked.formats}),
            store=store,
            data=data,
            dataset=dataset,
            mean=source.contract.mean,
            std=source.contract.std,
            export=ExportConfig(calibration_images=CALIBRATION_IMAGES).model_copy(
                update={
                    "max_quality_loss": margins.max_loss,
                    "margin_speed": margins.speed,
                    "margin_size": margins.size,
                }
            ),
            meter=Meter(asked.target, *reached(asked.target, listener, device)),
        )
        with closing(bench.meter):
            found = tuple(_climbed(bench, source, form, others, asked.out) for form in asked.formats)
        calibration = bench.calibration.chosen
    assert calibration is not None
    return QuantizeResult(
        metric=task_of(source.contract).metric,
        model=source.label,
        data=data_name,
        target=asked.target.name,
        max_loss=margins.max_loss,
        calibration=calibration,
        images=len(dataset.splits.validation),
        formats=found,
        notes=notes,
    )


def _climbed(bench: Bench, source: Source, form: Format, others: Sequence[Precision], out: Path) -> FormatLadder:
    try:
        baseline = made(bench, source, FP32, form)
        rungs = climbed(bench, source, form, baseline)
        winner = next((rung for rung in rungs if rung.accepted), None)
        file = None if winner is None else made(bench, source, winner.scheme, form)
    except EdgedistillError as error:
        return FormatLadder(format=form, problem=f"{error.message} {error.fix}".strip())
    kinds, paths = [], []
    for precision in others:
        rung, other = beside(bench, source, QuantScheme(precision=precision), form, baseline)
        kinds.append(rung)
        if rung.accepted and other is not None:
            paths.append(kept(other.artifact, source.label, out).name)
    if file is not None:
        path = kept(file.artifact, source.label, out)
        assert bench.calibration.chosen is not None
        write_atomic(path.with_name(f"{path.name}.calibration.json"), bench.calibration.chosen.model_dump_json() + "\n")
    answers = answers_of(baseline)
    return FormatLadder(
        format=form,
        quality=None if answers is None else answers.quality,
        bytes=baseline.artifact.bytes,
        computed_by=None if answers is None else format_for(form).computed_by,
        rungs=rungs,
        beside=tuple(kinds),
        path=None if file is None else path.name,
        paths=tuple(paths),
    )


def _file(asked: ModelRequest) -> Source:
    path = Path(asked.model)
    file = open_onnx_file(path, asked.target)
    if file.contract is None:
        raise InputError(
            f"{path.name} does not say how images go in: it carries no contract", fix="export it with edgedistill"
        )
    if task_of(file.contract).by_teacher:
        raise InputError(
            f"{path.name} is judged by the neighbours that its teacher finds, and quantize knows no teacher",
            fix='let the build make it: precisions = ["fp32", "int8"] in [export]',
        )
    return onnx_source(path, file)


def _check(source: Source, dataset: Dataset, data: str) -> None:
    if source.contract.labels and len(dataset.classes) != len(source.contract.labels):
        raise InputError(
            f"{data} has {len(dataset.classes)} classes, and {source.label} tells {len(source.contract.labels)} apart",
            fix="give the data set that the model was trained for",
        )
    if len(dataset.splits.validation) == 0:
        raise InputError(f"{data} has no validation split to judge by", fix="give one with more images")
