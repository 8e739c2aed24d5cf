"""What every ONNX file of a build carries beside its graph, and how one is written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.store import file_sha256, size_bytes, tool_version, write_atomic
from edgedistill.documents.artifacts import ExportedModel, TensorSignature
from edgedistill.documents.specs import Contract, Format, QuantScheme
from edgedistill.formats.carried import SCHEME_KEY
from edgedistill.formats.format import ModelMetadata
from edgedistill.formats.onnx_file import load

PROTOBUF_LIMIT_BYTES = 2**31 - 2**20


def read_metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """All metadata entries of a model."""
    return {entry.key: entry.value for entry in proto.metadata_props}


def signatures(values: list[onnx.ValueInfoProto]) -> tuple[TensorSignature, ...]:
    """Name, dtype (NumPy's name) and shape of graph inputs or outputs; a dimension that is not fixed is -1."""
    return tuple(
        TensorSignature(
            name=value.name,
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def write(proto: onnx.ModelProto, path: Path, scheme: QuantScheme, metadata: Mapping[str, str]) -> ExportedModel:
    """Checks `proto` and writes it whole, with `metadata` and nothing else: no names of files, no traces of the exporter,
    so that equal weights give equal bytes. Raises UnsupportedError above protobuf's 2 GiB."""
    if proto.ByteSize() > PROTOBUF_LIMIT_BYTES:
        raise too_large(proto.ByteSize())
    _strip(proto)
    entries = sorted({**metadata, SCHEME_KEY: scheme.model_dump_json()}.items())
    onnx.helper.set_model_props(proto, dict(entries))
    proto.producer_name, proto.producer_version = "edgedistill", tool_version("edgedistill")
    onnx.checker.check_model(proto)
    write_atomic(path, proto.SerializeToString(deterministic=True))
    return ExportedModel(
        path=path,
        format=Format.ONNX,
        scheme=scheme,
        inputs=signatures(list(proto.graph.input)),
        outputs=signatures(list(proto.graph.output)),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def onnx_with_metadata(model: Path, metadata: ModelMetadata, path: Path) -> Path:
    """The model at `path`, whole or not at all, with this metadata among its own, in the place of such that it had.
    Returns `path`."""
    proto = load(model)
    entries = {**read_metadata(proto), **metadata.entries}
    onnx.helper.set_model_props(proto, {name: text for name, text in sorted(entries.items()) if text})
    write_atomic(path, proto.SerializeToString(deterministic=True))
    return path


def shown_entries(contract: Contract, stride: int | None) -> dict[str, str]:
    """What tools read of a model of images that tells it as Ultralytics' exports do (`AutoBackend` in
    ultralytics/nn/autobackend.py): the classes by their number, the size of an image, the task. `stride` is how many pixels
    of the image a place of the last map is for, None where there is no such map."""
    entries = {
        "task": "classify" if contract.vector is None else "embed",
        "imgsz": str([contract.resolution] * 2),
        "names": str(dict(enumerate(contract.labels))),
        "batch": "1",
        "channels": "3",
        "description": contract.described,
    }
    return entries if stride is None else {**entries, "stride": str(stride)}


def _strip(proto: onnx.ModelProto) -> None:
    """Removes doc strings and the metadata of nodes, values and initialisers (the exporter's stack traces and tensor
    notes), in place."""
    graph = proto.graph
    proto.doc_string = graph.doc_string = ""
    graph.name = "edgedistill"
    del graph.metadata_props[:]
    for items in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]


def too_large(model_bytes: int) -> UnsupportedError:
    """The error for a model that one protobuf file cannot hold."""
    return UnsupportedError(
        f"the model has {model_bytes / 2**30:.1f} GiB; one ONNX file holds at most 2 GiB",
        fix="use a smaller model; a file with its weights beside it is no single artifact that an app can ship",
    )
