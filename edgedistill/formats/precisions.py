"""Which precision a file has, read off its layers, and whether that is the one it says it has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.documents.artifacts import Layer
from edgedistill.documents.specs import Precision, QuantScheme

INT8_SHARE = 0.99
"""An int8 file computes with at least this share of its weights in integers. Quantisers leave some layers alone: products
with a bare parameter, kinds for which a runtime has no integer kernel."""
_INTEGER = ("int8", "uint8", "int16")
_ALONE = (
    (("int4", "uint4"), Precision.INT4_WEIGHTS),
    (("int8", "uint8"), Precision.INT8_WEIGHTS),
    (("float16",), Precision.FP16),
)


def precision_of(layers: Sequence[Layer]) -> Precision:
    """int8 where all layers compute in integers, mixed where some do; else by what weights are stored in, the smallest type
    first. fp32 without layers."""
    if integer := sum(layer.arithmetic in _INTEGER for layer in layers):
        return Precision.INT8 if integer == len(layers) else Precision.MIXED
    stored = {layer.weights for layer in layers}
    return next((precision for kinds, precision in _ALONE if stored & set(kinds)), Precision.FP32)


def integer_share(layers: Sequence[Layer]) -> float:
    """Share of the weights that are in layers computing in integers; 0 without weights."""
    total = sum(layer.parameters for layer in layers)
    return sum(layer.parameters for layer in layers if layer.arithmetic in _INTEGER) / total if total else 0.0


def settled_scheme(carried: QuantScheme | None, found: Precision, layers: Sequence[Layer], path: Path) -> QuantScheme:
    """The scheme that a file carries, else one of the precision `found`. A file that says int8 may be found mixed, as long
    as what is not integer holds next to nothing of its weights. Raises InputError where the file says something else than
    it is."""
    if carried is None:
        return QuantScheme(precision=found)
    small = found is Precision.MIXED and integer_share(layers) >= INT8_SHARE
    if carried.precision is not found and not (carried.precision is Precision.INT8 and small):
        raise InputError(
            f"{path}: its metadata says {carried.precision}, its tensors are {found}", fix="export it again"
        )
    return carried
