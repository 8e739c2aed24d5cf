"""What `export` makes: one model as files of several formats, each converted, compiled and run for parity.

    open the model -> one torch program -> for each format and precision: convert -> compile -> run

The last three happen in child processes: what one format does to its process costs that file alone.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import EdgedistillError, InputError, UnsupportedError
from edgedistill.base.progress import Listener, silent, telling
from edgedistill.base.store import Store, sync_folder, write_atomic
from edgedistill.base.versions import __version__
from edgedistill.commands.model import (
    CALIBRATION_IMAGES,
    OnnxFile,
    calibration_images,
    onnx_source,
    open_model,
    open_onnx_file,
)
from edgedistill.commands.requests import ModelRequest
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.answers import ExportedFile, ExportFailure, ExportResult
from edgedistill.documents.artifacts import CompiledArtifact, Parity
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.formats.foreign import reading
from edgedistill.formats.format import Opened
from edgedistill.formats.parity import parity_of
from edgedistill.formats.running import run_all
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import reference_logits, rounding_of, to_program
from edgedistill.networks.tasks import CLASSIFICATION, Task, task_of
from edgedistill.pipeline.bench import CalibrationImages, Maker, Source
from edgedistill.pipeline.build import make_folder
from edgedistill.pipeline.make import apart, compiled, portable

PROBES = 8


def export_files(
    asked: ModelRequest,
    precisions: Sequence[Precision],
    data: DataConfig | None = None,
    *,
    verify: bool = True,
    listener: Listener = silent,
) -> ExportResult:
    """Make the files, in each format in each of `precisions`; `data` calibrates int8. What fails is in the result's
    `failures`. Raises InputError for a model that cannot be opened, UnsupportedError or TrialFailure where there is no torch
    program to make anything from."""
    model, folder = asked.model, asked.out
    target = asked.target.model_copy(update={"formats": asked.formats})
    images = None if data is None else partial(calibration_images, data, listener=listener)
    if model.endswith(".onnx"):
        path = Path(model)
        make_folder(folder)
        file = open_onnx_file(path, target)
        source, contract, parameters = onnx_source(path, file), file.contract, None
        notes: tuple[str, ...] = () if contract else (f"{path.name} carries no contract: the files take what it takes",)
        probes = reading(path, _answered, path, file) if verify else NOT_ASKED
    else:
        with telling(listener, "load", model):
            source, notes = open_model(model, asked.settings, Path.cwd())
        make_folder(folder)
        contract, parameters = source.contract, sum(p.numel() for p in source.load().parameters())
        probes = probes_of(source, listener, verify=verify)
    with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=folder) as scratch:
        maker = ExportMaker(target=target, store=Store(Path(scratch)), images=images, contract=contract)
        exporting = Exporting(maker, source, contract, probes, folder)
        found = [exporting.one(form, kind, listener) for form in asked.formats for kind in precisions]
    return ExportResult(
        edgedistill_version=__version__,
        model=model if model.endswith(".onnx") else source.label,
        contract=contract,
        parameters=parameters,
        files=tuple(one for one in found if isinstance(one, ExportedFile)),
        failures=tuple(one for one in found if isinstance(one, ExportFailure)),
        notes=notes,
    )


# -- what the files are compared with -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Probes:
    """What goes through every file, in the layout of its input, and the model's own answers; `rounding` tells how far these
    are from what it would give without rounding. Without answers nothing is run, and `not_run` says why."""

    images: Images
    answers: Logits
    rounding: Callable[[], float] = float
    not_run: str = ""

    @classmethod
    def none(cls, why: str) -> Probes:
        """Nothing to compare with."""
        return cls(np.empty((0,), np.uint8), np.empty((0, 0), np.float32), not_run=why)


NOT_ASKED = Probes.none("not asked for")


def probes_of(source: Source, listener: Listener = silent, *, verify: bool = True) -> Probes:
    """The probes of a torch model. Also the place where a network that no torch program can be made of is told of, before
    anything is converted."""
    module = source.load()
    with telling(listener, "trace", source.label):
        program = to_program(module, source.contract)
    if not verify:
        return NOT_ASKED
    images = probe_images(source.contract, PROBES)
    # One at a time: a .pt2 program takes the batch that it was exported with.
    return Probes(images, reference_logits(module, images, 1), cache(partial(rounding_of, module, images, program)))


def _answered(path: Path, file: OnnxFile) -> Probes:
    form = format_for(Format.ONNX)
    try:
        if file.contract is not None:
            images = probe_images(file.contract, PROBES)
        else:
            images = _random(file.model.inputs[0].dtype, file.model.inputs[0].shape)
        artifact = form.open(path, load_target("host")).artifact
        return Probes(images, run_all(form, artifact, images, classes=None))
    except (UnsupportedError, IndexError) as error:
        return Probes.none(str(error))


def _random(dtype: str, shape: tuple[int, ...]) -> Images:
    """PROBES seeded values of an input's own type; a dimension that is left open is one."""
    size = (PROBES, *(max(1, side) for side in shape[1:]))
    generator = np.random.default_rng(0)
    if dtype == "uint8":
        return generator.integers(0, 256, size, np.uint8)
    return generator.standard_normal(size).astype(dtype)


# -- the files ------------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class ExportMaker(Maker):
    """Calibrates on the user's `images`, uint8 [n, 3, R, R] through a contract, where there are any. `contract` is None
    where it is not known how images go in."""

    images: Callable[[Contract], Images] | None
    contract: Contract | None

    @cached_property
    def calibration(self) -> CalibrationImages:
        """Raises InputError where no images were given, UnsupportedError where it is not known how they go in."""
        if self.contract is None:
            raise UnsupportedError(
                "the ONNX file does not say how images go in, so nothing can be calibrated",
                fix="export it from its torch model, or quantise it with onnxruntime.quantization and your own reader",
            )
        if self.images is None:
            raise InputError("static int8 needs images to read the activations' ranges off", fix="add --data FOLDER")
        # Loaded once, and in this process: the listener hears nothing from the child process that converts.
        pixels = self.images(self.contract)
        return CalibrationImages("--data", lambda contract: pixels)


@dataclass(frozen=True, eq=False)
class Exporting:
    """The files of one model while they are made; they appear in the folder `out` whole."""

    maker: Maker
    source: Source
    contract: Contract | None
    probes: Probes
    out: Path

    def one(self, form: Format, precision: Precision, listener: Listener) -> ExportedFile | ExportFailure:
        """A file, or why it failed, which costs the others nothing."""
        began = time.monotonic()
        try:
            with telling(listener, "export", f"{self.source.label} {form} {precision}"):
                return self._file(form, precision, began)
        except EdgedistillError as error:
            return ExportFailure(
                format=form,
                precision=precision,
                cause=error.message,
                problems=tuple(map(str, error.problems)),
                fix=error.fix,
                seconds=time.monotonic() - began,
            )

    def _file(self, form: Format, precision: Precision, began: float) -> ExportedFile:
        scheme = QuantScheme(precision=precision)
        if scheme.integer:
            scheme = scheme.model_copy(update={"calibration_images": CALIBRATION_IMAGES})
        artifact = compiled(self.maker, portable(self.maker, self.source, scheme, form), form)
        converted = time.monotonic()
        parity, not_run, checks = self._checked(artifact)
        path = kept(artifact, self.source.label, self.out)
        if record := format_for(form).record(Opened(artifact, self.contract), path.name):
            write_atomic(path.with_name(f"{path.name}.json"), record)
        return ExportedFile(
            format=form,
            precision=precision,
            path=path.name,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            parity=parity,
            computed_by=format_for(form).computed_by if parity else None,
            not_run=not_run,
            checks=checks,
            record=artifact.record,
            fallbacks=artifact.fallbacks,
            seconds_conversion=converted - began,
            seconds_verification=time.monotonic() - converted,
        )

    def _checked(self, artifact: CompiledArtifact) -> tuple[Parity | None, str, tuple[str, ...]]:
        """Parity by running the file, or why it cannot run here with what was checked instead. Raises TrialFailure where it
        computes something else than the model."""
        if self.probes.not_run:
            return None, self.probes.not_run, ()
        logits, not_run, checks = apart(format_for(artifact.format), "running", _run, artifact, self.probes.images)
        if logits is None:
            return None, not_run, checks
        parity, remarks = parity_of(
            self._task, logits, self.probes.answers, artifact.scheme.precision, self.probes.rounding
        )
        return parity, "", remarks

    @property
    def _task(self) -> Task:
        """A file without a contract is taken for a classifier."""
        return CLASSIFICATION if self.contract is None else task_of(self.contract)


def _run(artifact: CompiledArtifact, images: Images) -> tuple[Logits | None, str, tuple[str, ...]]:
    form = format_for(artifact.format)
    try:
        return run_all(form, artifact, images, classes=None), "", ()
    except NotRunnableError as error:
        return None, error.message, form.inspect(artifact).checks


def kept(artifact: CompiledArtifact, label: str, out: Path) -> Path:
    """A finished file of the model `label`, moved into the folder `out`. Returns where it lies."""
    path = out / f"{file_stem(label)}.{artifact.scheme.precision}{format_for(artifact.format).suffixes[0]}"
    if path.is_dir():
        shutil.rmtree(path)
    artifact.path.replace(path)
    sync_folder(out)
    return path


def file_stem(label: str) -> str:
    """What a model's files are called: `resnet18` of `timm:resnet18`, `vit` of `transformers:./vit`."""
    return re.sub(r"[^\w.-]+", "_", label.partition(":")[2] or label).removesuffix(".pt2").lstrip("._")
