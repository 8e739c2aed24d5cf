"""Losses of features: pure functions, each of a mean over all numbers or rows.

`student` and `teacher` are float [B, D], aligned and normalised as the term says.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

LEAST_DIFFERENCE: Final = 1e-6
"""Below which two numbers are taken for equal: a logarithm needs an end."""


def smooth_l1(student: Tensor, teacher: Tensor, *, beta: Annotated[float, Field(gt=0, le=100)] = 1.0) -> Tensor:
    """Mean of d^2 / (2 `beta`) where |d| < `beta`, else |d| - `beta` / 2, of the differences d; >= 0, and 0 iff all agree
    (Girshick 2015, https://arxiv.org/abs/1504.08083, equation 3)."""
    return F.smooth_l1_loss(student, teacher, beta=beta)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos of the rows, in 0..2: the lengths of the rows mean nothing."""
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


def log_sum(student: Tensor, teacher: Tensor, *, exponent: Annotated[float, Field(ge=1, le=16)] = 4.0) -> Tensor:
    """Logarithm of the mean of |d|^`exponent` over all differences d: the larger `exponent`, the more the largest count. Its
    gradient does not fade as the differences become small (Miles and Mikolajczyk 2024, https://arxiv.org/abs/2303.11098, the
    LogSum loss, there of the sum: it differs by a constant)."""
    logs = (student - teacher).abs().clamp(min=LEAST_DIFFERENCE).log()
    return torch.logsumexp(exponent * logs.flatten(), dim=0) - math.log(logs.numel())
