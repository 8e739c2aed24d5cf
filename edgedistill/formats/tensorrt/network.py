"""The network as TensorRT's parser made it: the last thing that can be read before the builder turns it into an engine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgedistill.documents.artifacts import Inspection, Layer, TensorSignature

_KERNELS = ("CONVOLUTION", "DECONVOLUTION")
_PRODUCT = "MATRIX_MULTIPLY"
_PASSED_THROUGH = ("DEQUANTIZE", "SHUFFLE", "CAST", "IDENTITY")
_TYPES = {"float": "float32", "half": "float16", "bf16": "bfloat16", "fp8": "float8"}


def seen_network(network: Any, trt: Any) -> Inspection:
    """Signature, operations and layers with weights of a parsed network of the vendor's module `trt`. Networks are strongly
    typed: what the graph says is what the builder has to keep, and quantised values that meet quantised weights are
    computed in integers."""
    layers = _layers(network)
    makers = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
        if layer.get_output(index) is not None
    }
    return Inspection(
        checks=("operations and layers are those of the network that its builder was given",),
        inputs=tuple(_signature(network.get_input(index)) for index in range(network.num_inputs)),
        outputs=tuple(_signature(network.get_output(index)) for index in range(network.num_outputs)),
        operations=dict(Counter(layer.type.name.lower() for layer in layers)),
        layers=tuple(_found(layers, makers, trt)),
    )


def output_types(network: Any) -> dict[str, int]:
    """How many layers of a network give out which type."""
    return dict(Counter(_kind(layer.get_output(0)) for layer in _layers(network)))


def _layers(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


def _signature(tensor: Any) -> TensorSignature:
    return TensorSignature(name=tensor.name, dtype=_kind(tensor), shape=tuple(tensor.shape))


def _found(layers: list[Any], makers: dict[str, Any], trt: Any) -> Iterator[Layer]:
    for layer in layers:
        kind = layer.type.name
        if kind not in (*_KERNELS, _PRODUCT):
            continue
        computed = _kind(layer.get_output(0))
        # A kernel that was given with the layer, as floats are, is no input.
        given = kind in _KERNELS and (layer.num_inputs < 2 or layer.get_input(1) is None)
        pairs = ((1, 0), (0, 1)) if kind == _PRODUCT else ((1, 0),)
        for weight, activation in pairs:
            constant = (computed, _kernel_elements(layer, trt)) if given else _constant(layer.get_input(weight), makers)
            if constant is not None:
                stored, parameters = constant
                integer = stored.startswith("int") and _dequantised(layer.get_input(activation), makers)
                arithmetic = stored if integer else computed
                yield Layer(name=layer.name, weights=stored, arithmetic=arithmetic, parameters=parameters)
                break


def _dequantised(tensor: Any, makers: dict[str, Any]) -> bool:
    """Whether a tensor was dequantised, then at most reshaped: the builder moves what only reshapes in front of that."""
    while (maker := makers.get(tensor.name)) is not None and maker.type.name == "SHUFFLE":
        tensor = maker.get_input(0)
    return maker is not None and maker.type.name == "DEQUANTIZE"


def _kernel_elements(layer: Any, trt: Any) -> int:
    # A network hands its layers out as what they have in common; this is how TensorRT's own samples get at the rest.
    layer.__class__ = {"CONVOLUTION": trt.IConvolutionLayer, "DECONVOLUTION": trt.IDeconvolutionLayer}[layer.type.name]
    return int(layer.kernel.size)


def _constant(tensor: Any, makers: dict[str, Any]) -> tuple[str, int] | None:
    """Type and elements of the constant that a tensor is made of, None where it is computed from the input."""
    while (maker := makers.get(tensor.name)) is not None:
        if maker.type.name == "CONSTANT":
            constant = maker.get_output(0)
            return _kind(constant), math.prod(constant.shape)
        if maker.type.name not in _PASSED_THROUGH:
            return None
        tensor = maker.get_input(0)
    return None


def _kind(tensor: Any) -> str:
    """NumPy's name of a tensor's type."""
    name = str(tensor.dtype.name).lower()
    return _TYPES.get(name, name)
