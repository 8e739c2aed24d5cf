"""What is expected of a file before it is made: latency, size and memory of one precision on one target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgedistill.devices.latency.law import MIN_ROWS
from edgedistill.devices.latency.memory import BytesModel
from edgedistill.devices.latency.model import LatencyModel, Row
from edgedistill.documents.specs import Percentile, Precision
from edgedistill.networks.structure import Structure


@dataclass(frozen=True)
class Aim:
    """What a candidate's file has to keep on one target: at most `limit_ms` at `percentile`, at most these bytes."""

    limit_ms: float
    percentile: Percentile
    max_bytes: int | None = None
    max_memory_bytes: int | None = None


@dataclass(frozen=True)
class Expectation:
    """Models of one precision. `size` and `memory` are None while nothing is known of them."""

    latency: LatencyModel
    size: BytesModel | None = None
    memory: BytesModel | None = None

    def probability(self, structure: Structure, aim: Aim) -> float:
        """P(latency, size and memory inside the aim). They miss for different reasons: probabilities are multiplied."""
        chance = self.latency.probability_within(structure, aim.limit_ms)
        for model, limit in ((self.size, aim.max_bytes), (self.memory, aim.max_memory_bytes)):
            if model is not None and limit is not None:
                chance *= model.probability_within(structure, limit)
        return chance


Expectations = Mapping[Precision, Expectation]


@dataclass(frozen=True)
class Prospect:
    """One target of a search, by name: what a file has to keep there, and what is expected of files there. No `models` while
    nothing is known of its latencies."""

    device: str
    aim: Aim
    models: Expectations


@dataclass(eq=False)
class Measurements:
    """What was measured so far, by precision."""

    latency: dict[Precision, list[Row]] = field(default_factory=dict)
    size: dict[Precision, list[tuple[Structure, int]]] = field(default_factory=dict)
    memory: dict[Precision, list[tuple[Structure, int]]] = field(default_factory=dict)

    def add(self, row: Row, precision: Precision, size: int | None, memory: int | None) -> None:
        """One measured file: its comparable latency at the aim's percentile, its bytes and its peak memory where they are
        known."""
        self.latency.setdefault(precision, []).append(row)
        for rows, taken in ((self.size, size), (self.memory, memory)):
            if taken is not None:
                rows.setdefault(precision, []).append((row.structure, taken))

    def expectations(self) -> dict[Precision, Expectation]:
        """Models of each precision of which enough was measured."""
        return {
            precision: Expectation(
                LatencyModel.fit(rows), _bytes(self.size.get(precision, ())), _bytes(self.memory.get(precision, ()))
            )
            for precision, rows in self.latency.items()
            if len(rows) >= MIN_ROWS
        }

    def fewest(self, precisions: Sequence[Precision], least: float = 0.0, most: float = math.inf) -> int:
        """The smallest count, over `precisions`, of measured files of networks with `least` to `most` multiply-adds."""
        return min(
            sum(least <= row.structure.multiply_adds <= most for row in self.latency.get(precision, ()))
            for precision in precisions
        )


def _bytes(rows: Sequence[tuple[Structure, int]]) -> BytesModel | None:
    return BytesModel.fit(rows) if len(rows) >= MIN_ROWS else None
