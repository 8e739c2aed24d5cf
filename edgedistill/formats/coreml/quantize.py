"""Integers for Core ML.

Static int8: int8 weights and activations, calibrated on training images; in a mixed scheme the named layers, and additions
that read nothing but their results, stay in fp16. PT2E (prepare, calibrate, convert) with a quantiser for the operations
that Core ML runs in int8, then the ordinary conversion, which turns the pairs into MIL's `quantize` and `dequantize` and
the weights into int8 constants. Roads not taken: `linear_quantize_activations` runs the model, so it needs macOS;
coremltools' own `CoreMLQuantizer` does not import with torch 2.11 and later (apple/coremltools#2823).

Quantised are the inputs of convolutions, linear layers and additions (what coremltools' own activation pass quantises,
less pooling), a tensor at a time, and the weights, a channel at a time. All is symmetric, the form for which Apple
documents the Neural Engine's int8 path: int8 without zero point; uint8 without zero point for tensors that cannot be
negative, which are worth the eighth bit.

Weights alone, by coremltools.optimize: int8 with a scale a channel, or 4 bits that look up one of 16 values chosen by
k-means a tensor (linear int4 came with iOS 18); computed in fp16.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from edgedistill.base.arrays import Images
from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Calibration, Contract, Precision, QuantScheme
from edgedistill.formats.coreml.export import convert_and_write
from edgedistill.formats.coreml_sdk import import_coremltools
from edgedistill.formats.quantizer_checks import require_images, require_layers
from edgedistill.networks.rounding.observers import activation_observer
from edgedistill.networks.rounding.pt2e import as_input, fake_quantize

_aten = torch.ops.aten
_WEIGHTED = {_aten.conv2d.default, _aten.linear.default}
_ADDITIONS = {_aten.add.Tensor, _aten.add_.Tensor}
_NEVER_NEGATIVE = {_aten.relu.default, _aten.relu_.default, _aten.sigmoid.default, _aten.hardsigmoid.default}
_CLAMPS = {_aten.hardtanh.default, _aten.hardtanh_.default, _aten.clamp.default, _aten.clamp_.default}
_KEEP_SIGN = {
    _aten.max_pool2d.default,
    _aten.avg_pool2d.default,
    _aten.adaptive_avg_pool2d.default,
    _aten.mean.dim,
    _aten.flatten.using_ints,
    _aten.view.default,
    _aten.reshape.default,
    _aten.dropout.default,
    _aten.dropout_.default,
}

_SCALE_FLOOR = 2.0**-14
"""Smallest normal fp16. The package stores scales as fp16, where less would lose bits, or be taken for zero by hardware that
flushes subnormals. A channel whose batch norm has shrunk it below that gets fewer codes: an error of 3e-5 a weight."""


def quantize_coreml(
    module: nn.Module,
    calibration: Images,
    contract: Contract,
    scheme: QuantScheme,
    path: Path,
    *,
    build_hash: str,
) -> tuple[ExportedModel, nn.Module]:
    """Quantise `module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to logits; not changed) and write the package to `path`.

    `calibration` are uint8 images [n, 3, R, R] of the training split.

    Returns the package and the fake-quantised torch program it was converted from (same input, any batch size). That
    program is a check on calibration, on machines that cannot run Core ML. It is not the artifact: Core ML rounds and
    accumulates in its own way, so its quality is never reported as the artifact's.

    Raises InputError for images that do not fit and where `scheme.kept` names no layer, UnsupportedError where torch.export
    or Core ML cannot take the module, MissingDependencyError without coremltools.
    """
    if not scheme.integer:
        raise ValueError(f"quantize_coreml makes int8 and mixed, not {scheme.precision}")
    require_images(calibration, (3, contract.resolution, contract.resolution), "the model")
    with quiet():
        kept = scheme.kept if scheme.precision is Precision.MIXED else ()
        quantizer = coreml_quantizer(scheme.per_channel, scheme.calibration, kept)
    quantized = fake_quantize(module, calibration, quantizer)
    with torch.no_grad():
        program = torch.export.export(quantized, (as_input(calibration[:1]),))
    return convert_and_write(program, contract, path, scheme, build_hash=build_hash), quantized


def compress_coreml(
    program: ExportedProgram, contract: Contract, path: Path, scheme: QuantScheme, *, build_hash: str
) -> ExportedModel:
    """`program` (float32 [1, 3, R, R] in 0..255 to logits [1, classes]) as a package at `path` whose weights are stored in
    8 or 4 bits. Raises UnsupportedError where Core ML lacks an operation, MissingDependencyError without coremltools."""
    import_coremltools()
    optimize = importlib.import_module("coremltools.optimize.coreml")
    ways = {
        Precision.INT8_WEIGHTS: (
            optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel"),
            optimize.linear_quantize_weights,
        ),
        Precision.INT4_WEIGHTS: (optimize.OpPalettizerConfig(mode="kmeans", nbits=4), optimize.palettize_weights),
    }
    if scheme.precision not in ways:
        raise ValueError(f"compress_coreml makes weights-only precisions, not {scheme.precision}")
    how, shrink = ways[scheme.precision]
    settings = optimize.OptimizationConfig(global_config=how)
    return convert_and_write(
        program, contract, path, scheme, build_hash=build_hash, compress=lambda model: shrink(model, settings)
    )


def coreml_quantizer(
    per_channel: bool = True, calibration: Calibration = Calibration.MINMAX, kept: Collection[str] = ()
) -> Any:
    """A torchao quantiser that annotates what Core ML runs in int8, but for the layers `kept`. Its class is made here, for
    its base is torchao's. Its `annotate` raises InputError for a layer that is not in the model."""
    api = importlib.import_module("torchao.quantization.pt2e.quantizer")
    signed, unsigned, weight = _specs(api, per_channel, calibration)

    def spec(node: Any) -> Any:
        return unsigned if _never_negative(node) else signed

    def annotate(self: Any, model: GraphModule) -> GraphModule:
        require_layers(kept, {_layer(node) for node in model.graph.nodes if node.target in _WEIGHTED})
        in_float: set[Node] = set()
        for node in model.graph.nodes:
            if node.op != "call_function":
                continue
            inputs = node.args[:2]
            if node.target in _WEIGHTED:
                if _layer(node) in kept:
                    in_float.add(node)
                    continue
                wanted = {inputs[0]: spec(inputs[0]), inputs[1]: weight}
            elif (read := [n for n in node.all_input_nodes if n.op == "call_function"]) and in_float.issuperset(read):
                in_float.add(node)
                continue
            elif node.target in _ADDITIONS and all(isinstance(n, Node) and n.op == "call_function" for n in inputs):
                wanted = {n: spec(n) for n in inputs}
            else:
                continue
            node.meta["quantization_annotation"] = api.QuantizationAnnotation(wanted, _annotated=True)
        return model

    def validate(self: Any, model: GraphModule) -> None:
        """Nothing to refuse: what is not annotated stays in floating point."""

    return type("CoreMLInt8", (api.Quantizer,), {"annotate": annotate, "validate": validate})()


def _layer(node: Node) -> str:
    """Name of the layer that a convolution or linear operation computes: its weight's without the last part."""
    weight = node.args[1]
    return str(weight.target).rpartition(".")[0] if isinstance(weight, Node) else ""


def _specs(api: Any, per_channel: bool, calibration: Calibration) -> tuple[Any, Any, Any]:
    """torchao's specifications of signed activations, of activations that cannot be negative, and of weights. `api` is its
    module of quantisers."""
    observer = importlib.import_module("torchao.quantization.pt2e.observer")
    activation = activation_observer(calibration).with_args(eps=_SCALE_FLOOR)
    # Ranges are those that MIL's `quantize` saturates to, so that the torch program clips where Core ML does.
    signed = api.QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric,
        observer_or_fake_quant_ctr=activation,
    )
    # Affine over a range that begins at zero: the observer then finds zero point 0, which Core ML leaves out.
    unsigned = api.QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=activation,
    )
    kind = observer.PerChannelMinMaxObserver if per_channel else observer.MinMaxObserver
    weight = api.QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=0 if per_channel else None,
        observer_or_fake_quant_ctr=kind.with_args(eps=_SCALE_FLOOR),
    )
    return signed, unsigned, weight


def _never_negative(node: Any) -> bool:
    """Whether a value of an ATen graph is at least zero whatever the input, as far as its operations tell."""
    if not isinstance(node, Node):
        return False
    if node.target in _NEVER_NEGATIVE:
        return True
    if node.target in _CLAMPS:
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min")
        return isinstance(low, int | float) and low >= 0
    if node.target in _KEEP_SIGN:
        return _never_negative(node.args[0])
    return node.target in _ADDITIONS and all(_never_negative(n) for n in node.args[:2])
