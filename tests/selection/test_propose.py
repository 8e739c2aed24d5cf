"""Proposals: dealt over the families, never a thing tried before, straddling the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.devices.latency.model import LatencyModel
from edgedistill.documents.measurements import PredictedLatency, UnknownLatency
from edgedistill.documents.specs import Percentile, Precision
from edgedistill.networks.space import Candidate
from edgedistill.selection.expectations import Aim, Expectation, Expectations, Prospect
from edgedistill.selection.propose import MIN_PROBABILITY, Proposal, _spread, assess, fastest, propose

FP32, INT8 = Precision.FP32, Precision.INT8


def on(limit_ms: float, models: Expectations, device: str = "d") -> Prospect:
    return Prospect(device, Aim(limit_ms, Percentile.P95), models)


def sizes(proposals: Sequence[Proposal], family: str) -> list[int]:
    return [p.candidate.multiply_adds // 10**6 for p in proposals if p.candidate.spec.family == family]


@given(limit=st.floats(0.1, 20), count=st.integers(1, 40), known=st.booleans(), data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_always_holds(
    candidates: list[Candidate], doubtful: LatencyModel, limit: float, count: int, known: bool, data: st.DataObject
) -> None:
    tried = set(data.draw(st.lists(st.sampled_from([c.spec for c in candidates]), max_size=20)))
    models = {FP32: Expectation(doubtful)} if known else {}
    fresh = [c for c in candidates if c.spec not in tried]
    found = propose(fresh, [on(limit, models)], count=count)
    specs = [p.candidate.spec for p in found]
    assert len(set(specs)) == len(specs) <= count
    assert not tried & set(specs)
    assert all(p.probability is None or p.probability > MIN_PROBABILITY for p in found)
    # All that have a chance are proposed where there is room, and dealt one a family in each round.
    able = [c for c in fresh if not known or (assess(c, [on(limit, models)]).probability or 0) > MIN_PROBABILITY]
    assert len(found) == min(count, len(able))
    available = Counter(c.spec.family for c in able)
    dealt = Counter(p.candidate.spec.family for p in found)
    for family, number in dealt.items():
        assert all(dealt[other] >= min(number - 1, available[other]) for other in available), (family, dealt)


def test_the_first_of_each_family_is_the_largest_that_surely_fits(
    candidates: list[Candidate], exact: LatencyModel
) -> None:
    found = propose(candidates, [on(6.5, {FP32: Expectation(exact)})], count=3)
    assert [p.candidate.spec.family for p in found] == ["a", "b", "c"]
    assert {p.candidate.multiply_adds for p in found} == {6_000_000}
    assert all((p.probability or 0) > 0.9 for p in found)


def test_what_surely_does_not_fit_is_not_proposed(candidates: list[Candidate], exact: LatencyModel) -> None:
    found = propose(candidates, [on(6.5, {FP32: Expectation(exact)})], count=100)
    assert max(p.candidate.multiply_adds for p in found) == 6_000_000
    assert propose(candidates, [on(0.01, {FP32: Expectation(exact)})], count=100) == ()


def test_a_batch_straddles_the_aim(candidates: list[Candidate], doubtful: LatencyModel) -> None:
    """Where the model is in doubt the batch holds students on both sides of its best guess, none beside another."""
    found = propose(candidates, [on(6, {FP32: Expectation(doubtful)})], count=9)
    for family in ("a", "b", "c"):
        chosen = sizes(found, family)
        assert len(chosen) == 3
        assert min(chosen) < 6 < max(chosen), chosen
        first, second, _ = chosen
        assert abs(first - second) > 1, chosen


def test_the_precision_with_the_best_chance_is_the_one_predicted(
    candidates: list[Candidate], exact: LatencyModel, halved: LatencyModel
) -> None:
    models = {FP32: Expectation(exact), INT8: Expectation(halved)}
    proposal = assess(candidates[5], [on(4, models, "board")])
    predicted = proposal.predicted["board"]
    assert isinstance(predicted, PredictedLatency)
    assert predicted.latency_ms == pytest.approx(3, rel=0.02)
    assert predicted.low_ms <= predicted.latency_ms <= predicted.high_ms
    assert (predicted.precision, predicted.basis) == (INT8, "halved")
    assert predicted.percentile is Percentile.P95
    assert predicted.device == "board"


def test_on_several_targets_a_candidate_has_to_fit_all(candidates: list[Candidate], exact: LatencyModel) -> None:
    models = {FP32: Expectation(exact)}
    wide, narrow = on(9.5, models, "wide"), on(4.5, models, "narrow")
    found = propose(candidates, [wide, narrow], count=100)
    assert max(p.candidate.multiply_adds for p in found) == 4_000_000
    three = assess(candidates[2], [wide, narrow])
    assert set(three.predicted) == {"wide", "narrow"}
    for prospects in ([wide], [narrow]):
        assert (three.probability or 0) <= (assess(candidates[2], prospects).probability or 0)
    # Of an unknown target nothing rules a candidate out, and nothing speaks for it.
    unknown = assess(candidates[2], [narrow, on(0.001, {}, "unknown")])
    assert unknown.probability == assess(candidates[2], [narrow]).probability
    assert isinstance(unknown.predicted["unknown"], UnknownLatency)


def test_the_fastest_are_those_with_the_smallest_share_of_the_tightest_budget(
    candidates: list[Candidate], exact: LatencyModel
) -> None:
    wide, narrow = on(100.0, {FP32: Expectation(exact)}, "wide"), on(0.1, {FP32: Expectation(exact)}, "narrow")
    found = fastest(candidates, [wide, narrow], count=3)
    assert {p.candidate.multiply_adds for p in found} == {1_000_000}


def test_where_nothing_is_known_the_latency_is_unknown(candidates: list[Candidate]) -> None:
    found = propose(candidates, [on(5, {}, "board")], count=6)
    assert [p.candidate.spec.family for p in found] == ["a", "b", "c"] * 2
    assert all(p.probability is None for p in found)
    assert all(isinstance(p.predicted["board"], UnknownLatency) for p in found)
    assert sizes(found, "a")[0] == 12, "with nothing to go by the largest comes first"


def test_the_fastest_come_by_prediction_whatever_their_chance(candidates: list[Candidate], exact: LatencyModel) -> None:
    found = fastest(candidates[1:], [on(0.001, {FP32: Expectation(exact)})], count=4)
    assert [p.candidate.spec.label for p in found[:2]] == ["b w0.1 d1 @16", "c w0.1 d1 @16"]
    assert [p.candidate.multiply_adds // 10**6 for p in found] == [1, 1, 2, 2]
    assert all((p.probability or 0) < MIN_PROBABILITY for p in found)
    unknown = fastest(candidates, [on(0.001, {})], count=3)
    assert {p.candidate.multiply_adds for p in unknown} == {1_000_000}


def spread(members: Sequence[Proposal]) -> list[Proposal]:
    """The order inside one family from its definition: each time the largest product of chance, size, and a discount that
    is the distance to the nearest size dealt before, from a quarter of the range on none."""
    sizes = {id(p): (rank + 1) / max(len(members), 2) for rank, p in enumerate(members)}
    order: list[Proposal] = []

    def worth(p: Proposal) -> float:
        nearest = min((abs(sizes[id(p)] - sizes[id(dealt)]) for dealt in order), default=1.0)
        return (1.0 if p.probability is None else p.probability) * sizes[id(p)] * min(1.0, 4 * nearest)

    while len(order) < len(members):
        order.append(max((p for p in members if not any(p is dealt for dealt in order)), key=worth))
    return order


@given(chances=st.lists(st.none() | st.sampled_from([0.5, 1.0]) | st.floats(0.02, 1), max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_family_is_dealt_in_the_order_of_its_definition(
    candidates: list[Candidate], chances: list[float | None]
) -> None:
    unknown = UnknownLatency(reason="not measured", device="d")
    members = [Proposal(candidate, {"d": unknown}, chance) for candidate, chance in zip(candidates, chances)]
    assert [id(p) for p in _spread(members)] == [id(p) for p in spread(members)]
