"""Expectations of files: a limit on bytes or memory lowers the chance of those that are likely to break it."""

from __future__ import annotations

from made_up_lab import made_candidate

from edgedistill.devices.latency.model import Row
from edgedistill.documents.specs import Percentile, Precision
from edgedistill.selection.expectations import Aim, Measurements, Prospect
from edgedistill.selection.propose import propose

SPACE = [made_candidate("resnet", 0.1 * n, 100_000 * n) for n in range(1, 13)]


def measured(size: bool = True) -> Measurements:
    found = Measurements()
    for candidate in SPACE[::2]:
        weights = candidate.structure.weights_bytes
        latency_ms = candidate.multiply_adds / 100_000
        row = Row(candidate.structure, latency_ms)
        found.add(row, Precision.INT8, weights // 4 + 500 if size else None, weights + 2_000_000)
    return found


def test_nothing_is_expected_of_a_precision_that_was_hardly_measured() -> None:
    found = Measurements()
    for candidate in SPACE[:2]:
        found.add(Row(candidate.structure, 1.0), Precision.FP32, 100, 100)
    assert found.expectations() == {} and found.fewest([Precision.FP32]) == 2


def test_a_precision_that_was_not_measured_counts_as_none_known() -> None:
    assert measured().fewest([Precision.INT8]) == 6
    assert measured().fewest([Precision.INT8, Precision.FP32]) == 0


def test_a_limit_on_bytes_decides_where_latency_would_not() -> None:
    (model,) = measured().expectations().values()
    aim = Aim(limit_ms=100.0, percentile=Percentile.P95)
    sizes = [c.structure.weights_bytes // 4 + 500 for c in SPACE]
    tight = Aim(limit_ms=100.0, percentile=Percentile.P95, max_bytes=sizes[5])
    assert min(model.probability(c.structure, aim) for c in SPACE) > 0.9
    assert model.probability(SPACE[2].structure, tight) > 0.9
    assert model.probability(SPACE[10].structure, tight) < 0.05


def test_a_limit_on_memory_decides_too() -> None:
    (model,) = measured().expectations().values()
    tight = Aim(limit_ms=100.0, percentile=Percentile.P95, max_memory_bytes=1_500_000)
    assert max(model.probability(c.structure, tight) for c in SPACE) < 0.05


def test_what_is_not_known_rules_nothing_out() -> None:
    (model,) = measured(size=False).expectations().values()
    tight = Aim(limit_ms=100.0, percentile=Percentile.P95, max_bytes=1)
    assert model.size is None and model.probability(SPACE[0].structure, tight) > 0.9


def test_what_breaks_a_limit_is_not_proposed() -> None:
    sizes = [c.structure.weights_bytes // 4 + 500 for c in SPACE]
    tight = Aim(limit_ms=100.0, percentile=Percentile.P95, max_bytes=sizes[5])
    found = propose(SPACE, [Prospect("d", tight, measured().expectations())], count=20)
    assert found and max(p.candidate.multiply_adds for p in found) <= SPACE[7].multiply_adds
    loose = propose(SPACE, [Prospect("d", Aim(100.0, Percentile.P95), measured().expectations())], count=20)
    assert len(loose) == len(SPACE) > len(found)
