"""Losses of features: pure functions, each a mean over all numbers or rows.

`student` and `teacher` are float [B, D], aligned and normalised as the term says.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F


def smooth_l1(student: Tensor, teacher: Tensor, *, beta: Annotated[float, Field(gt=0, le=100)] = 1.0) -> Tensor:
    """Mean of d^2 / (2 `beta`) where |d| < `beta`, else |d| - `beta` / 2, of the differences d; >= 0, and 0 iff all agree
    (Girshick 2015, https://arxiv.org/abs/1504.08083, equation 3)."""
    return F.smooth_l1_loss(student, teacher, beta=beta)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos of the rows, in 0..2: the lengths of the rows mean nothing."""
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()
