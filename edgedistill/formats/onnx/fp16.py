"""An fp32 ONNX file in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgedistill.base.errors import Problem, TrialFailure
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.formats.onnx.metadata import read_metadata, write
from edgedistill.formats.onnx_file import load


def to_fp16(model: ExportedModel, folder: Path) -> ExportedModel:
    """`model` with weights and activations in float16, as `folder/<stem>.fp16.onnx`.

    The input stays uint8, cast to float16 at the edge (0..255 are exact there), and the output float32. Operators for which
    the converter knows float16 to be unsupported or unsafe (its block list) stay in float32 between casts.

    Raises TrialFailure where a weight lies outside float16's range.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]
    from onnxruntime.transformers.onnx_model import OnnxModel  # type: ignore[import-untyped]

    proto = load(model.path)
    metadata = read_metadata(proto)
    _check_range(proto, model.path)
    with quiet():
        half = convert_float_to_float16(proto, keep_io_types=True)
        OnnxModel(half).topological_sort()  # casts around blocked operators are appended at the end
    path = folder / f"{model.path.stem.removesuffix('.fp32')}.fp16.onnx"
    return write(half, path, QuantScheme(precision=Precision.FP16), metadata)


def _check_range(proto: onnx.ModelProto, path: Path) -> None:
    limit = float(np.finfo(np.float16).max)
    problems = [
        Problem(tensor.name, f"holds {largest:.3g}, float16 ends at {limit:.0f}")
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and (largest := float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))) > limit
    ]
    if problems:
        raise TrialFailure(f"{path.name} does not fit float16", problems=problems)
