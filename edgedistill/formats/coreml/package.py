"""What a Core ML package holds, read back without running it, and the checks on it."""

from __future__ import annotations

import importlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgedistill.base.errors import EdgedistillError, InputError, Problem, UnsupportedError, first_line
from edgedistill.base.store import digest, file_sha256
from edgedistill.base.units import format_percent
from edgedistill.documents.artifacts import CompiledArtifact, Layer, TensorSignature
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.carried import CONTRACT_KEY, LABELS_KEY
from edgedistill.formats.coreml.export import SPECIFICATION_VERSION
from edgedistill.formats.coreml.folder import MANIFEST, check_folder
from edgedistill.formats.coreml.limits import bounded_loading, check_weights, stored_operations
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET, import_coremltools, mil, quiet
from edgedistill.formats.precisions import INT8_SHARE, integer_share

_WEIGHTED = ("conv", "linear", "matmul")
_ELSEWHERE = "run the package on a Mac instead"
# What coremltools and its native readers raise for missing items, broken JSON and programs whose parts do not fit together.
_DAMAGE = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, OSError)
_INTEGERS = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "dequantize": "input",
}
"""Operations that make a weight of integers, and the argument that holds these."""
_INT8 = "int8"
_STORED = {Precision.INT8_WEIGHTS: _INT8, Precision.INT4_WEIGHTS: "looked-up 4-bit"}
"""How weights are stored that are compressed alone, as `_stored` says it."""
CONTRACT_RECORD = "contract_sha256"
"""The entry of a build's record that holds the hash of the contract."""
_LEFT_ALONE = 2048
"""coremltools compresses the weights of layers that have more of them: a small one's scales would weigh as much."""


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
    """Load specification, program and weights. Raises InputError for a missing package, one that leads out of its folder and
    one with files or tensors beyond `coreml_limits`, UnsupportedError for one that coremltools cannot read back,
    EdgedistillError for a damaged one, with the cause."""
    if not path.is_dir():
        raise InputError(f"{path} is {'a file' if path.exists() else 'not there'}", fix="name a .mlpackage folder")
    ct = import_coremltools()
    manifest = check_folder(path)
    with quiet():
        milproto = importlib.import_module("coremltools.converters.mil.frontend.milproto.load")
        protobuf = importlib.import_module("google.protobuf.message")
        try:
            with _untouched(path, manifest) as copy:
                model = ct.models.MLModel(str(copy), skip_model_load=True)
                spec = model.get_spec()
                if (kind := spec.WhichOneof("Type")) != "mlProgram":
                    holds = f"a {kind}, not an ML program" if kind else "no model: its description is empty"
                    raise InputError(f"{path} holds {holds}", fix="convert the model to an ML program with coremltools")
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
                f"{path} is damaged: {first_line(error)}",
                fix="copy it again or build it again",
            ) from error
    if "main" not in program.functions:
        raise UnsupportedError(
            f"{path} has the functions {', '.join(program.functions)} and no main",
            fix="save the one you need as a package of its own (coremltools.utils.MultiFunctionDescriptor)",
        )
    return Package(path=path, spec=spec, function=program.functions["main"], weights_bytes=weights_bytes)


def _check_operations(path: Path, spec: Any) -> None:
    # How a state is written has another name in the file than in coremltools' graph.
    known = {*mil("ops.registry").SSAOpRegistry.core_ops, "write_state"}
    if unknown := sorted({operation.type for operation in stored_operations(spec.mlProgram)} - known):
        raise UnsupportedError(
            f"{path} has operations that coremltools does not know",
            problems=[Problem(name, "unknown operation", "update coremltools") for name in unknown],
        )


@contextmanager
def _untouched(path: Path, manifest: str) -> Iterator[Path]:
    """A package with the same content in a temporary folder: coremltools rewrites the manifest of what it opens, and a
    check must neither change its object nor fail because that is write-protected. `manifest` is the one that was checked."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-coreml-") as folder:
        copy = Path(folder) / "reading.mlpackage"
        copy.mkdir()
        (copy / "Data").symlink_to((path / "Data").absolute())
        (copy / MANIFEST).write_text(manifest, encoding="utf-8")
        yield copy


def check_package(package: Package, artifact: CompiledArtifact) -> Iterator[Check]:
    """Everything that can be told without running: the hash, the signature, the metadata, the arithmetic. Hash and contract
    are held against the record of the build, where there is one."""
    recorded = artifact.record.get(CONTRACT_RECORD)
    if recorded is not None:
        found = file_sha256(package.path)
        yield Check(
            found == artifact.sha256,
            "the hash is the one that was recorded",
            f"the hash is {found[:12]}, recorded is {artifact.sha256[:12]}",
        )
        yield Check(
            recorded == contract_digest(package),
            "the contract is the one that was recorded",
            "the contract in the metadata is not the one that was recorded",
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
        yield Check(
            package.metadata.get(LABELS_KEY) == json.dumps(contract.labels, ensure_ascii=False),
            f"the metadata has the contract and its {len(contract.labels)} labels",
            "the labels in the metadata are not those of its contract",
        )
    yield from _CHECKS[artifact.scheme.precision](package, artifact.scheme)


def _check_signature(package: Package, contract: Contract) -> Iterator[Check]:
    side, classes = contract.resolution, len(contract.labels)
    image = TensorSignature(name=contract.input_name, dtype="RGB image", shape=(side, side))
    logits = TensorSignature(name=contract.output_name, dtype="float32", shape=(1, classes))
    for kind, actual, wanted in zip(("input", "output"), signature(package), (image, logits), strict=True):
        found = ", ".join(tensor.shown for tensor in actual) or "absent"
        yield Check(actual == (wanted,), f"one {kind}, {wanted.shown}", f"{kind}s are {found}, not {wanted.shown}")


def signature(package: Package) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
    """Inputs and outputs of the package."""
    description = package.spec.description
    return tuple(map(_tensor, description.input)), tuple(map(_tensor, description.output))


def _tensor(feature: Any) -> TensorSignature:
    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        return TensorSignature(
            name=feature.name,
            dtype=f"{image.ColorSpace.Name(image.colorSpace)} image",
            shape=(image.height, image.width),
        )
    array = feature.type.multiArrayType
    return TensorSignature(
        name=feature.name, dtype=str(array.ArrayDataType.Name(array.dataType)).lower(), shape=tuple(array.shape)
    )


def contract_digest(package: Package) -> str:
    """Hash of the contract in the metadata, as text."""
    return digest(package.metadata.get(CONTRACT_KEY, ""))


def _check_int8(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    """Layers are int8 in weights and inputs; see INT8_SHARE for those that may have stayed in floating point."""
    layers, share = _layers(package), integer_share(weighted_layers(package))
    integer, kept = _split(layers)
    text = f"{integer} of {len(layers)} weighted layers have int8 weights and int8 activations coming in"
    stayed = f"; {len(kept)} small ones stayed in {_computed(kept)}" if kept else ""
    yield Check(
        integer + len(kept) == len(layers) and share >= INT8_SHARE,
        text + stayed,
        f"only {text}, which hold {format_percent(share)} of the weights",
    )
    yield _check_pairs(package)


def _check_mixed(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    """Each layer is int8 in weights and inputs or float in both, and there are some of either kind."""
    layers = _layers(package)
    integer, kept = _split(layers)
    yield Check(
        integer > 0 and bool(kept) and integer + len(kept) == len(layers),
        f"{integer} of {len(layers)} weighted layers have int8 weights and int8 activations coming in; "
        f"{len(kept)} stayed in {_computed(kept)}",
        f"of {len(layers)} weighted layers {integer} are int8, {len(kept)} are floating point and "
        f"{len(layers) - integer - len(kept)} are neither",
    )
    yield _check_pairs(package)


def _split(layers: list[Any]) -> tuple[int, list[Any]]:
    """How many layers are int8 in weights and inputs, and those that are floating point in both."""
    integer = sum(_stored(op) == _INT8 and _takes_integers(op) for op in layers)
    return integer, [op for op in layers if not _stored(op) and not _takes_integers(op)]


def _computed(layers: list[Any]) -> str:
    return " and ".join(sorted({op.outputs[0].dtype.__name__ for op in layers}))


def _check_pairs(package: Package) -> Check:
    pairs = package.operations
    return Check(
        pairs["quantize"] > 0,
        f"{pairs['quantize']} quantize and {pairs['dequantize']} dequantize operations",
        "no quantize operation: activations stay in floating point",
    )


def _check_weights(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    wanted, layers = _STORED[scheme.precision], _layers(package)
    stored = sum(_stored(op) == wanted for op in layers)
    plain = [op for op in layers if not _stored(op)]
    missing = sum(math.prod(_weight(op).shape) > _LEFT_ALONE for op in plain)
    text = f"{stored} of {len(layers)} weighted layers have {wanted} weights"
    yield Check(
        bool(layers) and missing == 0 and stored + len(plain) == len(layers),
        text + (f"; the others are too small for it, {_LEFT_ALONE:,} weights at most" if plain else ""),
        f"only {text}, and of the others {missing} have more than {_LEFT_ALONE:,} weights in floating point",
    )
    computed = Counter(op.outputs[0].dtype.__name__ for op in layers)
    pairs = package.operations["quantize"]
    yield Check(
        set(computed) == {"fp16"} and not pairs,
        "all weighted layers compute in fp16, and activations are not quantised",
        f"weighted layers compute in {dict(computed)} with {pairs} quantize operations, not in fp16 without any",
    )


def _check_float(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    quantized = [name for name in package.operations if name == "quantize" or name.startswith("constexpr_")]
    layers = [op for op in package.main if op.op_type in _WEIGHTED]
    wanted = scheme.precision.value
    found = Counter(op.outputs[0].dtype.__name__ for op in layers)
    yield Check(
        bool(layers) and set(found) == {wanted} and not quantized,
        f"all {len(layers)} weighted layers compute in {wanted}, nothing is quantised",
        f"weighted layers compute in {dict(found)}, not {wanted}" + (f"; there are {quantized}" if quantized else ""),
    )


_CHECKS: dict[Precision, Callable[[Package, QuantScheme], Iterator[Check]]] = {
    Precision.FP32: _check_float,
    Precision.FP16: _check_float,
    Precision.INT8: _check_int8,
    Precision.MIXED: _check_mixed,
    Precision.INT8_WEIGHTS: _check_weights,
    Precision.INT4_WEIGHTS: _check_weights,
}


def _layers(package: Package) -> list[Any]:
    """The convolutions, linear layers and matrix products that have weights: products of two activations have none."""
    return [op for op in package.main if op.op_type in _WEIGHTED and _constant(_weight(op))]


def _weight(op: Any) -> Any:
    return op.inputs.get("weight", op.inputs.get("y"))


def _takes_integers(op: Any) -> bool:
    """Whether what a layer is applied to was quantised."""
    source = op.inputs.get("x")
    return source is not None and source.op is not None and source.op.op_type == "dequantize"


def _stored(op: Any) -> str:
    """How a layer's weight is stored: empty for the type that it computes in, else `int8`, `looked-up 4-bit`, or the name of
    the operation that makes it of something else."""
    source = _weight(op).op
    if source.op_type == "const":
        return ""
    if source.op_type == "constexpr_lut_to_dense":
        # A table of 2 to the bits values; that of later systems has a table a channel, its length one before last.
        shape = source.inputs["lut"].shape
        return f"looked-up {int(shape[0 if len(shape) == 1 else -2]).bit_length() - 1}-bit"
    if (integers := _INTEGERS.get(source.op_type)) is not None:
        return str(mil("types").builtin_to_string(source.inputs[integers].dtype))
    return str(source.op_type).removeprefix("constexpr_")


def weighted_layers(package: Package) -> tuple[Layer, ...]:
    """Each convolution, linear layer and matrix product with constant weights, called after its output."""
    return tuple(_described(op) for op in _layers(package))


def computed_precision(package: Package) -> Precision:
    """Int8 where all weighted layers have int8 inputs, mixed where some have; else what weights are stored in, int8 or
    4 bits; else the wider of the types that layers compute in."""
    layers = _layers(package)
    if integer := sum(map(_takes_integers, layers)):
        return Precision.INT8 if integer == len(layers) else Precision.MIXED
    stored = {_stored(op) for op in layers}
    for precision, kind in _STORED.items():
        if kind in stored:
            return precision
    kinds = {op.outputs[0].dtype.__name__ for op in package.main if op.op_type in _WEIGHTED}
    return Precision.FP16 if kinds == {"fp16"} else Precision.FP32


def _constant(source: Any) -> bool:
    op = getattr(source, "op", None)
    if op is not None and op.op_type == "dequantize":
        op = op.inputs["input"].op
    return op is not None and (op.op_type == "const" or op.op_type.startswith("constexpr_"))


def _described(op: Any) -> Layer:
    """Integer arithmetic is for Core ML to find: the program says it by int8 weights that meet what was int8."""
    computed = str(op.outputs[0].dtype.__name__).replace("fp", "float")
    stored = _stored(op) or computed
    integer = stored == _INT8 and _takes_integers(op)
    size = math.prod(_weight(op).shape)
    return Layer(name=op.outputs[0].name, weights=stored, arithmetic=_INT8 if integer else computed, parameters=size)
