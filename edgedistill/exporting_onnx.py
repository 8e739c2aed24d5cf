"""`edgedistill export FILE.onnx`: a model that is ONNX already, in ONNX's precisions and as a TensorRT engine."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from edgedistill import __version__
from edgedistill.artifacts import ExportedModel
from edgedistill.config import DataConfig
from edgedistill.converters import Conversion
from edgedistill.documents import ExportResult
from edgedistill.errors import InputError, UnsupportedError
from edgedistill.exporters.metadata import load, read_contract, signatures
from edgedistill.exporters.program import probe_images
from edgedistill.exporting import CALIBRATION_IMAGES, PROBES, Making, Wanted, make_folder
from edgedistill.opening import reading
from edgedistill.progress import Listener
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.runtimes.base import Images, Logits
from edgedistill.runtimes.onnxruntime import OnnxRuntime
from edgedistill.sources import ModelOptions, calibration_images, check_onnx_file
from edgedistill.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.store import file_sha256, size_bytes
from edgedistill.verification import run_all


def export_onnx_file(
    path: Path, options: ModelOptions, data: DataConfig | None, wanted: Wanted, listener: Listener
) -> ExportResult:
    """Files of an ONNX model: checked copies in fp32 and fp16, int8 where the file carries a contract that says how images
    go in, and engines. Raises InputError for a file that is none, for options that cannot change it and for formats that
    are made from torch alone."""
    check_onnx_file(path, options, wanted.formats, "exported")
    make_folder(wanted.out)
    model, contract, images, reference, not_run = reading(path, _read, path, wanted.target, wanted.verify)
    if data is not None and contract is not None:
        wanted = replace(wanted, calibration=calibration_images(data, contract, CALIBRATION_IMAGES))
    with tempfile.TemporaryDirectory(prefix=".edgedistill-", dir=wanted.out) as scratch:
        making = Making(
            wanted=wanted,
            listener=listener,
            folder=Path(scratch),
            label=path.stem,
            images=images,
            reference=reference,
            conversion=Conversion(
                contract=contract or Contract(resolution=1, mean=(0, 0, 0), std=(1, 1, 1), labels=()),
                build_hash=model.sha256,
                module=_no_torch,
                program=_no_torch,
                calibration=wanted.calibrating if contract else _no_contract,
                style=IntegerStyle.for_onnxruntime(wanted.machine),
            ),
            contract=contract,
            full=model,
            not_run=not_run,
        )
        making.make()
    return ExportResult(
        edgedistill_version=__version__,
        model=str(path),
        contract=contract,
        parameters=None,
        files=tuple(making.files),
        failures=tuple(making.failures),
        notes=() if contract else (f"{path.name} carries no contract: the files take what it takes",),
    )


def _read(path: Path, target: Target, verify: bool) -> tuple[ExportedModel, Contract | None, Images, Logits, str]:
    """The file as it is, its contract, and probe images with its own answers to them."""
    artifact = OnnxRuntime().adopt(path, target)
    proto = load(path)
    inputs, outputs = signatures(list(proto.graph.input)), signatures(list(proto.graph.output))
    model = ExportedModel(
        path=path.absolute(),
        format=Format.ONNX,
        scheme=QuantScheme(precision=Precision.FP32),
        inputs=inputs,
        outputs=outputs,
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )
    nothing = np.empty((0, 0), np.float32)
    if artifact.scheme.precision is not Precision.FP32:
        raise InputError(f"{path} is {artifact.scheme.label} already", fix="give the fp32 file that it was made from")
    contract = read_contract(path)
    if not verify:
        return model, contract, np.empty((0,), np.uint8), nothing, "not asked for"
    try:
        images = probe_images(contract, PROBES) if contract else _random(inputs[0].dtype, inputs[0].shape)
        reference = run_all(OnnxRuntime(), artifact, images, classes=None)
    except (UnsupportedError, IndexError) as error:
        return model, contract, np.empty((0,), np.uint8), nothing, str(error)
    return model, contract, images, reference, ""


def _random(dtype: str, shape: tuple[int, ...]) -> Images:
    """PROBES seeded values of an input's own type; a dimension that is left open is one."""
    size = (PROBES, *(max(1, side) for side in shape[1:]))
    generator = np.random.default_rng(0)
    if dtype == "uint8":
        return generator.integers(0, 256, size, np.uint8)
    return generator.standard_normal(size).astype(dtype)


def _no_torch() -> NoReturn:
    raise UnsupportedError("there is no torch model behind an ONNX file")


def _no_contract() -> Images:
    raise UnsupportedError(
        "the ONNX file does not say how images go in, so nothing can be calibrated",
        fix="export it from its torch model, or quantise it with onnxruntime.quantization and your own reader",
    )
