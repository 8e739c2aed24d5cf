"""Integers for ExecuTorch: PT2E with XNNPACK's quantiser, then the ordinary lowering.

- `int8`: weights a channel at a time, symmetric; activations a tensor at a time, with ranges from calibration images.
- `mixed`: the same, with the named layers left in floating point.
- `int8-weights`, `int4-weights`: weights a channel at a time; XNNPACK has no kernels for integer weights and floating-point
  activations that ExecuTorch reaches, so it rounds the activations to int8 at every run, to the range that they have there,
  and gives floating point. 4-bit weights are for linear layers alone.

Batch norms are folded before scales are chosen, by `prepare_pt2e`.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from edgedistill.base.arrays import Images
from edgedistill.base.errors import UnsupportedError
from edgedistill.base.quiet import quiet_import
from edgedistill.base.units import format_percent
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.executorch.export import lower_and_write
from edgedistill.formats.executorch.lowering import import_executorch
from edgedistill.formats.quantizer_checks import require_images, require_layers
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.rounding.observers import activation_observer
from edgedistill.networks.rounding.pt2e import as_input, fake_quantize

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.conv2d.default}
_LINEAR = {_aten.linear.default}
_SMALLEST_SHARE = 0.5
_SCALE_FLOOR = 2.0**-12
"""XNNPACK's own floor for scales."""


def quantize_executorch(
    module: nn.Module,
    calibration: Images,
    contract: Contract,
    scheme: QuantScheme,
    path: Path,
    *,
    build_hash: str,
) -> ExportedModel:
    """Quantise `module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) and write it to `path` (`.pte`).

    `calibration` are uint8 images [n, 3, R, R] of the training split; weights-only schemes need none. The scheme in the
    result states how many images were used. Equal weights and images give equal bytes.

    Raises InputError without the images that a scheme needs or where `scheme.kept` names no layer; UnsupportedError where
    torch.export or ExecuTorch cannot take the module, and for schemes that would leave most weights as they are;
    MissingDependencyError without executorch.
    """
    if scheme.floating:
        raise ValueError(f"quantize_executorch makes integers, not {scheme.precision}")
    shape = (3, contract.resolution, contract.resolution)
    if scheme.integer:
        require_images(calibration, shape, "the model")
    import_executorch("executorch.exir")
    images = calibration if scheme.integer else probe_images(contract)
    quantized = fake_quantize(module, images, executorch_quantizer(scheme))
    _require_integers(quantized, scheme)
    with torch.no_grad():
        program = torch.export.export(quantized, (as_input(images[:1]),))
    used = scheme.model_copy(update={"calibration_images": len(calibration) if scheme.integer else 0})
    return lower_and_write(program, contract, path, used, build_hash=build_hash)


def executorch_quantizer(scheme: QuantScheme) -> Any:
    """The quantiser of a scheme, an object of torchao's Quantizer. It raises InputError in `annotate` where `scheme.kept`
    names something that is no layer of the model."""
    if not scheme.integer:
        return _dynamic_quantizer(scheme)
    vendor = import_executorch("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    kept = scheme.kept if scheme.precision is Precision.MIXED else ()

    def annotate(self: Any, model: GraphModule) -> GraphModule:
        layers = {_layer_name(node) for node in model.graph.nodes if node.target in _CONVOLUTIONS | _LINEAR}
        require_layers(kept, {name for name in layers if name})
        annotated: GraphModule = vendor.XNNPACKQuantizer.annotate(self, model)
        return annotated

    configuration = vendor.get_symmetric_quantization_config(is_per_channel=scheme.per_channel)
    observer = activation_observer(scheme.calibration).with_args(eps=_SCALE_FLOOR)
    activation = replace(configuration.input_activation, observer_or_fake_quant_ctr=observer)
    quantizer = type("KeepingQuantizer", (vendor.XNNPACKQuantizer,), {"annotate": annotate})()
    quantizer.set_global(replace(configuration, input_activation=activation, output_activation=activation))
    quantizer.set_filter_function(lambda node: _layer_name(node) not in kept)
    return quantizer


def _layer_name(node: Node) -> str | None:
    """Name of the layer that a node of a traced module computes, or whose weight it is: the weight's without its last part.
    None for nodes without weights."""
    if node.op == "get_attr":
        return str(node.target).rpartition(".")[0]
    if node.target in _CONVOLUTIONS | _LINEAR and isinstance(node.args[1], Node):
        return _layer_name(node.args[1])
    return None


def _dynamic_quantizer(scheme: QuantScheme) -> Any:
    """Annotates linear layers and, for 8-bit weights, convolutions of one group: what XNNPACK has dynamic kernels for. Its
    own quantiser leaves out convolutions that a ReLU follows."""
    with quiet_import():
        api = importlib.import_module("torchao.quantization.pt2e.quantizer")
    vendor = import_executorch("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    four_bits = scheme.precision is Precision.INT4_WEIGHTS
    low, high = (-8, 7) if four_bits else (-127, 127)
    configuration = vendor.get_symmetric_quantization_config(
        is_per_channel=True, is_dynamic=True, weight_qmin=low, weight_qmax=high
    )

    def annotate(self: Any, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.target in _LINEAR or (not four_bits and node.target in _CONVOLUTIONS and _groups(node) == 1):
                wanted = {node.args[0]: configuration.input_activation, node.args[1]: configuration.weight}
                node.meta["quantization_annotation"] = api.QuantizationAnnotation(wanted, _annotated=True)
        return model

    def validate(self: Any, model: GraphModule) -> None:
        """Nothing to refuse: what is not annotated stays in floating point."""

    return type("DynamicQuantizer", (api.Quantizer,), {"annotate": annotate, "validate": validate})()


def _groups(convolution: Node) -> int:
    groups = convolution.args[6] if len(convolution.args) > 6 else convolution.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    return groups


def _require_integers(quantized: GraphModule, scheme: QuantScheme) -> None:
    """Raises UnsupportedError where the scheme leaves the weights as they are, or most of them for a scheme of weights."""
    state = {**dict(quantized.named_parameters()), **dict(quantized.named_buffers())}
    # The float weights are still in the module; the graph reads them no more.
    read = {str(node.target) for node in quantized.graph.nodes if node.op == "get_attr"}
    tensors = [state[name] for name in read if name in state]
    integers = sum(tensor.numel() for tensor in tensors if tensor.dtype == torch.int8)
    share = integers / max(1, sum(tensor.numel() for tensor in tensors))
    if scheme.integer and integers == 0:
        raise UnsupportedError(
            "XNNPACK computes none of this model's layers in int8", fix="take fp32 or fp16, or another family"
        )
    if not scheme.integer and share < _SMALLEST_SHARE:
        layers = (
            "linear layers"
            if scheme.precision is Precision.INT4_WEIGHTS
            else "linear layers and ungrouped convolutions"
        )
        raise UnsupportedError(
            f"XNNPACK stores weights as {scheme.label} in {layers} alone, which hold {format_percent(share)} of this "
            "model's weights",
            fix="take int8",
        )
