"""Core ML packages, LiteRT and ExecuTorch files that are hostile in their formats' own ways, made from whole ones."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_cases import BROKEN, HARMLESS, Case, altered, base

_OUT = ("leads out of the package",)
RUN_TIME = {"inspect": (0, 2), "verify": (2,), "run": (2,)}

# -- Core ML ------------------------------------------------------------------------------------------------------------


def _package(change: Callable[[Path], None]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / "model.mlpackage"
        shutil.copytree(base(bases, ".mlpackage"), path)
        change(path)
        return path

    return write


def _model_file(package: Path) -> Path:
    return next(package.rglob("*.mlmodel"))


def _weights_file(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


def _spec(change: Callable[[Any], None]) -> Callable[[Path, Path], Path]:
    """The description changed as a protocol buffer."""

    def edit(package: Path) -> None:
        from coremltools.proto import Model_pb2

        spec = Model_pb2.Model()
        spec.ParseFromString(_model_file(package).read_bytes())
        change(spec)
        _model_file(package).write_bytes(spec.SerializeToString())

    return _package(edit)


def _operations(spec: Any) -> Any:
    function = next(iter(spec.mlProgram.functions.values()))
    return next(iter(function.block_specializations.values())).operations


def _sizes(spec: Any, sizes: list[int]) -> None:
    """Every constant of the program, and its value, claims these sizes."""
    for operation in _operations(spec):
        if operation.type != "const":
            continue
        for kind in (operation.outputs[0].type, operation.attributes["val"].type):
            if kind.tensorType.rank:
                del kind.tensorType.dimensions[:]
                for size in sizes:
                    kind.tensorType.dimensions.add().constant.size = size
                kind.tensorType.rank = len(sizes)


def _filled(spec: Any) -> None:
    """An operation `fill` of a billion billions at the start of the program."""
    from coremltools.proto import MIL_pb2

    operations = _operations(spec)
    made = MIL_pb2.Operation()
    made.type = "fill"
    shape = made.inputs["shape"].arguments.add().value
    shape.type.tensorType.CopyFrom(MIL_pb2.TensorType(dataType=MIL_pb2.INT32, rank=1))
    shape.type.tensorType.dimensions.add().constant.size = 3
    shape.immediateValue.tensor.ints.values.extend([2**20, 2**20, 2**20])
    number = made.inputs["value"].arguments.add().value
    number.type.tensorType.dataType = MIL_pb2.FLOAT32
    number.immediateValue.tensor.floats.values.append(1.0)
    output = made.outputs.add()
    output.name = "filled"
    output.type.tensorType.CopyFrom(MIL_pb2.TensorType(dataType=MIL_pb2.FLOAT32, rank=3))
    for _ in range(3):
        output.type.tensorType.dimensions.add().constant.size = 2**20
    operations.insert(0, made)


def _unknown(spec: Any) -> None:
    next(op for op in _operations(spec) if op.type != "const").type = "explode"


def _version(spec: Any) -> None:
    spec.specificationVersion = 10**6


def _circle(spec: Any) -> None:
    """The first real operation reads what the last one gives."""
    real = [op for op in _operations(spec) if op.type != "const"]
    real[0].inputs["x"].arguments[0].name = real[-1].outputs[0].name


def _manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], Path]:
    def edit(package: Path) -> None:
        path = package / "Manifest.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return _package(edit)


def _paths_out(path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for entry in document["itemInfoEntries"].values():
            entry["path"] = path

    return change


def _replaced(find: Callable[[Path], Path], data: bytes | None) -> Callable[[Path, Path], Path]:
    """A file of the package with other content, or gone."""

    def edit(package: Path) -> None:
        if data is None:
            find(package).unlink()
        else:
            find(package).write_bytes(data)

    return _package(edit)


def _hole(package: Path) -> None:
    with _weights_file(package).open("r+b") as stream:
        stream.truncate(2**40)


def _claims(package: Path) -> None:
    """The header of the first blob says that it is exabytes long."""
    data = bytearray(_weights_file(package).read_bytes())
    struct.pack_into("<Q", data, 64 + 8, 2**60)
    _weights_file(package).write_bytes(bytes(data))


def _link(package: Path) -> None:
    _weights_file(package).unlink()
    _weights_file_path = package / "Data/com.apple.CoreML/weights/weight.bin"
    _weights_file_path.symlink_to("/dev/zero")


def _linked_data(package: Path) -> None:
    """Everything is there, but beside the package."""
    (package / "Data").rename(package.parent / "elsewhere")
    (package / "Data").symlink_to("../elsewhere")


def _pipe(package: Path) -> None:
    path = _weights_file(package)
    path.unlink()
    os.mkfifo(path)


def _flipped(package: Path) -> None:
    data = bytearray(_weights_file(package).read_bytes())
    data[-70] ^= 0x20
    _weights_file(package).write_bytes(bytes(data))


def _flipped_in_package(folder: Path, bases: Path) -> Path:
    path = _package(_flipped)(folder, bases)
    (folder / "manifest.json").write_text(json.dumps({"artifacts": {path.name: {"sha256": "0" * 64}}}))
    return path


def _file(folder: Path, bases: Path) -> Path:
    path = folder / "model.mlpackage"
    path.write_bytes(b"PK\x03\x04")
    return path


def _empty(folder: Path, bases: Path) -> Path:
    path = folder / "model.mlpackage"
    path.mkdir()
    return path


def _coreml(name: str, write: Callable[[Path, Path], Path], exits: Any = None, *says: str) -> Case:
    return Case(f"coreml: {name}", "coreml", write, exits or BROKEN, says)


COREML = (
    _coreml("a file", _file),
    _coreml("an empty folder", _empty),
    _coreml("no manifest", _replaced(lambda package: package / "Manifest.json", None)),
    _coreml("manifest is text", _replaced(lambda package: package / "Manifest.json", b"hello")),
    _coreml("manifest with paths out of the package", _manifest(_paths_out("../" * 6 + "etc/passwd")), None, *_OUT),
    _coreml("manifest with absolute paths", _manifest(_paths_out("/etc/passwd")), None, *_OUT),
    _coreml(
        "manifest without entries", _manifest(lambda document: document["itemInfoEntries"].clear()), None, "entries"
    ),
    _coreml("a link out of the package for its data", _package(_linked_data), None, *_OUT),
    _coreml("description is noise", _replaced(_model_file, np.random.default_rng(0).bytes(4096))),
    _coreml("description is empty", _replaced(_model_file, b"")),
    _coreml("weights are missing", _replaced(_weights_file, None)),
    _coreml("weights are cut", _replaced(_weights_file, b"\x02\x00\x00\x00" + bytes(100))),
    _coreml("weights are a terabyte of holes", _package(_hole), None, "by their sizes", "lie on the disk"),
    _coreml("weights that claim exabytes", _package(_claims)),
    _coreml("weights are an endless device", _package(_link), None, *_OUT),
    _coreml("weights are a pipe", _package(_pipe), None, "neither a file nor a folder"),
    _coreml("constants of exabytes by their sizes", _spec(lambda spec: _sizes(spec, [2**31, 2**31])), RUN_TIME),
    _coreml("fill of exabytes", _spec(_filled), RUN_TIME),
    _coreml("an operation that is none", _spec(_unknown), RUN_TIME),
    _coreml("operations in a circle", _spec(_circle), RUN_TIME),
    _coreml("a version of the future", _spec(_version), HARMLESS),
    _coreml("a flipped byte in weights", _package(_flipped), HARMLESS),
    _coreml("a flipped byte in a package", _flipped_in_package, {"verify": (2,)}),
)

# -- flatbuffers --------------------------------------------------------------------------------------------------------


def _patched(position: int, pattern: str, *values: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        made = bytearray(data)
        struct.pack_into(pattern, made, position, *values)
        return bytes(made)

    return change


def _root(data: bytes) -> int:
    return int(struct.unpack_from("<I", data)[0])


def _vtable_out(data: bytes) -> bytes:
    return _patched(_root(data), "<i", -(2**30))(data)


def _field_out(data: bytes) -> bytes:
    """The root's first field lies far outside it."""
    table = _root(data)
    vtable = table - struct.unpack_from("<i", data, table)[0]
    return _patched(vtable + 4, "<H", 0xFFF0)(data)


def _vectors(data: bytes) -> list[int]:
    """Where the root's fields that are offsets point to."""
    table = _root(data)
    vtable = table - struct.unpack_from("<i", data, table)[0]
    fields = struct.unpack_from(f"<{(struct.unpack_from('<H', data, vtable)[0] - 4) // 2}H", data, vtable + 4)
    found = []
    for field in fields:
        if field:
            target = table + field + struct.unpack_from("<I", data, table + field)[0]
            if target + 4 <= len(data):
                found.append(target)
    return found


def _long_vectors(data: bytes) -> bytes:
    for position in _vectors(data):
        data = _patched(position, "<I", 0x3FFFFFFF)(data)
    return data


def _into_itself(data: bytes) -> bytes:
    """Every element of the root's vectors points back to the root."""
    for position in _vectors(data):
        count = struct.unpack_from("<I", data, position)[0]
        if 0 < count < 64:
            for index in range(count):
                at = position + 4 + 4 * index
                data = _patched(at, "<I", (_root(data) - at) % 2**32)(data)
    return data


def _noisy(seed: int) -> Callable[[bytes], bytes]:
    """Two bytes in a hundred are others."""

    def change(data: bytes) -> bytes:
        generator = np.random.default_rng(seed)
        made = np.frombuffer(data, np.uint8).copy()
        places = generator.integers(8, len(made), max(1, len(made) // 50))
        made[places] = generator.integers(0, 256, len(places))
        return made.tobytes()

    return change


def _flatbuffer(form: str, suffix: str) -> tuple[Case, ...]:
    def case(name: str, change: Callable[[bytes], bytes], exits: Any = None) -> Case:
        return Case(f"{form}: {name}", form, altered(suffix, change), exits or BROKEN)

    return (
        case("root beyond the end", _patched(0, "<I", 0xFFFFFFF0)),
        case("root in the header", _patched(0, "<I", 4)),
        case("table of fields before the file", _vtable_out),
        case("a field outside its table", _field_out, RUN_TIME),
        case("lists of a billion entries", _long_vectors),
        case("tables that hold themselves", _into_itself),
        *(case(f"noise, {seed}", _noisy(seed), HARMLESS) for seed in range(4)),
    )


# -- LiteRT -------------------------------------------------------------------------------------------------------------


def _tflite(change: Callable[[Any], None]) -> Callable[[Path, Path], Path]:
    """The file changed by way of the schema's objects."""

    def edit(data: bytes) -> bytes:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        change(model)
        builder = flatbuffers.Builder(len(data))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return altered(".tflite", edit)


def _shapes(sizes: list[int]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.shape = np.array(sizes, np.int32)

    return change


def _computed_shapes(model: Any) -> None:
    """Only what is computed claims a size; constants keep theirs."""
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is None:
            tensor.shape = np.array([1, 2**15, 2**15, 2**10], np.int32)


def _custom(name: bytes) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.operatorCodes[0].builtinCode = 32
        model.operatorCodes[0].deprecatedBuiltinCode = 32
        model.operatorCodes[0].customCode = name

    return change


def _indices(value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for operator in model.subgraphs[0].operators:
            operator.inputs = np.full(len(operator.inputs), value, np.int32)

    return change


def _no_buffers(model: Any) -> None:
    del model.buffers[1:]


def _tflite_circle(model: Any) -> None:
    operators = model.subgraphs[0].operators
    operators[0].inputs = np.array([operators[-1].outputs[0], *operators[0].inputs[1:]], np.int32)


def _litert(name: str, change: Callable[[Any], None], exits: Any = None) -> Case:
    return Case(f"litert: {name}", "litert", _tflite(change), exits or BROKEN)


LITERT = (
    *_flatbuffer("litert", ".tflite"),
    _litert("tensors of exabytes by their sizes", _shapes([2**30, 2**30, 2**30, 2**30])),
    _litert("values of terabytes", _computed_shapes),
    _litert("tensors of negative sizes", _shapes([-5, 3])),
    _litert("a custom operator", _custom(b"Evil"), RUN_TIME),
    _litert("an operator of TensorFlow's", _custom(b"FlexReadFile"), RUN_TIME),
    _litert("operators on tensors that are not there", _indices(10**6)),
    _litert("operators on tensors below zero", _indices(-7)),
    _litert("no buffers", _no_buffers),
    _litert("operators in a circle", _tflite_circle, RUN_TIME),
)

# -- ExecuTorch ---------------------------------------------------------------------------------------------------------


def _pte(change: Callable[[Any], None]) -> Callable[[Path, Path], Path]:
    """The file changed by way of the schema's objects."""

    def edit(data: bytes) -> bytes:
        from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

        file = deserialize_pte_binary(data)
        change(file.program)
        return bytes(serialize_pte_binary(file))

    return altered(".pte", edit)


def _planned(program: Any) -> None:
    program.execution_plan[0].non_const_buffer_sizes[1:] = [2**45]


def _operator(program: Any) -> None:
    plan = program.execution_plan[0]
    plan.operators[0].name, plan.operators[0].overload = "evil::read_file", "out"


def _delegate(program: Any) -> None:
    program.execution_plan[0].delegates[0].id = "EvilBackend"


def _kernel(program: Any) -> None:
    for chain in program.execution_plan[0].chains:
        for instruction in chain.instructions:
            for name in ("op_index", "delegate_index"):
                if hasattr(instruction.instr_args, name):
                    setattr(instruction.instr_args, name, 10**6)


def _delegate_noise(data: bytes) -> bytes:
    """What follows the program, weights and all, is noise."""
    size = struct.unpack_from("<Q", data, 16)[0]
    return data[:size] + np.random.default_rng(3).bytes(len(data) - size)


def _executorch(name: str, change: Callable[[bytes], bytes], exits: Any = None) -> Case:
    return Case(f"executorch: {name}", "executorch", altered(".pte", change), exits or BROKEN)


EXECUTORCH = (
    *_flatbuffer("executorch", ".pte"),
    _executorch("a program longer than the file", _patched(16, "<Q", 2**40)),
    _executorch("segments beyond the file", _patched(24, "<Q", 2**40)),
    _executorch("segments at the end of numbers", _patched(24, "<Q", 2**64 - 16)),
    _executorch("a header of its own length", _patched(12, "<I", 2**31)),
    _executorch("noise for its delegate", _delegate_noise),
    Case("executorch: memory of terabytes", "executorch", _pte(_planned)),
    Case("executorch: an operator that is none", "executorch", _pte(_operator), RUN_TIME),
    # A delegate of other machines is none here: such a file is whole, and cannot be run.
    Case("executorch: a delegate that is none", "executorch", _pte(_delegate), {"inspect": (0,), "run": (2,)}),
    Case("executorch: instructions beyond the lists", "executorch", _pte(_kernel)),
)
