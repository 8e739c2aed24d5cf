"""Matrix products and attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from edgedistill.formats.coreml.limits import check_size
from edgedistill.formats.coreml.reference.registry import MilCall, operation, widened


@operation("linear")
def linear(call: MilCall) -> NDArray[Any]:
    result = call.real("x") @ call.real("weight").T
    return np.asarray(result if call.get("bias") is None else result + call.real("bias"))


@operation("matmul")
def matmul(call: MilCall) -> NDArray[Any]:
    x, y = call.real("x"), call.real("y")
    if call.scalar("transpose_x", False):
        x = x.swapaxes(-1, -2)
    if call.scalar("transpose_y", False):
        y = y.swapaxes(-1, -2)
    return np.asarray(np.matmul(x, y))


@operation("einsum")
def einsum(call: MilCall) -> NDArray[Any]:
    """Dimensions of the same letter broadcast where one of them is 1, which numpy's own einsum does as well."""
    operands = [widened(np.asarray(value)) for value in call["values"]]
    return np.asarray(np.einsum(call.scalar("equation"), *operands))


@operation("scaled_dot_product_attention")
def attention(call: MilCall) -> NDArray[Any]:
    query, key, value = map(call.tensor, ("query", "key", "value"))
    check_size([*query.shape[:-1], key.shape[-2]], "the scores of an attention")
    if (mask := call.get("attn_mask")) is not None:
        given = np.ascontiguousarray(mask)
        mask = torch.from_numpy(given if given.dtype == np.bool_ else given.astype(np.float32))
    return F.scaled_dot_product_attention(query, key, value, mask).numpy()
