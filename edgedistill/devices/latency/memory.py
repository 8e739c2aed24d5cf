"""Bytes from structure, peak memory or the size of a file: the law and the trust of `law.py` over few figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.devices.latency.features import FloatArray
from edgedistill.devices.latency.law import MIN_ROWS, Law, Learnt, Trust
from edgedistill.networks.structure import Structure

RIDGE = 1e-4
LEAST_SPREAD = 0.01


class BytesModel(Learnt):
    """Bytes in one precision on one target: `law` over the bytes of weights and of living activations (fp32), the number of
    operations, and a constant, which is the runtime's own or the file's frame."""

    @classmethod
    def fit(cls, rows: Sequence[tuple[Structure, int]]) -> BytesModel:
        """Learn from the structures and bytes of at least 3 measured models. Raises ValueError for fewer, or for bytes that
        are not positive."""
        if len(rows) < MIN_ROWS:
            raise ValueError(f"a model of bytes needs {MIN_ROWS} measured models, here are {len(rows)}")
        matrix = np.stack([_vector(structure) for structure, _ in rows])
        measured = np.array([size for _, size in rows], dtype=np.float64)
        law = Law.fit(matrix, measured, RIDGE)
        sizes = [_size(structure) for structure, _ in rows]
        return cls(law=law, trust=Trust.of(law, matrix, measured, sizes, LEAST_SPREAD))

    def _seen(self, structure: Structure) -> tuple[FloatArray, float, float]:
        return _vector(structure), _size(structure), 0.0


def _vector(structure: Structure) -> FloatArray:
    operations = sum(total.count for total in structure.totals)
    return np.array([structure.weights_bytes, structure.activation_bytes, operations, 1], dtype=np.float64)


def _size(structure: Structure) -> float:
    return float(max(structure.weights_bytes + structure.activation_bytes, 1))
