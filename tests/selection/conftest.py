"""Made-up candidates whose latency is a known law of their multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgedistill.devices.latency.features import FEATURE_NAMES
from edgedistill.devices.latency.law import Law, Trust
from edgedistill.devices.latency.model import LatencyModel, Row
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.networks.structure import OperationKind, Structure, Totals


def make_candidate(family: str, size: int) -> Candidate:
    """A candidate with `size` million multiply-adds of plain convolution; latency follows as `size` ms."""
    work = size * 1_000_000
    total = Totals(
        kind=OperationKind.CONV,
        count=10,
        multiply_adds=work,
        blocked_multiply_adds=work,
        window_pixels=0,
        read_bytes=0,
        written_bytes=0,
        weights_bytes=work // 10,
        sublinear_work=work**0.75,
    )
    structure = Structure(parameters=work // 40, multiply_adds=work, activation_bytes=4096, totals=(total,))
    return Candidate(spec=StudentSpec(family=family, width=size / 10, depth=1.0, resolution=16), structure=structure)


@pytest.fixture
def candidates() -> list[Candidate]:
    """Three families of 12 sizes: 1 to 12 ms."""
    return [make_candidate(family, size) for family in ("a", "b", "c") for size in range(1, 13)]


def lawful(ms_of_a_million: float, basis: str) -> LatencyModel:
    """A latency model that knows the law and missed none of 24 rows."""
    coefficients = tuple(ms_of_a_million / 1e6 if name == "multiply_adds" else 0.0 for name in FEATURE_NAMES)
    law = Law(coefficients=coefficients, left_out=(coefficients,) * 24, floor=0.01)
    trust = Trust(log_residuals=(0.0,) * 24, least_spread=0.01, size_range=(1e6, 12e6))
    return LatencyModel(law=law, trust=trust, basis=basis)


@pytest.fixture
def exact() -> LatencyModel:
    """1 ms a million multiply-adds."""
    return lawful(1.0, "24 measured models")


@pytest.fixture
def halved() -> LatencyModel:
    """Half of that."""
    return lawful(0.5, "halved")


@pytest.fixture
def doubtful(candidates: Sequence[Candidate]) -> LatencyModel:
    """One that is off by a third now and then, and so is sure of nothing near a budget."""
    misses = (0.65, 1.0, 1.5, 1.2, 0.8, 1.0)
    rows = [Row(c.structure, c.multiply_adds / 1e6 * misses[number % 6]) for number, c in enumerate(candidates[:15])]
    return LatencyModel.fit(rows)
