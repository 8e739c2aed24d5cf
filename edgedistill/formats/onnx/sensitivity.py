"""Which layers of an ONNX model int8 damages most, measured on files in which one of them alone is in integers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import QuantScheme
from edgedistill.formats.format import IntegerStyle
from edgedistill.formats.onnx.int8 import prepare
from edgedistill.formats.onnx.layers import nodes_of
from edgedistill.formats.onnx.session import session
from edgedistill.formats.onnx_file import load
from edgedistill.networks.rounding.damage import LayerDamage, ranked
from edgedistill.networks.tasks import Task


def rank_layers(
    model: ExportedModel,
    calibration: Images,
    scheme: QuantScheme,
    style: IntegerStyle,
    task: Task,
    *,
    probes: int = 64,
) -> tuple[LayerDamage, ...]:
    """Every layer of `model` (fp32), products of two activations included, the most damaged first by `task`.

    `calibration` are uint8 images [n, 3, R, R] of the training split; ranges come from all of them, the damage is measured
    on the first `probes`, by ONNX Runtime on one thread. Names are those that `to_int8` takes in `scheme.kept`.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet():
        prepared = prepare(model, calibration, scheme, Path(scratch), style)
        images = calibration[:probes]
        reference = _run(load(model.path), images)

        def alone(layer: str) -> Logits:
            nodes = nodes_of(prepared.graph, prepared.layers, {layer})
            return _run(prepared.quantized(only=nodes), images) if nodes else reference

        return ranked(task, dict.fromkeys(prepared.layers.values()), reference, alone)


def _run(proto: onnx.ModelProto, images: Images) -> Logits:
    loaded = session(proto.SerializeToString())
    name = loaded.get_inputs()[0].name
    return np.concatenate([loaded.run(None, {name: image[None]})[0] for image in images])
