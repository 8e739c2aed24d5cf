"""The latency model on laws that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from structures import SIZES, law, matrix_of, rows, structure_of_totals, structure_with, structures, total

from edgedistill.devices.latency.features import (
    ALIKE,
    CONSTANT,
    FEATURE_NAMES,
    MULTIPLY_ADDS,
    features_by_kind,
    features_of,
)
from edgedistill.devices.latency.law import PROMISED, Law
from edgedistill.devices.latency.model import RIDGE, LatencyModel, Row, choose_probes, prior_from_published
from edgedistill.documents.specs import Format, Precision, PublishedLatency, Target
from edgedistill.networks.structure import OperationKind, Structure


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_a_linear_law_is_recovered(seed: int) -> None:
    """From rows enough to outweigh the ridge."""
    seen, fresh = matrix_of(structures(500, seed)), matrix_of(structures(50, seed + 1))
    truth = law(seed)
    found = Law.fit(seen, seen @ truth, RIDGE, ALIKE)
    assert np.median([abs(found.estimate(x) / (x @ truth) - 1) for x in fresh]) < 0.01
    assert all(c >= 0 for c in found.coefficients)


@pytest.mark.parametrize("count", [8, 12, 28])
def test_few_rows_give_an_estimate_worth_having(count: int) -> None:
    errors = []
    for seed in range(10):
        model, fresh = lawful(count, seed), structures(30, seed + 100)
        errors += [abs(model.predict(x).value / y - 1) for x, y in zip(fresh, matrix_of(fresh) @ law(seed))]
    assert np.median(errors) < {8: 0.25, 12: 0.2, 28: 0.12}[count]


def test_work_that_the_rows_hardly_have_is_not_believed_to_cost_multiples() -> None:
    """Convolutional networks with one tiny classifier each, then a network of linear layers."""
    matrix = matrix_of(structures(20, 3))
    linear_sublinear = FEATURE_NAMES.index("linear_sublinear")
    matrix[:, linear_sublinear] = 300
    seen = [structure_with(vector) for vector in matrix]
    model = LatencyModel.fit(rows(seen, matrix @ law(3)))
    linear = matrix[0].copy()
    linear[linear_sublinear], linear[:linear_sublinear] = linear[:linear_sublinear].sum(), 0
    estimate = model.predict(structure_with(linear)).value
    assert estimate < 4 * model.predict(seen[0]).value


def test_the_interval_covers_as_it_says() -> None:
    hits, widths = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = structures(25 + 40, seed)
        latencies = (matrix_of(found) @ law(seed)) * np.exp(rng.normal(0, 0.08, len(found)))
        model = LatencyModel.fit(rows(found[:25], latencies[:25]))
        for x, y in zip(found[25:], latencies[25:], strict=True):
            prediction = model.predict(x)
            assert model.calibrated
            hits.append(prediction.low <= y <= prediction.high)
            widths.append(prediction.high / prediction.low)
    assert PROMISED <= np.mean(hits) <= 1
    assert np.median(widths) < 2.5


def test_left_out_residuals_are_of_models_that_never_saw_the_row() -> None:
    seen = structures(12, 3)
    latencies = (matrix_of(seen) @ law(3)) * np.exp(np.random.default_rng(3).normal(0, 0.1, 12))
    all_rows = rows(seen, latencies)
    model = LatencyModel.fit(all_rows)
    for left_out in (0, 7, 11):
        without = LatencyModel.fit(all_rows[:left_out] + all_rows[left_out + 1 :])
        expected = math.log(latencies[left_out] / without.predict(seen[left_out]).value)
        assert model.trust.log_residuals[left_out] == pytest.approx(expected)
        assert model.law.left_out[left_out] == pytest.approx(without.law.coefficients)


def lawful(count: int, seed: int) -> LatencyModel:
    """Fitted to latencies that are a linear law."""
    seen = structures(count, seed)
    return LatencyModel.fit(rows(seen, matrix_of(seen) @ law(seed)))


@given(st.integers(3, 24), st.integers(0, 10_000))
@settings(max_examples=40)
def test_predictions_are_positive_finite_and_inside_their_interval(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = LatencyModel.fit(rows(structures(count, seed), np.exp(rng.normal(0, 2, count))))
    nothing = Structure(parameters=0, multiply_adds=0, activation_bytes=0, totals=())
    for x in [*structures(5, seed + 1), nothing, structure_with(SIZES * 1e4)]:
        prediction = model.predict(x)
        assert 0 < prediction.low <= prediction.value <= prediction.high < math.inf
        assert model.calibrated == (count >= 20)


@given(st.integers(3, 30), st.integers(0, 10_000), st.floats(0.01, 100), st.floats(1.0, 10))
@settings(max_examples=40)
def test_the_probability_rises_with_the_budget(count: int, seed: int, budget: float, factor: float) -> None:
    model = lawful(count, seed)
    x = structures(1, seed + 1)[0]
    lower, higher = model.probability_within(x, budget), model.probability_within(x, budget * factor)
    assert 0 <= lower <= higher <= 1
    assert model.probability_within(x, 0) == 0


def test_the_probability_is_half_at_the_prediction_and_honest_beside_it() -> None:
    seen = structures(30, 5)
    latencies = (matrix_of(seen) @ law(5)) * np.exp(np.random.default_rng(5).normal(0, 0.1, 30))
    model = LatencyModel.fit(rows(seen, latencies))
    x = seen[4]
    middle = model.predict(x).value
    assert model.probability_within(x, middle) == pytest.approx(0.5)
    assert model.probability_within(x, middle * 2) > 0.95
    assert model.probability_within(x, middle / 2) < 0.05
    spread = math.sqrt(float(np.mean(np.square(model.trust.log_residuals))) * (1 + 1 / 30))
    assert model.probability_within(x, middle * 1.1) == pytest.approx(stats.t.cdf(math.log(1.1) / spread, 29))


def test_three_rows_give_a_wide_uncalibrated_estimate() -> None:
    seen = structures(3, 8)
    latencies = matrix_of(seen) @ law(8)
    model = LatencyModel.fit(rows(seen, latencies))
    prediction = model.predict(structures(1, 9)[0])
    assert not model.calibrated
    assert prediction.high / prediction.low > 2
    assert latencies.min() / 100 <= prediction.value <= latencies.max() * 100


def test_an_estimate_beyond_what_was_seen_is_wider() -> None:
    seen = structures(30, 1)
    matrix = matrix_of(seen)
    model = LatencyModel.fit(rows(seen, matrix @ law(1)))
    largest = matrix[int(np.argmax(matrix[:, MULTIPLY_ADDS]))]
    inside, outside = model.predict(structure_with(largest)), model.predict(structure_with(largest * 10))
    assert np.log(outside.high / outside.low) > 1.2 * np.log(inside.high / inside.low)


@pytest.mark.parametrize("latencies", [[1.0, 2.0], [1.0, 2.0, 0.0], [1.0, 2.0, math.nan], [1.0, math.inf, 2.0]])
def test_too_few_or_impossible_measurements_are_refused(latencies: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needs 3 measured models|positive and finite"):
        LatencyModel.fit(rows(structures(len(latencies), 0), np.array(latencies)))


# -- kinds of operations that no row had ---------------------------------------------------------------------------

MODEL = LatencyModel.fit(rows(structures(24, 1), matrix_of(structures(24, 1)) @ law(1)))


def with_unseen(multiply_adds: float, moved: float) -> Structure:
    """One of the rows, with so much of its work and of its bytes again in kinds that no row had."""
    base = structures(24, 1)[0]
    more = [
        total(OperationKind.GROUPED, multiply_adds=multiply_adds * base.multiply_adds, count=1),
        total(OperationKind.NORMALISATION, read_bytes=moved * sum(each.read_bytes for each in base.totals)),
    ]
    return structure_of_totals([*base.totals, *more])


def half_widths(structure: Structure) -> tuple[float, float]:
    found = MODEL.predict(structure)
    return math.log(found.value / found.low), math.log(found.high / found.value)


def test_what_rows_had_the_like_of_is_not_widened() -> None:
    known = MODEL.model_copy(update={"seen": tuple(OperationKind)})
    for structure in [*structures(10, 2), with_unseen(0, 0)]:
        assert MODEL.predict(structure) == known.predict(structure)
    assert MODEL.predict(with_unseen(0.5, 0)) != known.predict(with_unseen(0.5, 0))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 3), st.floats(0.3, 3))
@settings(max_examples=60)
def test_the_more_is_unseen_the_wider_the_interval_is_and_the_less_is_sure(
    work: float, moved: float, more: float, ratio: float
) -> None:
    some, most = with_unseen(work, moved), with_unseen(work * more, moved * more)
    known = MODEL.model_copy(update={"seen": tuple(OperationKind)})
    for structure in (some, most):
        assert all(half >= 0 for half in half_widths(structure))
        sure = known.probability_within(structure, ratio * MODEL.predict(structure).value)
        unsure = MODEL.probability_within(structure, ratio * MODEL.predict(structure).value)
        assert abs(unsure - 0.5) <= abs(sure - 0.5) + 1e-9
    added = [
        [a - b for a, b in zip(half_widths(x), (math.log(k.value / k.low), math.log(k.high / k.value)))]
        for x in (some, most)
        for k in (known.predict(x),)
    ]
    assert all(less + 1e-9 >= 0 and less <= higher + 1e-9 for less, higher in zip(*added))
    share = max(work / (1 + work), moved / (1 + moved))
    assert added[0] == pytest.approx([math.log(2) * share] * 2, abs=1e-4)


@given(st.floats(0, 1), st.floats(0.01, 100), st.floats(1.0, 10))
@settings(max_examples=40)
def test_the_probability_rises_with_the_budget_where_something_is_unseen(
    work: float, budget: float, factor: float
) -> None:
    structure = with_unseen(work, 0)
    assert MODEL.probability_within(structure, budget) <= MODEL.probability_within(structure, budget * factor)


@given(st.integers(3, 24), st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_latencies_in_another_unit_give_predictions_in_that_unit(count: int, seed: int, factor: float) -> None:
    seen, fresh = structures(count, seed), structures(3, seed + 1)
    latencies = matrix_of(seen) @ law(seed)
    shares = np.random.default_rng(seed).uniform(0, 1, count)
    one, other = (
        LatencyModel.fit([Row(x, float(y) * unit, float(s)) for x, y, s in zip(seen, latencies, shares, strict=True)])
        for unit in (1.0, factor)
    )
    for x in fresh:
        before, after = one.predict(x), other.predict(x)
        ends = [before.value * factor, before.low * factor, before.high * factor]
        assert [after.value, after.low, after.high] == pytest.approx(ends, rel=1e-6)
        chances = [one.probability_within(x, 1.0), other.probability_within(x, factor)]
        assert chances[0] == pytest.approx(chances[1], abs=1e-6)


# -- what operators' times add --------------------------------------------------------------------------------------


def test_operators_times_tell_apart_what_latencies_alone_do_not() -> None:
    """Rows in which work and bytes grow alike; then a network with nothing that maps elements."""
    truth = np.zeros(len(SIZES))
    slow = FEATURE_NAMES.index("slow_bytes")
    truth[MULTIPLY_ADDS], truth[slow] = 0.2 / SIZES[MULTIPLY_ADDS], 0.8 / SIZES[slow]
    scales = np.exp(np.random.default_rng(1).uniform(-2, 2, 12))
    seen = [structure_with(SIZES * scale) for scale in scales]
    latencies = matrix_of(seen) @ truth
    share = [
        sum(float(v @ truth) for kind, v in features_by_kind(x).items() if kind.multiplies) / y
        for x, y in zip(seen, latencies, strict=True)
    ]
    plain = SIZES.copy()
    plain[[slow, FEATURE_NAMES.index("elementwise_bytes")]] = 0
    expected = float(plain @ truth)
    without = LatencyModel.fit(rows(seen, latencies)).predict(structure_with(plain)).value
    told = [Row(x, float(y), s) for x, y, s in zip(seen, latencies, share, strict=True)]
    with_times = LatencyModel.fit(told).predict(structure_with(plain)).value
    assert abs(math.log(with_times / expected)) < 0.5 * abs(math.log(without / expected))
    partly = LatencyModel.fit([*told[:6], *rows(seen[6:], latencies[6:])])
    assert partly.predict(structure_with(plain)).value < without


# -- where the time goes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 12, 40])
def test_contributions_add_up_to_the_estimate(count: int) -> None:
    model = lawful(count, 6)
    for x in structures(5, 7):
        parts = model.contributions(x)
        assert sum(p.latency_ms for p in parts) == pytest.approx(model.predict(x).value)
        assert [p.latency_ms for p in parts] == sorted((p.latency_ms for p in parts), reverse=True)
        assert all(p.latency_ms > 0 for p in parts)


def test_a_contribution_is_what_the_law_takes_for_that_kind() -> None:
    # So many rows that the ridge, which shares out among alike columns, hardly counts.
    seen, truth = structures(500, 1), np.zeros(len(SIZES))
    depthwise, slow = FEATURE_NAMES.index("depthwise_sublinear"), FEATURE_NAMES.index("slow_bytes")
    truth[depthwise], truth[slow] = 2e-5, 1e-5
    model = LatencyModel.fit(rows(seen, matrix_of(seen) @ truth))
    x = seen[3]
    parts = {part.kind: part.latency_ms for part in model.contributions(x)}
    vector = features_of(x)
    assert parts[OperationKind.DEPTHWISE] == pytest.approx(2e-5 * vector[depthwise], rel=0.1)
    assert parts[OperationKind.TRANSCENDENTAL] == pytest.approx(1e-5 * vector[slow], rel=0.1)


def test_a_network_of_nothing_costs_what_a_run_costs() -> None:
    nothing = Structure(parameters=0, multiply_adds=0, activation_bytes=0, totals=())
    model = lawful(12, 3)
    (part,) = model.contributions(nothing)
    assert part.kind is None
    assert part.latency_ms == pytest.approx(model.predict(nothing).value)


# -- published figures ------------------------------------------------------------------------------------------


def published(points: Sequence[tuple[str, Precision, float, float]]) -> Target:
    figures = tuple(
        PublishedLatency(model=m, precision=p, multiply_adds=work, latency_ms=ms, source="paper, table 5")
        for m, p, work, ms in points
    )
    return Target(
        name="phone",
        title="Phone",
        runtime=Format.COREML,
        formats=(Format.COREML,),
        precisions=(Precision.FP16, Precision.INT8),
        transport="none",
        published=figures,
    )


def with_work(multiply_adds: float) -> Structure:
    vector = SIZES.copy()
    vector[MULTIPLY_ADDS] = multiply_adds
    return structure_with(vector)


def test_nothing_published_is_no_prior() -> None:
    assert prior_from_published(published([])) == {}


def test_published_figures_give_a_line_with_a_wide_interval_that_names_its_sources() -> None:
    points = [("S", 0.2e9, 0.6), ("M", 0.9e9, 1.1), ("L", 2.2e9, 3.0)]
    ((precision, prior),) = prior_from_published(
        published([(m, Precision.FP16, work, ms) for m, work, ms in points])
    ).items()
    assert precision is Precision.FP16
    for _, work, latency in points:
        prediction = prior.predict(with_work(work))
        assert prediction.value == pytest.approx(latency, rel=0.45)
        assert prediction.low <= latency <= prediction.high
        assert prediction.high / prediction.low > 4
    assert not prior.calibrated
    assert "3 published figures at fp16" in prior.basis
    assert "S (paper, table 5)" in prior.basis


def test_many_published_figures_are_still_not_calibrated() -> None:
    points = [(str(i), Precision.INT8, 1e8 * i, 0.1 * i) for i in range(1, 31)]
    prior = prior_from_published(published(points))[Precision.INT8]
    assert not prior.calibrated


def test_precisions_are_not_mixed_and_one_figure_is_enough() -> None:
    ((precision, prior),) = prior_from_published(
        published([("S", Precision.FP32, 0.2e9, 9.0), ("S", Precision.FP16, 0.2e9, 0.6)]),
    ).items()
    assert precision is Precision.FP16
    prediction = prior.predict(with_work(0.2e9))
    assert prediction.value == pytest.approx(0.6, rel=0.05)
    assert prediction.high / prediction.low > 10
    assert prior.probability_within(with_work(0.2e9), 0.01) < 0.05


def test_a_prior_widens_far_below_what_was_published() -> None:
    figures = published([("S", Precision.FP16, 0.2e9, 0.6), ("M", Precision.FP16, 0.9e9, 1.1)])
    prior = prior_from_published(figures)[Precision.FP16]
    near, far = prior.predict(with_work(0.3e9)), prior.predict(with_work(1e6))
    assert far.high / far.low > 10 * near.high / near.low


# -- probes -----------------------------------------------------------------------------------------------------


def distance_to_nearest(found: Sequence[Structure], indices: Sequence[int]) -> float:
    """Mean over all structures of the distance to the nearest of those chosen."""
    logs = np.log1p(matrix_of(found))
    varying = logs.std(axis=0) > 1e-9
    scaled = (logs[:, varying] - logs[:, varying].mean(axis=0)) / logs[:, varying].std(axis=0)
    chosen = scaled[list(indices)]
    return float(np.linalg.norm(scaled[:, None] - chosen[None], axis=2).min(axis=1).mean())


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 10_000))
@settings(max_examples=40)
def test_probes_are_distinct_and_as_many_as_asked_for(candidates: int, count: int, seed: int) -> None:
    chosen = choose_probes(structures(candidates, seed), count)
    assert len(chosen) == len(set(chosen)) == min(count, candidates)
    assert all(0 <= index < candidates for index in chosen)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_all_others_are_nearer_to_probes_than_to_random_ones(count: int) -> None:
    """In nine spaces of ten nearer than to nine random choices of ten, and in none farther than to half of them."""
    best = 0
    for seed in range(40):
        found, rng = structures(80, seed), np.random.default_rng(seed)
        random = [distance_to_nearest(found, rng.choice(80, count, replace=False)) for _ in range(30)]
        chosen = distance_to_nearest(found, choose_probes(found, count))
        assert chosen < np.median(random)
        best += bool(chosen < np.quantile(random, 0.1))
    assert best >= 36


def test_a_large_space_is_stood_for_by_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = structures(200, 5)
    exact = distance_to_nearest(found, choose_probes(found, 10))
    monkeypatch.setattr("edgedistill.devices.latency.model.STAND_FOR", 70)
    assert distance_to_nearest(found, choose_probes(found, 10)) < 1.15 * exact


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_fewer_probes_are_the_first_of_more(seed: int) -> None:
    found = structures(40, seed)
    assert choose_probes(found, 12)[:5] == choose_probes(found, 5)


def test_probes_of_nothing_are_none() -> None:
    assert choose_probes([], 5) == ()


def test_the_structures_here_have_the_features_they_were_made_from() -> None:
    vector = features_of(structure_with(SIZES))
    assert vector == pytest.approx(SIZES)
    assert vector[CONSTANT] == 1
