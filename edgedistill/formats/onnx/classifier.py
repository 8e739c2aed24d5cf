"""A network that came as an ONNX file, as a file with the edge of a build's own: uint8 [1, 3, R, R] in, logits or vectors of
length 1 out."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedistill.base.arrays import Images
from edgedistill.base.errors import InputError, first_line
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.carried import carried_contract, carried_entries
from edgedistill.formats.onnx.checks import file_problems, refusals
from edgedistill.formats.onnx.metadata import read_metadata, write
from edgedistill.formats.onnx.session import session
from edgedistill.formats.onnx_file import load

_LEAST = 1e-12
"""A probability below it counts as this: its logarithm still is a number."""


@dataclass(frozen=True)
class Classifier:
    """What an ONNX file says of itself: the `side` of its images, None where it takes any; whether it `takes_uint8`, and has
    its channels last; the names of its classes in the order of its outputs, where its metadata has them (a contract,
    or Ultralytics' `names`); its `width`, how many numbers its first output has for an image, None where it does not say."""

    side: int | None
    takes_uint8: bool
    channels_last: bool
    class_names: tuple[str, ...] = ()
    width: int | None = None


def read_classifier(path: Path) -> Classifier:
    """What the file at `path` says. Raises InputError for a file that is no classifier of single images."""
    if problems := file_problems(path):
        raise InputError(f"{path} is not a valid ONNX model", problems=problems)
    model = load(path, weights=False)
    image = _image(model.graph, path)
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in image.type.tensor_type.shape.dim]
    kind = image.type.tensor_type.elem_type
    last = len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3
    square = (sizes[1], sizes[2]) if last else (sizes[2:] if len(sizes) == 4 else [])
    if len(sizes) != 4 or (sizes[3] if last else sizes[1]) not in (0, 3) or sizes[0] > 1 or len(set(square)) != 1:
        shown = [size or "?" for size in sizes]
        raise InputError(
            f"{path} takes {shown}, not one image [1, 3, R, R] or [1, R, R, 3]",
            fix="export it with a batch of 1 or any, and a square input",
        )
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise InputError(f"{path} takes {TensorProto.DataType.Name(kind).lower()}, not float32 or uint8")
    entries = read_metadata(model)
    carried = carried_contract(entries, path)
    names = carried.labels if carried else _names(entries)
    shape = model.graph.output[0].type.tensor_type.shape.dim
    width = shape[1].dim_value if len(shape) == 2 else 0
    return Classifier(square[0] or None, kind == TensorProto.UINT8, last, names, width or None)


def weights_of(path: Path) -> int:
    """How many numbers the file at `path` holds as weights."""
    return sum(int(np.prod(tensor.dims)) for tensor in load(path, weights=False).graph.initializer)


def with_edge(path: Path, contract: Contract, out: Path, *, build_hash: str, probes: Images) -> ExportedModel:
    """The network at `path` as a file `out` that keeps `contract`: normalisation inside, its classes in the order of the
    labels where the file names them. Where its outputs for `probes`, uint8 [n, 3, R, R], are probabilities, their logarithm
    is taken; vectors are divided by their length. Raises InputError where it does not give as many numbers as the contract
    says."""
    found, model = read_classifier(path), load(path)
    graph, count, of_classes = model.graph, contract.width, contract.vector is None
    edge = _Edge.of(graph)
    for name in (contract.input_name, contract.output_name):
        edge.free(name)
    given = _image(graph, path)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    edge.in_front(given, found, contract)
    if of_classes and sorted(found.class_names) == sorted(contract.labels) and found.class_names != contract.labels:
        order = [found.class_names.index(label) for label in contract.labels]
        edge.behind("Gather", edge.constant("order", np.array(order, np.int64)), axis=1)
    rows = _run(model, contract, probes, path)
    if rows.shape != (len(probes), count):
        wanted = f"the data has {count} classes" if of_classes else f"vectors have {count}"
        raise InputError(
            f"{path} gives {list(rows.shape[1:])} numbers for an image, and {wanted}",
            fix="give the file of a classifier of these classes, with its logits as first output"
            if of_classes
            else "give a file whose first output is [1, D]",
        )
    if not np.isfinite(rows).all():
        raise InputError(f"{path} gives values that are not finite", fix="check mean and std in [teacher]")
    if not of_classes:
        # LpNormalization has been there since the first set of operators; the first output keeps the rows of a batch.
        edge.behind("LpNormalization", axis=1, p=2)
    elif (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        if opset >= 11:
            edge.behind("Clip", edge.constant("least", np.float32(_LEAST)))
        else:
            edge.behind("Clip", min=_LEAST)
        edge.behind("Log")
    edge.behind("Identity", name=contract.output_name)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(contract.output_name, TensorProto.FLOAT, [1, count]))
    scheme = QuantScheme(precision=Precision.FP32)
    return write(model, out, scheme, carried_entries(contract, scheme, build_hash))


def _image(graph: onnx.GraphProto, path: Path) -> onnx.ValueInfoProto:
    """The one input that is no weight."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or not graph.output:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs",
            fix="give a classifier of one image, which gives logits",
        )
    image: onnx.ValueInfoProto = inputs[0]
    return image


@dataclass(frozen=True, eq=False)
class _Edge:
    """What is put around a graph; its names begin with a `prefix` that nothing in the graph begins with."""

    graph: onnx.GraphProto
    prefix: str

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> _Edge:
        named = {node.name for node in graph.node} | {tensor.name for tensor in graph.initializer}
        named |= {name for node in graph.node for name in (*node.input, *node.output)}
        prefix = "edge"
        while any(name.startswith(prefix) for name in named):
            prefix += "_"
        return cls(graph, prefix)

    def free(self, name: str) -> None:
        """Give what the graph calls `name` another one."""
        graph, new = self.graph, f"{self.prefix}_own_{name}"
        for node in graph.node:
            node.input[:] = [new if used == name else used for used in node.input]
            node.output[:] = [new if used == name else used for used in node.output]
        for values in (graph.input, graph.output, graph.initializer):
            for value in values:
                if value.name == name:
                    value.name = new

    def in_front(self, given: onnx.ValueInfoProto, found: Classifier, contract: Contract) -> None:
        """Take uint8 RGB, and hand on what the graph was made for."""
        graph, side = self.graph, contract.resolution
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if not found.takes_uint8:
            mean, std = (np.array(value, np.float32).reshape(1, 3, 1, 1) for value in (contract.mean, contract.std))
            steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
            steps.append(("Sub", [self.constant("mean", mean)], {}))
            steps.append(("Div", [self.constant("std", std)], {}))
        if found.channels_last:
            steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
        steps.append(("Identity", [], {}))
        last: str = contract.input_name
        for number, (kind, others, attributes) in enumerate(steps):
            result = given.name if number == len(steps) - 1 else f"{self.prefix}_{kind.lower()}"
            node = helper.make_node(kind, [last, *others], [result], name=f"{self.prefix}_{kind}", **attributes)
            graph.node.insert(number, node)
            last = result
        graph.input.remove(given)
        graph.input.insert(0, helper.make_tensor_value_info(contract.input_name, TensorProto.UINT8, [1, 3, side, side]))
        # What was inferred for another batch or size would contradict the input.
        del graph.value_info[:]

    def behind(self, kind: str, *others: str, name: str = "", **attributes: Any) -> None:
        """Put an operator behind the first output, which is then that of the operator."""
        output = self.graph.output[0]
        before, after = output.name, name or f"{self.prefix}_{kind.lower()}_out"
        node = helper.make_node(kind, [before, *others], [after], name=f"{self.prefix}_{kind}_out", **attributes)
        self.graph.node.append(node)
        output.name = after

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        tensor = numpy_helper.from_array(np.asarray(value), f"{self.prefix}_{name}")
        self.graph.initializer.append(tensor)
        return str(tensor.name)


def _run(model: onnx.ModelProto, contract: Contract, probes: Images, path: Path) -> np.ndarray:
    """The first output for each of the images, one after the other."""
    try:
        loaded = session(model.SerializeToString())
        name = loaded.get_outputs()[0].name
        rows = [loaded.run([name], {contract.input_name: probes[i : i + 1]})[0] for i in range(len(probes))]
    except refusals() as error:
        side = contract.resolution
        raise InputError(
            f"{path} cannot be run on an image of 3 x {side} x {side}: {first_line(error)}",
            fix="set resolution in [teacher] to the side of its input, and check the file",
        ) from error
    return np.concatenate([np.asarray(row, np.float32) for row in rows])


def _names(metadata: dict[str, str]) -> tuple[str, ...]:
    """Of classes, as Ultralytics writes them: a dict of index and name."""
    try:
        found = ast.literal_eval(metadata.get("names", ""))
        return tuple(str(found[index]) for index in range(len(found)))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        return ()
