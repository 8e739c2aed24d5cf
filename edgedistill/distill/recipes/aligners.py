"""What stands between a student's tensor and the teacher's in one term: an aligner and a normaliser, in training alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgedistill.documents.recipes import TermConfig

LEAST_DEVIATION = 1e-3
"""Of the largest deviation of a unit: those below it hardly ever change, and are not scaled up to the others."""
BATCH_NORM_EPSILON = 1e-4
"""Added to a unit's variance over a batch, as in the reference code of Miles and Mikolajczyk 2024."""


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """Of a teacher's units over images: `mean`, `deviation` and `relevance` float32 [D]. `relevance` is the F ratio of a
    unit, its variance between classes by that within (scikit-learn's `f_classif`)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    relevance: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.float32], classes: NDArray[np.int64]) -> UnitStatistics:
        """Of `rows` [n, D] of images of these `classes` [n]."""
        from sklearn.feature_selection import f_classif  # type: ignore[import-untyped]

        mean, deviation = rows.mean(0), rows.std(0)
        varying = deviation > 0
        relevance = np.zeros_like(mean)
        if len(np.unique(classes)) > 1:
            ratio, _ = f_classif(rows[:, varying], classes)
            most = float(np.finfo(np.float32).max)
            relevance[varying] = np.nan_to_num(np.asarray(ratio, np.float64), nan=0.0, posinf=most).clip(0, most)
        return cls(mean, deviation, relevance)

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean)


class Orthonormal(nn.Module):
    """The Q of a matrix' QR decomposition, whose R has a positive diagonal: of all matrices [D, S] those with orthonormal
    columns, or rows where S > D. torch's own parametrisation composes S reflections one after another, which takes far
    longer, and longer than the other work of a small student's step."""

    def forward(self, matrix: Tensor) -> Tensor:
        """float32 [D, S] of full rank to the same shape."""
        wide = matrix.shape[0] < matrix.shape[1]
        unsigned, r = torch.linalg.qr(matrix.T if wide else matrix)
        # With these signs it is continuous: QR alone may turn a column round from one step to the next.
        q: Tensor = unsigned * r.diagonal().sgn()
        return q.T if wide else q


class Link(nn.Module):
    """Brings both sides of a term together: the student's rows [B, S], through the aligner, and the teacher's [B, D],
    normalised, of the selected units. `batch_norm` normalises both."""

    units: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, term: TermConfig, student_width: int, teacher: UnitStatistics) -> None:
        super().__init__()
        self.normaliser = term.normaliser
        width = teacher.width
        chosen = np.arange(width)
        if term.aligner == "select":
            # In the order of the teacher's units: which student's unit learns which is then the same at every width.
            chosen = np.sort(np.argsort(-teacher.relevance, kind="stable")[:student_width])
        floor = LEAST_DEVIATION * max(float(teacher.deviation.max()), torch.finfo(torch.float32).tiny)
        # Statistics belong to the store: a training that goes on reads them there again.
        self.register_buffer("units", torch.from_numpy(chosen), persistent=False)
        self.register_buffer("mean", torch.from_numpy(teacher.mean[chosen]), persistent=False)
        deviation = np.maximum(teacher.deviation[chosen], np.float32(floor))
        self.register_buffer("deviation", torch.from_numpy(deviation), persistent=False)
        self.projection: nn.Module = nn.Identity()
        if term.aligner in ("linear", "orthogonal"):
            self.projection = linear = nn.Linear(student_width, width, bias=False)
        if term.aligner == "orthogonal":
            # The map is orthogonal by its parametrisation, whatever step the optimiser takes. A normal start is drawn evenly
            # from all such maps.
            nn.init.normal_(linear.weight)
            parametrize.register_parametrization(linear, "weight", Orthonormal())

    def student(self, rows: Tensor) -> Tensor:
        """float [B, S] to [B, D], or to as many as there are units."""
        aligned: Tensor = self.projection(rows)
        aligned = aligned[:, : len(self.units)]
        return _batch_norm(aligned) if self.normaliser == "batch_norm" else aligned

    def teacher(self, rows: Tensor) -> Tensor:
        """float32 [B, D] to what the student is held against."""
        rows = rows[:, self.units]
        if self.normaliser == "layer_norm":
            return nn.functional.layer_norm(rows, rows.shape[1:])
        if self.normaliser == "batch_norm":
            return _batch_norm(rows)
        return (rows - self.mean) / self.deviation if self.normaliser == "standardise" else rows


def _batch_norm(rows: Tensor) -> Tensor:
    return nn.functional.batch_norm(rows, None, None, training=True, eps=BATCH_NORM_EPSILON)
