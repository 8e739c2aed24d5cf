"""Bytes from structure, peak memory or the size of a file: the law and the trust of `law.py` over few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.latency.features import FloatArray
from edgedistill.latency.law import MIN_ROWS, Law, Trust
from edgedistill.specs import Frozen
from edgedistill.students.structure import Structure

RIDGE = 1e-4
LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class BytesRow:
    """One measured model: its structure and its bytes."""

    structure: Structure
    bytes: int


class BytesPrediction(Frozen):
    """An estimate in bytes with its 95% interval. `calibrated` is true where the interval is conformal, from 20 rows on."""

    bytes: int
    low_bytes: int
    high_bytes: int
    calibrated: bool


class BytesModel(Frozen):
    """Bytes in one precision on one target: `law` over the bytes of weights and of living activations (fp32), the number of
    operations, and a constant, which is the runtime's own or the file's frame."""

    law: Law
    trust: Trust

    @classmethod
    def fit(cls, rows: Sequence[BytesRow]) -> BytesModel:
        """Learn from at least 3 measured models. Raises ValueError for fewer, or for bytes that are not positive."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a model of bytes needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([_vector(row.structure) for row in rows])
        measured = np.array([row.bytes for row in rows], dtype=np.float64)
        law = Law.fit(matrix, measured, RIDGE)
        without = [law.left_out_estimates(vector)[i] for i, vector in enumerate(matrix)]
        sizes = [_size(row.structure) for row in rows]
        trust = Trust(
            log_residuals=tuple(float(np.log(y / estimate)) for y, estimate in zip(measured, without)),
            least_spread=LEAST_SPREAD,
            size_range=(min(sizes), max(sizes)),
        )
        return cls(law=law, trust=trust)

    @property
    def calibrated(self) -> bool:
        """Whether intervals are conformal: from 20 rows on."""
        return self.trust.calibrated

    def predict(self, structure: Structure) -> BytesPrediction:
        """The estimate, with an interval that holds the measured bytes in 95% of cases (see Trust.interval)."""
        vector = _vector(structure)
        centre = self.law.estimate(vector)
        low, high = self.trust.interval(centre, self.law.left_out_estimates(vector), _size(structure))
        return BytesPrediction(
            bytes=round(centre), low_bytes=round(low), high_bytes=round(high), calibrated=self.calibrated
        )

    def probability_within(self, structure: Structure, limit_bytes: int) -> float:
        """P(bytes <= limit) (see Trust.probability_within). Rises with the limit."""
        estimate = self.law.estimate(_vector(structure))
        return self.trust.probability_within(estimate, limit_bytes, _size(structure))


def _vector(structure: Structure) -> FloatArray:
    operations = sum(total.count for total in structure.totals)
    return np.array([structure.weights_bytes, structure.activation_bytes, operations, 1], dtype=np.float64)


def _size(structure: Structure) -> float:
    return float(max(structure.weights_bytes + structure.activation_bytes, 1))
