"""Bytes from structure, peak memory or the size of a file: the law and the trust of `law.py` over few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.latency.features import FloatArray
from edgedistill.latency.law import MIN_ROWS, Law, Learnt, Trust
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
    """An estimate in bytes with an interval that holds the measurement in 90% of cases. `calibrated` is true where the
    interval is conformal, from 20 rows on."""

    bytes: int
    low_bytes: int
    high_bytes: int
    calibrated: bool


class BytesModel(Learnt):
    """Bytes in one precision on one target: `law` over the bytes of weights and of living activations (fp32), the number of
    operations, and a constant, which is the runtime's own or the file's frame."""

    @classmethod
    def fit(cls, rows: Sequence[BytesRow]) -> BytesModel:
        """Learn from at least 3 measured models. Raises ValueError for fewer, or for bytes that are not positive."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a model of bytes needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([_vector(row.structure) for row in rows])
        measured = np.array([row.bytes for row in rows], dtype=np.float64)
        law = Law.fit(matrix, measured, RIDGE)
        sizes = [_size(row.structure) for row in rows]
        return cls(law=law, trust=Trust.of(law, matrix, measured, sizes, LEAST_SPREAD))

    def predict(self, structure: Structure) -> BytesPrediction:
        """The estimate and its interval (see Trust.interval)."""
        estimate, low, high = self.ends(structure)
        return BytesPrediction(
            bytes=round(estimate), low_bytes=round(low), high_bytes=round(high), calibrated=self.calibrated
        )

    def _seen(self, structure: Structure) -> tuple[FloatArray, float, float]:
        return _vector(structure), _size(structure), 0.0


def _vector(structure: Structure) -> FloatArray:
    operations = sum(total.count for total in structure.totals)
    return np.array([structure.weights_bytes, structure.activation_bytes, operations, 1], dtype=np.float64)


def _size(structure: Structure) -> float:
    return float(max(structure.weights_bytes + structure.activation_bytes, 1))
