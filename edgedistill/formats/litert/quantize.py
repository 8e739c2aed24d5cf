"""Integers for LiteRT: ai-edge-quantizer on the float file that export_litert makes as well.

Static int8 has int8 activations with a zero point, a scale a tensor, and symmetric int8 weights, a scale a channel: the form
that XNNPACK has integer kernels for. The other road, PT2E with litert_torch's quantiser, came out as accurate and as fast on
students of all three families, but takes five times as long, leaves in floating point what that quantiser has no pattern for
(means, activations other than ReLU), and its converter rejects per-channel weights that torchao has folded.

Integers are what XNNPACK has integer kernels for, and nothing else. LiteRT's own kernels, which would take the rest, run
outside of the delegate and are slow: mobilenetv3_small with integer HARD_SWISH took four times as long as with that in
floating point, efficientformerv2_s0 with integer GELU, softmax and matrix products three times as long, 12 dB noisier. What
stands in front of the first layer (cast and mean of the image) and the logits stay in floating point as well: subtracting
the mean in int8 costs as much as the first layer. So do normalisations over activations: a variance has no 256 steps, and
vit_tiny is 18 dB less noisy for it.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from edgedistill.base.arrays import Images
from edgedistill.base.errors import UnsupportedError, first_line
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Calibration, Contract, Precision, QuantScheme
from edgedistill.formats.litert.content import Content
from edgedistill.formats.litert.export import quiet_litert, to_content, write_litert
from edgedistill.formats.litert.packages import import_litert
from edgedistill.formats.quantizer_checks import require_images, require_layers
from edgedistill.networks.program.program import to_program

_SIGNATURE = "serving_default"
# The operators that XNNPACK computes in int8, of those that ai-edge-quantizer can quantise, by the latter's names.
_INTEGER_KERNELS = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "CONV_2D_TRANSPOSE",
    "FULLY_CONNECTED",
    "ADD",
    "SUB",
    "MUL",
    "MEAN",
    "SUM",
    "MAX_POOL_2D",
    "LOGISTIC",
    "TANH",
    "RESIZE_BILINEAR",
    "PAD",
    "RESHAPE",
    "TRANSPOSE",
    "CONCATENATION",
    "SPLIT",
    "SLICE",
    "STRIDED_SLICE",
)


def quantize_litert(
    module: nn.Module,
    calibration: Images,
    contract: Contract,
    scheme: QuantScheme,
    path: Path,
    *,
    build_hash: str,
) -> ExportedModel:
    """Quantise `module` (eval, CPU, float32 [1, 3, R, R] in 0..255 to logits; not changed) and write the file to `path`
    (`.tflite`). The same weights and images give the same bytes.

    `calibration` are uint8 images [n, 3, R, R] of the training split, used by int8 and mixed alone: an activation's range is
    its smallest and largest value over all of them. The scheme returned states how many were used.

    - int8, mixed: integer arithmetic; the layers named in `scheme.kept` stay in floating point.
    - int8-weights: weights are int8 in the file and float32 once it is loaded.
    - int4-weights: those of convolutions and linear layers have 4 bits, those of depthwise ones 8, which have no 4-bit form.
      LiteRT computes with 4-bit weights by rounding activations to int8 as they come, image by image.

    Raises InputError for images that do not fit and for unknown layers in `kept`; UnsupportedError where LiteRT lacks an
    operation, where the quantiser cannot do what the scheme asks; MissingDependencyError.
    """
    _check(calibration, contract, scheme)
    import_litert("ai_edge_quantizer.quantizer")
    content = to_content(to_program(module, contract), contract)
    require_layers(scheme.kept, content.layers())
    recipe = _recipe(scheme, content)
    try:
        with quiet_litert():
            images = calibration if scheme.integer else None
            quantized = _quantized(content.serialise(), recipe, images, contract.input_name)
    except MemoryError:
        raise
    except Exception as error:  # the vendor raises whatever its algorithms stumble over
        raise UnsupportedError(
            f"ai-edge-quantizer cannot make {scheme.label} of the model: {first_line(error)}",
            fix="keep the layer named in floating point (mixed), or take another precision",
        ) from error
    used = scheme.model_copy(update={"calibration_images": len(calibration) if scheme.integer else 0})
    return write_litert(Content.parse(quantized), contract, path, used, build_hash=build_hash)


def _check(calibration: Images, contract: Contract, scheme: QuantScheme) -> None:
    if scheme.floating:
        raise UnsupportedError(f"quantize_litert does not make {scheme.precision}", fix="use export_litert")
    if not scheme.integer:
        return
    if scheme.calibration is not Calibration.MINMAX:
        raise UnsupportedError(
            f"ai-edge-quantizer reads ranges as smallest and largest values, not by {scheme.calibration}",
            fix="use calibration = minmax for litert",
        )
    require_images(calibration, (3, contract.resolution, contract.resolution), "the model")


def _recipe(scheme: QuantScheme, content: Content) -> Any:
    """The RecipeManager of a scheme: of the rules that match an operator, the last one counts."""
    names = importlib.import_module("ai_edge_quantizer.qtyping")
    none = importlib.import_module("ai_edge_quantizer.algorithm_manager").AlgorithmName.NO_QUANTIZE
    recipe = importlib.import_module("ai_edge_quantizer.recipe_manager").RecipeManager()
    operators, granularity = names.TFLOperationName, names.QuantGranularity
    detail = granularity.CHANNELWISE if scheme.per_channel else granularity.TENSORWISE
    if scheme.integer:
        for operator in _INTEGER_KERNELS:
            recipe.add_static_config(".*", operators(operator), 8, 8, detail)
    else:
        recipe.add_weight_only_config(".*", operators.ALL_SUPPORTED, 8, detail)
    if scheme.precision is Precision.INT4_WEIGHTS:
        for operator in (operators.CONV_2D, operators.FULLY_CONNECTED):
            recipe.add_dynamic_config(".*", operator, 4, detail)
    for name in (*content.before_layers(), *content.normalisations(), *scheme.kept):
        recipe.add_quantization_config(scope(name), operators.ALL_SUPPORTED, None, none)
    return recipe


def scope(layer: str) -> str:
    """The regular expression for the operators of a layer, or for the one that gives a tensor of that name: the quantiser
    knows an operator by the names of its outputs, each with a semicolon behind it."""
    return rf"^{re.escape(layer)}(:\d+)?;"


def _quantized(content: bytes, recipe: Any, calibration: Images | None, input_name: str) -> bytes:
    quantizer = importlib.import_module("ai_edge_quantizer.quantizer")
    ranges = None if calibration is None else _ranges(content, recipe, calibration, input_name)
    result = quantizer.Quantizer(content, recipe.get_quantization_recipe()).quantize(
        ranges, enable_progress_bar=False, enable_progress_report=False
    )
    return bytes(result.quantized_model)


def _ranges(content: bytes, recipe: Any, calibration: Images, input_name: str) -> Any:
    """Smallest and largest value of each tensor over all images. The quantiser's own average of each image's range clips: it
    cost 8 to 16 dB of signal to noise on students of three families."""
    calibrator = importlib.import_module("ai_edge_quantizer.calibrator")
    widest = importlib.import_module("ai_edge_quantizer.utils.qsv_utils").min_max_update
    feeds = [{input_name: np.ascontiguousarray(image.transpose(1, 2, 0)[None])} for image in calibration]
    observer = calibrator.Calibrator(content, num_threads=1, qsv_update_func=widest)
    observer.calibrate({_SIGNATURE: feeds}, recipe)
    return observer.get_model_qsvs()
