"""What operator timings tell of a latency: which share of it multiplies, and which only moves or maps elements; how many
multiply-adds an operator did.

Every profile has the time of each operator, from a run apart in which tracing slows all down: only shares are read off it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from edgedistill.documents.measurements import OpTiming

# Operators in the words of ONNX Runtime (its fused and quantised ones too), LiteRT, and ExecuTorch with XNNPACK.
_MULTIPLYING = re.compile(
    r"conv(?!ert)|gemm|matmul|multiplyadds|bmm|matrixmultiply|fullyconnected|attention|nativecall(linear|addmm|mm)"
)
_OTHERS = re.compile(
    r"add|sub|mul|div|neg|abs|pow|sqrt|exp|log|erf|max|min|relu|elu|gelu|clip|clamp|sigmoid|swish|silu|tanh|softmax|softplus|"
    r"norm|pool|mean|reduce|sum|concat|cat|reshape|view|flatten|transpose|permute|squeeze|expand|tile|slice|split|gather|pad|"
    r"resize|upsample|interpolate|depthtospace|reorder|copy|clone|identity|where|constant|shape"
)
# What a runtime puts between operators whose types differ: a network's structure has none of it.
_CONVERTING = re.compile(r"cast|convert|quantize")
_MOST_CONVERTING = 0.1

# Operators of ONNX Runtime whose shapes tell their multiply-adds: quantised ones have scales and zero points, of rank 0 or
# 1, between their tensors.
_CONVOLUTIONS = re.compile(r"(Nhwc|QLinear)?(Fused)?Conv(Integer)?")
_TRANSPOSED = re.compile(r"(QLinear)?ConvTranspose")
_PRODUCTS = re.compile(r"(Fused|QLinear|Transpose)?MatMul(Integer(ToFloat)?)?|DynamicQuantizeMatMul|Q?Gemm")


def multiplying_share(timings: Iterable[OpTiming]) -> float | None:
    """The share, 0 to 1, of the operators' time in convolutions and matrix products. None where that tells nothing of a
    structure: there are no times, an operator among them is of a type that is not known here, or more than a tenth of the
    time goes into conversions between types."""
    multiplying = converting = total = 0.0
    for timing in timings:
        name, heavy = _plain(timing.op_type), multiplies(timing.op_type)
        converts = not heavy and _CONVERTING.search(name) is not None
        if not (heavy or converts or _OTHERS.search(name)):
            return None
        multiplying += timing.median_us * heavy
        converting += timing.median_us * converts
        total += timing.median_us
    return multiplying / total if total > 0 and converting <= _MOST_CONVERTING * total else None


def multiplies(op_type: str) -> bool:
    """Whether an operator of this type convolves or multiplies matrices."""
    return _MULTIPLYING.search(_plain(op_type)) is not None


def _plain(op_type: str) -> str:
    """A runtime's name of a type without what differs between runtimes: case, blanks, underscores."""
    return re.sub(r"[\s_]", "", op_type.lower())


def multiply_adds(timing: OpTiming) -> int | None:
    """Of one run of an operator, by its shapes, padding of channels included; 0 for one that neither convolves nor
    multiplies matrices. None where its shapes are not known, or its type's arithmetic is not read off them."""
    if not multiplies(timing.op_type):
        return 0
    sized = [shape for shape in timing.inputs if len(shape) > 2]
    flat = [shape for shape in timing.inputs if len(shape) > 1]
    if not timing.outputs:
        return None
    out = math.prod(timing.outputs[0])
    if len(sized) > 1 and _CONVOLUTIONS.fullmatch(timing.op_type):
        return out * math.prod(sized[1][1:])
    if len(sized) > 1 and _TRANSPOSED.fullmatch(timing.op_type):
        return math.prod(sized[0]) * math.prod(sized[1][1:])
    if len(flat) > 1 and _PRODUCTS.fullmatch(timing.op_type):
        # [.., m, k] x [.., k, n] -> [.., m, n], either of them possibly transposed, the second with or without the batch.
        batch = math.prod(timing.outputs[0][:-2])
        repeated = batch if math.prod(flat[1][:-2]) == batch else 1
        return out * math.isqrt(math.prod(flat[0]) * math.prod(flat[1]) // (out * repeated)) if out else 0
    return None
