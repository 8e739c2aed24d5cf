"""Core ML packages (mlprogram) from the torch program, and the parts of that which quantisation shares.

The package takes an RGB image of `contract.resolution` squared, 0..255, as `image` (an ImageType of scale 1 and no bias:
coremltools has no uint8 tensor, and normalisation is in the program), and gives `logits` as float32 [1, classes] at
every precision. Contract, labels and the build's hash are in its user-defined metadata.

coremltools is imported inside functions: it takes two seconds and has no wheel for every machine.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import logging
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.artifacts import ExportedModel, TensorSignature
from edgedistill.errors import MissingDependencyError, UnsupportedError
from edgedistill.exporters.carried import carried_entries
from edgedistill.exporters.coreml_rewrites import in_known_operations
from edgedistill.exporters.origin import culprits
from edgedistill.specs import Contract, Format, Precision, QuantScheme
from edgedistill.store import file_sha256, size_bytes, sync_folder, sync_tree

if TYPE_CHECKING:
    from torch.export import ExportedProgram

DEPLOYMENT_TARGET = "iOS17"
"""The oldest system the packages load on: `quantize` and `dequantize` of activations came with it (macOS 14 too)."""
SPECIFICATION_VERSION = 8
"""Core ML's number for that system."""

_CONVERSION_DATE_KEY = "com.github.apple.coremltools.conversion_date"
_DEBUG_HANDLES = "executorch_debug_handle_mapping.json"
_CHATTERING_LOGGERS = ("coremltools", "torchao", "torch.utils._pytree")


def import_coremltools() -> Any:
    """The coremltools module, imported without its chatter. Raises MissingDependencyError with the line that installs it."""
    try:
        with quiet():
            return importlib.import_module("coremltools")
    except ModuleNotFoundError as error:
        if error.name != "coremltools":
            raise
        raise MissingDependencyError(
            "Core ML packages need coremltools, which is not installed",
            fix='pip install "coremltools>=9.0,<10" (it has wheels for macOS and for Linux on x86-64)',
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of coremltools and torchao. Errors pass.

    Streams are left alone: another thread may be drawing progress on them.
    """
    loggers = [logging.getLogger(name) for name in _CHATTERING_LOGGERS]
    levels = [logger.level for logger in loggers]
    tqdm = importlib.import_module("tqdm").tqdm if importlib.util.find_spec("tqdm") else None
    init = tqdm.__init__ if tqdm else None
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if tqdm:
            # coremltools has no switch for its bars; tqdm reads its environment variable at import, which is too late here.
            tqdm.__init__ = functools.partialmethod(init, disable=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if tqdm:
            tqdm.__init__ = init
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def export_coreml(
    program: ExportedProgram, contract: Contract, path: Path, precision: Precision, *, build_hash: str
) -> ExportedModel:
    """`program` (float32 [1, 3, R, R] in 0..255 to logits [1, classes]) as a package at `path` (`.mlpackage`), computing in
    fp32 or fp16. The same program gives the same bytes. Raises UnsupportedError where Core ML lacks an operation, or for
    int8, which needs calibration; MissingDependencyError without coremltools."""
    if precision is Precision.INT8:
        raise UnsupportedError(
            "export_coreml converts to fp32 and fp16 only", fix="use quantize_coreml, which calibrates activations"
        )
    return convert_and_write(program, contract, path, QuantScheme(precision=precision), build_hash=build_hash)


def convert_and_write(
    program: ExportedProgram,
    contract: Contract,
    path: Path,
    scheme: QuantScheme,
    *,
    build_hash: str,
    compress: Callable[[Any], Any] | None = None,
) -> ExportedModel:
    """Convert any program of the contract, quantised or not, and write it whole or not at all. An int8 program computes in
    fp16 where it is not quantised. `compress` is given the converted MLModel and returns the one to write."""
    if path.suffix != ".mlpackage":
        raise ValueError(f"a Core ML package ends in .mlpackage, not {path.name}")
    ct = import_coremltools()
    shape = (1, 3, contract.resolution, contract.resolution)
    half = scheme.precision is not Precision.FP32
    try:
        with quiet():
            model = ct.convert(
                in_known_operations(program),
                convert_to="mlprogram",
                inputs=[ct.ImageType(name=contract.input_name, shape=shape, color_layout=ct.colorlayout.RGB)],
                # fp16 programs would give fp16 logits; apps and checks read one type at every precision.
                outputs=[ct.TensorType(name=contract.output_name, dtype=np.float32)],
                minimum_deployment_target=getattr(ct.target, DEPLOYMENT_TARGET),
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                skip_model_load=True,
            )
    except NotImplementedError as error:
        raise UnsupportedError(
            f"Core ML has no counterpart for an operation of the model: {error}",
            problems=culprits(program, str(error)),
            fix="take another family, or leave coreml out of [export] formats",
        ) from error
    if compress is not None:
        with quiet():
            compressed = compress(model)
        shutil.rmtree(model.package_path, ignore_errors=True)
        model = compressed
    _write(model, contract, path, scheme, build_hash)
    return ExportedModel(
        path=path,
        format=Format.COREML,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="rgb8 image", shape=shape),),
        outputs=(TensorSignature(name=contract.output_name, dtype="float32", shape=(1, len(contract.labels))),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def _write(model: Any, contract: Contract, path: Path, scheme: QuantScheme, build_hash: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mlpackage")
    try:
        with quiet():
            model.save(str(temporary))
        # coremltools keeps each conversion's own copy in the temporary folder until the process ends.
        shutil.rmtree(model.package_path, ignore_errors=True)
        _settle(temporary, model.get_spec(), contract, scheme, build_hash)
        sync_tree(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _settle(package: Path, spec: Any, contract: Contract, scheme: QuantScheme, build_hash: str) -> None:
    """Metadata in; date, random identifiers and debug files out, so that the hash depends on the content alone."""
    (package / _DEBUG_HANDLES).unlink(missing_ok=True)
    metadata = spec.description.metadata
    metadata.shortDescription = f"Image classifier with {len(contract.labels)} classes, made by edgedistill"
    metadata.userDefined.pop(_CONVERSION_DATE_KEY, None)
    for key, value in carried_entries(contract, scheme, build_hash).items():
        metadata.userDefined[key] = value
    side = contract.resolution
    spec.description.input[0].shortDescription = f"RGB image, {side} x {side}, values 0..255"
    spec.description.output[0].shortDescription = "one logit a class, in the order of the labels"

    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text())
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for old, item in manifest["itemInfoEntries"].items()
    }
    items = {names[old]: item for old, item in manifest["itemInfoEntries"].items()}
    root = names[manifest["rootModelIdentifier"]]
    manifest |= {"itemInfoEntries": items, "rootModelIdentifier": root}
    # Byte for byte as coremltools writes it, since coremltools rewrites the manifest of any package that it opens.
    manifest_path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")

    model_file = package / "Data" / items[root]["path"]
    model_file.write_bytes(spec.SerializeToString(deterministic=True))
    model_file.chmod(0o644)  # coremltools copies it from a private temporary file
