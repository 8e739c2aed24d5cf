"""Core ML packages (mlprogram) from the torch program, and the parts of that which quantisation shares.

The package takes an RGB image of `contract.resolution` squared, 0..255, as `image` (an ImageType of scale 1 and no bias:
coremltools has no uint8 tensor, and normalisation is in the program), and gives `logits`, or an `embedding`, as float32 at
every precision; beside logits it gives what makes it a classifier (classifier.py). Contract, labels and the build's hash
are in its user-defined metadata.

coremltools is imported inside functions: it takes two seconds and has no wheel for every machine.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.quiet import quiet
from edgedistill.base.store import copy_atomic, file_sha256, size_bytes, whole
from edgedistill.base.units import beginning
from edgedistill.documents.artifacts import ExportedModel, TensorSignature
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.formats.carried import PROBABILITIES_KEY, carried_entries
from edgedistill.formats.coreml.classifier import CLASSIFIER, add_classifier, set_temperature
from edgedistill.formats.coreml.folder import MANIFEST
from edgedistill.formats.coreml.package import read_package
from edgedistill.formats.coreml.rewrites import in_known_operations
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET, import_coremltools, mil
from edgedistill.formats.format import ModelMetadata
from edgedistill.formats.origin import translating

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SPECIFICATION_VERSION = 8
"""Core ML's number for that system."""


def export_coreml(
    program: ExportedProgram, contract: Contract, path: Path, precision: Precision, *, build_hash: str
) -> ExportedModel:
    """`program` (float32 [1, 3, R, R] in 0..255 to logits [1, classes]) as a package at `path` (`.mlpackage`), computing in
    fp32 or fp16. The same program gives the same bytes. Raises UnsupportedError where Core ML lacks an operation, and
    for other precisions; MissingDependencyError without coremltools."""
    if precision not in (Precision.FP32, Precision.FP16):
        raise UnsupportedError(
            f"export_coreml converts to fp32 and fp16 only, not {precision}",
            fix="use quantize_coreml for int8 and mixed, compress_coreml for weights alone",
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
    output = TensorSignature(name=contract.output_name, dtype="float32", shape=(1, contract.width))
    half = scheme.precision is not Precision.FP32
    # coremltools numbers the constants that it names. Reading a package back leaves the count where it was.
    mil("builder").Builder.name_count.clear()
    with translating("coremltools", program, Format.COREML), quiet():
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
        if compress is not None:
            converted, model = model, compress(model)
            shutil.rmtree(converted.package_path, ignore_errors=True)
    with whole(path) as temporary:
        with quiet():
            model.save(str(temporary))
        # coremltools keeps each conversion's own copy in the temporary folder until the process ends.
        shutil.rmtree(model.package_path, ignore_errors=True)
        _settle(temporary, model.get_spec(), contract, scheme, build_hash)
    return ExportedModel(
        path=path,
        format=Format.COREML,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="RGB image", shape=shape[2:]),),
        outputs=(output,) if contract.vector else (*CLASSIFIER, output),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def coreml_with_metadata(package: Path, metadata: ModelMetadata, path: Path) -> Path:
    """The package at `path`, whole or not at all, with this metadata in the fields that Xcode shows, and with probabilities
    at its temperature. Returns `path`."""
    spec = read_package(package).spec
    fields = spec.description.metadata
    fields.shortDescription, about = metadata.description, metadata.about
    fields.author, fields.license, fields.versionString = about.author, about.license, about.version
    if about.name:
        fields.userDefined["name"] = about.name
    if metadata.probabilities is not None:
        fields.userDefined[PROBABILITIES_KEY] = metadata.probabilities_json
        set_temperature(spec, metadata.probabilities.temperature)
    with whole(path) as temporary:
        copy_atomic(package, temporary)
        settle_folder(temporary, spec)
    return path


def _settle(package: Path, spec: Any, contract: Contract, scheme: QuantScheme, build_hash: str) -> None:
    """Metadata in; date, random identifiers and debug files out, so that the hash depends on the content alone."""
    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    spec.description.output[0].shortDescription = contract.output_said
    if contract.vector is None:
        add_classifier(spec, contract)
    metadata = spec.description.metadata
    metadata.shortDescription = beginning(f"{contract.described}, made by edgedistill")
    metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    metadata.userDefined.update(carried_entries(contract, scheme, build_hash))
    side = contract.resolution
    spec.description.input[0].shortDescription = f"RGB image, {side} x {side}, values 0..255"
    settle_folder(package, spec)


def settle_folder(package: Path, spec: Any) -> None:
    """Write the Model protobuf `spec` into the package, of which random identifiers become those of the files' places."""
    manifest_path = package / MANIFEST
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
