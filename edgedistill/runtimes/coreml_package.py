"""What a Core ML package holds, read back without running it, and the checks on it."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgedistill.artifacts import CompiledArtifact
from edgedistill.errors import EdgedistillError, InputError, Problem, UnsupportedError
from edgedistill.export.carried import CONTRACT_KEY, LABELS_KEY
from edgedistill.export.coreml import (
    DEPLOYMENT_TARGET,
    SPECIFICATION_VERSION,
    import_coremltools,
    quiet,
)
from edgedistill.runtimes.coreml_limits import bounded_loading, check_weights, stored_operations
from edgedistill.specs import Contract, Precision
from edgedistill.store import digest, file_sha256

_WEIGHTED = ("conv", "linear", "matmul")
_ELSEWHERE = "run the package on a Mac instead"
# What coremltools and its native readers raise for missing items, broken JSON and programs whose parts do not fit together.
_DAMAGE = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, OSError)
_INT8_WEIGHTS = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")


@dataclass(frozen=True, eq=False)
class Package:
    """A package that was read whole. `spec` is the Model protobuf, `function` its one function as coremltools' operation
    graph, `weights_bytes` the size of the weight file."""

    path: Path
    spec: Any
    function: Any
    weights_bytes: int

    @property
    def main(self) -> tuple[Any, ...]:
        """The MIL operations of the function, constants aside."""
        return tuple(operation for operation in self.function.operations if operation.op_type != "const")

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.spec.description.metadata.userDefined)

    @property
    def operations(self) -> Counter[str]:
        """How often each MIL operation occurs, constants aside."""
        return Counter(operation.op_type for operation in self.main)


@dataclass(frozen=True)
class Check:
    """One thing checked: the sentence that holds if `passed`, else what was found instead."""

    passed: bool
    text: str
    failure: str


def read_package(path: Path) -> Package:
    """Load specification, program and weights. Raises InputError for a missing package and one with tensors beyond
    `coreml_limits`, UnsupportedError for one that coremltools cannot read back, EdgedistillError for a damaged one, with the
    cause."""
    if not path.is_dir():
        raise InputError(f"{path} is {'a file' if path.exists() else 'not there'}", fix="name a .mlpackage folder")
    ct = import_coremltools()
    with quiet():
        milproto = importlib.import_module("coremltools.converters.mil.frontend.milproto.load")
        protobuf = importlib.import_module("google.protobuf.message")
        try:
            with _untouched(path) as copy:
                model = ct.models.MLModel(str(copy), skip_model_load=True)
                spec = model.get_spec()
                if spec.WhichOneof("Type") != "mlProgram":
                    raise InputError(f"{path} holds a {spec.WhichOneof('Type')}, not an ML program")
                _check_operations(path, spec)
                check_weights(spec, Path(model.weights_dir), path)
                with bounded_loading():
                    program = milproto.load(spec, spec.specificationVersion, model.weights_dir)
                # A program of small constants only has no weight file; one that refers to it does not load without.
                weight_file = Path(model.weights_dir) / "weight.bin"
                weights_bytes = weight_file.stat().st_size if weight_file.exists() else 0
        except NotImplementedError as error:
            raise UnsupportedError(f"coremltools cannot read {path} back: {error}", fix=_ELSEWHERE) from error
        except (*_DAMAGE, protobuf.DecodeError) as error:
            raise EdgedistillError(
                f"{path} is damaged: {_first_line(error)}",
                fix="copy it again or build it again",
            ) from error
    if "main" not in program.functions:
        raise UnsupportedError(
            f"{path} has the functions {', '.join(program.functions)} and no main",
            fix="save the one you need as a package of its own (coremltools.utils.MultiFunctionDescriptor)",
        )
    return Package(path=path, spec=spec, function=program.functions["main"], weights_bytes=weights_bytes)


def _first_line(error: Exception) -> str:
    """An exception in a line; a KeyError's text would be the key alone."""
    if isinstance(error, KeyError):
        return f"what it refers to is missing: {error.args[0]}"
    return str(error).partition("\n")[0] or type(error).__name__


def _check_operations(path: Path, spec: Any) -> None:
    registry = importlib.import_module("coremltools.converters.mil.mil.ops.registry").SSAOpRegistry
    # How a state is written has another name in the file than in coremltools' graph.
    known = {*registry.core_ops, "write_state"}
    unknown = sorted({operation.type for operation in stored_operations(spec.mlProgram)} - known)
    if unknown:
        raise UnsupportedError(
            f"{path} has operations that coremltools does not know",
            problems=[Problem(name, "unknown operation", "update coremltools") for name in unknown],
        )


@contextmanager
def _untouched(path: Path) -> Iterator[Path]:
    """A package with the same content in a temporary folder: coremltools rewrites the manifest of what it opens, and a
    check must neither change its object nor fail because that is write-protected."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-coreml-") as folder:
        copy = Path(folder) / "reading.mlpackage"
        copy.mkdir()
        (copy / "Data").symlink_to((path / "Data").absolute())
        shutil.copyfile(path / "Manifest.json", copy / "Manifest.json")
        yield copy


def check_package(package: Package, artifact: CompiledArtifact) -> Iterator[Check]:
    """Everything that can be told without running: the hash, the signature, the metadata, the arithmetic."""
    found = file_sha256(package.path)
    yield Check(
        found == artifact.sha256,
        "the hash is the one that was recorded",
        f"the hash is {found[:12]}, recorded is {artifact.sha256[:12]}",
    )
    version = package.spec.specificationVersion
    yield Check(
        version == SPECIFICATION_VERSION,
        f"specification version {version} ({DEPLOYMENT_TARGET} and later)",
        f"specification version {version}, not {SPECIFICATION_VERSION} ({DEPLOYMENT_TARGET})",
    )
    try:
        contract = Contract.model_validate_json(package.metadata.get(CONTRACT_KEY, ""))
    except ValidationError as error:
        yield Check(False, "", f"the metadata has no valid {CONTRACT_KEY}: {error.errors()[0]['msg']}")
    else:
        yield from _check_signature(package, contract)
        yield from _check_labels(package, contract, artifact)
    check = _check_int8 if artifact.scheme.precision is Precision.INT8 else _check_float
    yield from check(package, artifact.scheme.precision)


def _check_signature(package: Package, contract: Contract) -> Iterator[Check]:
    side, classes = contract.resolution, len(contract.labels)
    inputs = [described(feature) for feature in package.spec.description.input]
    outputs = [described(feature) for feature in package.spec.description.output]
    for kind, actual, wanted in (
        ("input", inputs, f"{contract.input_name}: RGB image {side} x {side}"),
        ("output", outputs, f"{contract.output_name}: FLOAT32 [1, {classes}]"),
    ):
        yield Check(actual == [wanted], f"one {kind}, {wanted}", f"{kind}s are {actual or 'absent'}, not {wanted}")


def described(feature: Any) -> str:
    """Name, kind and shape of an input or output."""
    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        return f"{feature.name}: {image.ColorSpace.Name(image.colorSpace)} image {image.width} x {image.height}"
    array = feature.type.multiArrayType
    return f"{feature.name}: {array.ArrayDataType.Name(array.dataType)} {list(array.shape)}"


def _check_labels(package: Package, contract: Contract, artifact: CompiledArtifact) -> Iterator[Check]:
    labels = json.dumps(contract.labels, ensure_ascii=False)
    yield Check(
        package.metadata.get(LABELS_KEY) == labels,
        f"the metadata has the contract and its {len(contract.labels)} labels",
        "the labels in the metadata are not those of its contract",
    )
    recorded = artifact.record.get("contract_sha256")
    yield Check(
        recorded == contract_digest(package),
        "the contract is the one that was recorded",
        "the contract in the metadata is not the one that was recorded",
    )


def contract_digest(package: Package) -> str:
    """Hash of the contract in the metadata, as text."""
    return digest(package.metadata.get(CONTRACT_KEY, ""))


def _check_int8(package: Package, precision: Precision) -> Iterator[Check]:
    layers = [op for op in package.main if op.op_type in _WEIGHTED]
    weights = _count(layers, lambda op: _made_by(op, "weight", *_INT8_WEIGHTS) and _stored_int8(op.inputs["weight"].op))
    activations = _count(layers, lambda op: _made_by(op, "x", "dequantize"))
    for count, what in ((weights, "int8 weights"), (activations, "int8 activations coming in")):
        text = f"{count} of {len(layers)} weighted layers have {what}"
        yield Check(bool(layers) and count == len(layers), text, f"only {text}")
    pairs = package.operations
    yield Check(
        pairs["quantize"] > 0,
        f"{pairs['quantize']} quantize and {pairs['dequantize']} dequantize operations",
        "no quantize operation: activations stay in floating point",
    )


def _check_float(package: Package, precision: Precision) -> Iterator[Check]:
    quantized = [name for name in package.operations if name == "quantize" or name.startswith("constexpr_")]
    layers = [op for op in package.main if op.op_type in _WEIGHTED]
    wanted = {Precision.FP32: "fp32", Precision.FP16: "fp16"}[precision]
    found = Counter(op.outputs[0].dtype.__name__ for op in layers)
    yield Check(
        bool(layers) and set(found) == {wanted} and not quantized,
        f"all {len(layers)} weighted layers compute in {wanted}, nothing is quantised",
        f"weighted layers compute in {dict(found)}, not {wanted}" + (f"; there are {quantized}" if quantized else ""),
    )


def _count(operations: list[Any], holds: Callable[[Any], bool]) -> int:
    return sum(1 for operation in operations if holds(operation))


def _made_by(operation: Any, argument: str, *kinds: str) -> bool:
    source = operation.inputs.get(argument)
    return source is not None and source.op is not None and source.op.op_type in kinds


def _stored_int8(constexpr: Any) -> bool:
    stored = constexpr.inputs.get("quantized_data", constexpr.inputs.get("data"))
    return stored is not None and stored.val.dtype.name == "int8"


def weighted_layers(package: Package) -> dict[str, str]:
    """How each convolution, linear layer and matrix product with constant weights computes: by its name, `int8 weights,
    fp16`: the type its weights are stored in where that is not the one it computes in, and the latter."""
    return {
        op.outputs[0].name: _arithmetic(op)
        for op in package.main
        if op.op_type in _WEIGHTED and _constant(op.inputs.get("weight", op.inputs.get("y")))
    }


def computed_precision(package: Package) -> Precision:
    """Int8 where a weighted layer has int8 weights and inputs, else the wider of the types that such layers compute in."""
    layers = [op for op in package.main if op.op_type in _WEIGHTED]
    if any(_made_by(op, "x", "dequantize") for op in layers):
        return Precision.INT8
    kinds = {op.outputs[0].dtype.__name__ for op in layers}
    return Precision.FP16 if kinds == {"fp16"} else Precision.FP32


def _constant(source: Any) -> bool:
    op = getattr(source, "op", None)
    return op is not None and (
        op.op_type == "const" or op.op_type.startswith("constexpr_") or op.op_type == "dequantize"
    )


def _arithmetic(op: Any) -> str:
    computed = op.outputs[0].dtype.__name__
    weight = op.inputs.get("weight", op.inputs.get("y"))
    if weight.op.op_type == "const":
        return str(computed)
    kind = "int8" if _stored_int8(weight.op) else weight.op.op_type.removeprefix("constexpr_")
    coming_in = ", int8 input" if _made_by(op, "x", "dequantize") else ""
    return f"{kind} weights{coming_in}, {computed}"
