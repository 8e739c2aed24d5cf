"""The torch program as an ONNX file: uint8 NCHW in, float32 logits out."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.export import ExportedProgram

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.formats.carried import carried_entries
from edgedistill.formats.onnx.metadata import PROTOBUF_LIMIT_BYTES, shown_entries, too_large, write
from edgedistill.formats.origin import translating

# torchlib, the exporter's own operator library, is written for 18: no version conversion runs, and every ONNX Runtime
# since 1.14, TensorRT since 8.6 and onnxruntime-web take it.
OPSET = 18
_SCOPES = "pkg.torch.onnx.name_scopes"


def export_onnx(program: ExportedProgram, contract: Contract, path: Path, *, build_hash: str) -> ExportedModel:
    """Writes `program` (see `to_program`) to `path` in fp32 and returns what was written.

    The file's input is `image`, uint8 [1, 3, R, R] RGB, cast to float at the edge; its output is `logits`, float32
    [1, classes]. Contract, labels and `build_hash` are in its metadata. Equal weights give equal bytes.

    Raises UnsupportedError, naming the operation, where ONNX has no form for it, and for models above 2 GiB.
    """
    weights_bytes = sum(t.nbytes for t in program.state_dict.values())
    if weights_bytes > PROTOBUF_LIMIT_BYTES:
        raise too_large(weights_bytes)
    proto = _translate(program, contract)
    _check_signature(proto, contract)
    _name_nodes(proto)
    _take_uint8(proto)
    _pool_globally(proto)
    scheme = QuantScheme(precision=Precision.FP32)
    shown = shown_entries(contract, _stride(proto, contract.resolution))
    return write(proto, path, scheme, {**shown, **carried_entries(contract, scheme, build_hash)})


def _stride(proto: onnx.ModelProto, resolution: int) -> int | None:
    """How many pixels of the image a place of the map is for that is pooled last."""
    sides = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.value_info}
    pooled = [sides.get(node.input[0], ()) for node in proto.graph.node if node.op_type == "GlobalAveragePool"]
    side = pooled[-1][-1] if pooled and len(pooled[-1]) == 4 else 0
    return -(-resolution // side) if side else None


def _translate(program: ExportedProgram, contract: Contract) -> onnx.ModelProto:
    with translating("the ONNX exporter", program, Format.ONNX), quiet():
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[contract.input_name],
            output_names=[contract.output_name],
            verbose=False,
        )
    assert exported is not None
    proto: onnx.ModelProto = exported.model_proto
    return proto


def _check_signature(proto: onnx.ModelProto, contract: Contract) -> None:
    inputs, outputs = [v.name for v in proto.graph.input], [v.name for v in proto.graph.output]
    if (inputs, outputs) != ([contract.input_name], [contract.output_name]):
        raise UnsupportedError(
            f"the exported graph has inputs {inputs} and outputs {outputs}",
            fix=f"the model takes one tensor ({contract.input_name}) and gives one ({contract.output_name})",
        )


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Call the nodes that torch's exporter made `MODULE/OPERATOR`, as profiles, engines and complaints then do. In place;
    nodes without a module keep their names."""
    taken: Counter[str] = Counter()
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        modules = ast.literal_eval(scopes)[:-1]
        if modules and modules[-1]:
            name = f"{modules[-1]}/{node.op_type}"
            taken[name] += 1
            node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"


def _take_uint8(proto: onnx.ModelProto) -> None:
    """Makes the input uint8 and casts it once, in front of all that read it."""
    graph = proto.graph
    image = graph.input[0]
    image.type.tensor_type.elem_type = TensorProto.UINT8
    floats = f"{image.name}_float"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == image.name:
                node.input[index] = floats
    cast = helper.make_node("Cast", [image.name], [floats], name="node_cast_image", to=TensorProto.FLOAT)
    graph.node.insert(0, cast)
    shape = [d.dim_value for d in image.type.tensor_type.shape.dim]
    graph.value_info.append(helper.make_tensor_value_info(floats, TensorProto.FLOAT, shape))


def _pool_globally(proto: onnx.ModelProto) -> None:
    """ReduceMean over height and width becomes GlobalAveragePool: the same mean, for which runtimes have blocked-layout
    and integer kernels. The exporter lowers adaptive_avg_pool2d(1) to ReduceMean."""
    graph = proto.graph
    constants = {i.name: i for i in graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input)}
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or not attributes.get("keepdims", 1):
            continue
        axes = constants.get(node.input[1]) if len(node.input) > 1 else None
        if axes is None or sorted(int(a) % 4 for a in numpy_helper.to_array(axes)) != [2, 3]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.input[1:], node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    for unused in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(unused)
