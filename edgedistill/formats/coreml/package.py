"""What a Core ML package holds, read back without running it."""

from __future__ import annotations

import importlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.base.errors import InputError, Problem, UnsupportedError, first_line
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import Layer, TensorSignature
from edgedistill.documents.specs import Precision
from edgedistill.formats.coreml.folder import MANIFEST, check_folder, check_weights, damaged
from edgedistill.formats.coreml.limits import bounded_loading
from edgedistill.formats.coreml_sdk import import_coremltools, mil

INT8 = "int8"
COMPRESSED = {Precision.INT8_WEIGHTS: INT8, Precision.INT4_WEIGHTS: "looked-up 4-bit"}
"""How weights are stored that are compressed alone, as `stored_as` says it."""
_PRODUCTS = ("conv", "linear", "matmul")
_ELSEWHERE = "run the package on a Mac instead"
# What coremltools and its native readers raise for missing items, broken JSON and programs whose parts do not fit together.
_DAMAGE = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, OSError)
_INTEGERS = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "dequantize": "input",
}
"""Operations that make a weight of integers, and the argument that holds these."""
_OF_CLASSIFIERS = {"stringType": "string", "int64Type": "int64", "dictionaryType": "probability by class"}
"""What is no array, in words."""


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
    def products(self) -> list[Any]:
        """The convolutions, linear layers and matrix products of `main`."""
        return [operation for operation in self.main if operation.op_type in _PRODUCTS]

    @property
    def weighted(self) -> list[Any]:
        """The `products` that have weights: those of two activations have none."""
        return [operation for operation in self.products if _is_constant(weight_of(operation))]

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.spec.description.metadata.userDefined)

    @property
    def operations(self) -> Counter[str]:
        """How often each MIL operation occurs, constants aside."""
        return Counter(operation.op_type for operation in self.main)


# -- reading ----------------------------------------------------------------------------------------------------


def read_package(path: Path) -> Package:
    """Load specification, program and weights. Raises InputError, with the cause, for a package that is missing or damaged,
    leads out of its folder, or has files or tensors beyond the `limits`; UnsupportedError for one that coremltools cannot
    read back."""
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
                stored = list(_stored_operations(spec.mlProgram))
                _check_operations(path, stored)
                check_weights(stored, Path(model.weights_dir), path)
                with bounded_loading():
                    program = milproto.load(spec, spec.specificationVersion, model.weights_dir)
                # A program of small constants only has no weight file; one that refers to it does not load without.
                weight_file = Path(model.weights_dir) / "weight.bin"
                weights_bytes = weight_file.stat().st_size if weight_file.exists() else 0
        except NotImplementedError as error:
            raise UnsupportedError(f"coremltools cannot read {path} back: {error}", fix=_ELSEWHERE) from error
        except (*_DAMAGE, protobuf.DecodeError) as error:
            raise damaged(path, first_line(error)) from error
    if "main" not in program.functions:
        raise UnsupportedError(
            f"{path} has the functions {', '.join(program.functions)} and no main",
            fix="save the one you need as a package of its own (coremltools.utils.MultiFunctionDescriptor)",
        )
    return Package(path=path, spec=spec, function=program.functions["main"], weights_bytes=weights_bytes)


def _stored_operations(program: Any) -> Iterator[Any]:
    """The operations of all functions and nested blocks of a program's protobuf."""
    blocks = [block for function in program.functions.values() for block in function.block_specializations.values()]
    while blocks:
        for operation in blocks.pop().operations:
            blocks.extend(operation.blocks)
            yield operation


def _check_operations(path: Path, stored: list[Any]) -> None:
    # How a state is written has another name in the file than in coremltools' graph.
    known = {*mil("ops.registry").SSAOpRegistry.core_ops, "write_state"}
    if unknown := sorted({operation.type for operation in stored} - known):
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


def signature(package: Package) -> tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]:
    """Inputs and outputs of the package."""
    description = package.spec.description
    return tuple(map(_tensor, description.input)), tuple(map(_tensor, description.output))


def _tensor(feature: Any) -> TensorSignature:
    kind = feature.type.WhichOneof("Type")
    if kind in _OF_CLASSIFIERS:
        return TensorSignature(name=feature.name, dtype=_OF_CLASSIFIERS[kind], shape=())
    if kind == "imageType":
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


# -- layers and their precision ---------------------------------------------------------------------------------


def weighted_layers(package: Package) -> tuple[Layer, ...]:
    """Each convolution, linear layer and matrix product with constant weights, called after its output."""
    return tuple(map(_described, package.weighted))


def _described(op: Any) -> Layer:
    """Integer arithmetic is for Core ML to find: the program says it by int8 weights that meet what was int8."""
    computed = computed_in(op).replace("fp", "float")
    stored = stored_as(op) or computed
    integer = stored == INT8 and takes_integers(op)
    size = math.prod(weight_of(op).shape)
    return Layer(name=op.outputs[0].name, weights=stored, arithmetic=INT8 if integer else computed, parameters=size)


def computed_precision(package: Package) -> Precision:
    """Int8 where all weighted layers have int8 inputs, mixed where some have; else what weights are stored in, int8 or
    4 bits; else the wider of the types that layers compute in."""
    layers = package.weighted
    if integer := sum(map(takes_integers, layers)):
        return Precision.INT8 if integer == len(layers) else Precision.MIXED
    stored = set(map(stored_as, layers))
    for precision, kind in COMPRESSED.items():
        if kind in stored:
            return precision
    return Precision.FP16 if set(map(computed_in, package.products)) == {"fp16"} else Precision.FP32


def weight_of(op: Any) -> Any:
    """What a product multiplies its input with."""
    return op.inputs.get("weight", op.inputs.get("y"))


def computed_in(op: Any) -> str:
    """The type that an operation gives, in coremltools' words: `fp16`."""
    return str(op.outputs[0].dtype.__name__)


def takes_integers(op: Any) -> bool:
    """Whether what a layer is applied to was quantised."""
    source = op.inputs.get("x")
    return source is not None and source.op is not None and source.op.op_type == "dequantize"


def stored_as(op: Any) -> str:
    """How a layer's weight is stored: empty for the type that it computes in, else `int8`, `looked-up 4-bit`, or the name of
    the operation that makes it of something else."""
    source = weight_of(op).op
    if source.op_type == "const":
        return ""
    if source.op_type == "constexpr_lut_to_dense":
        # A table of 2 to the bits values; that of later systems has a table a channel, its length one before last.
        shape = source.inputs["lut"].shape
        return f"looked-up {int(shape[0 if len(shape) == 1 else -2]).bit_length() - 1}-bit"
    if (integers := _INTEGERS.get(source.op_type)) is not None:
        return str(mil("types").builtin_to_string(source.inputs[integers].dtype))
    return str(source.op_type).removeprefix("constexpr_")


def _is_constant(source: Any) -> bool:
    op = getattr(source, "op", None)
    if op is not None and op.op_type == "dequantize":
        op = op.inputs["input"].op
    return op is not None and (op.op_type == "const" or op.op_type.startswith("constexpr_"))
