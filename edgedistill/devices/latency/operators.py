"""What operator timings tell of a latency: which share of it multiplies, and which only moves or maps elements.

Every profile has the time of each operator, from a run apart in which tracing slows all down: only shares are read off it.
"""

from __future__ import annotations

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


def multiplying_share(timings: Iterable[OpTiming]) -> float | None:
    """The share, 0 to 1, of the operators' time in convolutions and matrix products. None where that tells nothing of a
    structure: there are no times, an operator among them is of a type that is not known here, or more than a tenth of the
    time goes into conversions between types."""
    multiplying = converting = total = 0.0
    for timing in timings:
        name = re.sub(r"[\s_]", "", timing.op_type.lower())
        heavy = _MULTIPLYING.search(name) is not None
        converts = not heavy and _CONVERTING.search(name) is not None
        if not (heavy or converts or _OTHERS.search(name)):
            return None
        multiplying += timing.median_us * heavy
        converting += timing.median_us * converts
        total += timing.median_us
    return multiplying / total if total > 0 and converting <= _MOST_CONVERTING * total else None
