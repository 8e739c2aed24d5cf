"""Files whose operators show what ONNX Runtime reaches on a device: multiply-adds in a second, and bytes in a second."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill.formats.format import RoofFile

SIDE = 512
"""Of the matrices that are multiplied: 134 million multiply-adds, whose three matrices fit a cache of 3 MiB."""
LARGE, SMALL = 2**24, 2**16
"""Elements of an fp32 tensor: 64 MiB, which no cache holds, and 256 KiB, which most caches of one core hold."""
STEPS = 16
OPSET = 17


def roof_files(folder: Path) -> dict[str, RoofFile]:
    """One file for each roof, written to `folder`."""
    return {
        "fp32": RoofFile(_saved(_product(), folder / "fp32.onnx"), "MatMul"),
        "int8": RoofFile(_saved(_integer_product(), folder / "int8.onnx"), "QLinearMatMul"),
        "memory": RoofFile(_saved(_mapping(LARGE, 1), folder / "memory.onnx"), "Neg"),
        "cache": RoofFile(_saved(_mapping(SMALL, STEPS), folder / "cache.onnx"), "Neg"),
    }


def _product() -> onnx.GraphProto:
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    return _graph(nodes, TensorProto.FLOAT, (SIDE, SIDE), {"w": weights}, TensorProto.FLOAT)


def _integer_product() -> onnx.GraphProto:
    """uint8 by int8, as quantised files have it on x86."""
    weights = np.random.default_rng(0).integers(-127, 128, (SIDE, SIDE), dtype=np.int8)
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(128, np.uint8),
        "w": weights,
        "w_zero": np.array(0, np.int8),
    }
    inputs = ["x", "scale", "zero", "w", "scale", "w_zero", "scale", "zero"]
    nodes = [helper.make_node("QLinearMatMul", inputs, ["y"], "product")]
    return _graph(nodes, TensorProto.UINT8, (SIDE, SIDE), constants, TensorProto.UINT8)


def _mapping(elements: int, steps: int) -> onnx.GraphProto:
    """So many operators one behind the other that read and write `elements`; their sum goes out, not they themselves, so
    that no copy of them is made."""
    names = ["x", *(f"x{number}" for number in range(steps))]
    nodes = [
        helper.make_node("Neg", [before], [after], f"step{number}")
        for number, (before, after) in enumerate(pairwise(names))
    ]
    nodes.append(helper.make_node("ReduceSum", [names[-1]], ["y"], "sum"))
    return _graph(nodes, TensorProto.FLOAT, (elements // 1024, 1024), {}, TensorProto.FLOAT, (1, 1))


def _graph(
    nodes: list[onnx.NodeProto],
    kind: int,
    shape: tuple[int, int],
    constants: dict[str, NDArray[np.generic]],
    out_kind: int,
    out_shape: tuple[int, int] | None = None,
) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        "roof",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", out_kind, out_shape or shape)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )


def _saved(graph: onnx.GraphProto, path: Path) -> Path:
    # The IR of its opset's own time, so that older runtimes load it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
