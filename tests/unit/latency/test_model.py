"""The latency model on laws that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedistill.latency.features import CONSTANT, FEATURE_NAMES, PLAIN, FloatArray
from edgedistill.latency.model import RICH_ROWS, LatencyModel, Row, choose_probes, prior_from_published
from edgedistill.specs import Format, Precision, PublishedLatency, Target

SIZES = np.array(
    [8e6, 5e6, 1e6, 5e5, 4e3, 1e5, 1.5e6, 4e5, 3e6, 4e4, 2e4, 30, 3, 1, 2e4, 1e4, 4e5, 3e5, 9e4, 6e4, 2e3, 2e4, 1e4]
)
HEAVY_COUNT = FEATURE_NAMES.index("heavy_count")


def vectors(count: int, seed: int) -> FloatArray:
    """Networks of a made-up space: a common scale, as width and resolution give, and a mixture of their own."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(-2, 2, (count, 1)))
    matrix = SIZES * scale * np.exp(rng.normal(0, 0.7, (count, len(SIZES))))
    matrix[:, CONSTANT] = 1
    matrix[:, HEAVY_COUNT] = np.round(matrix[:, HEAVY_COUNT] / scale[:, 0]) + 5
    return matrix


def law(seed: int, rich: bool = False) -> FloatArray:
    """Non-negative cost of each feature in ms; those beyond the plain ones cost nothing unless `rich`."""
    rng = np.random.default_rng(seed)
    result: FloatArray = np.exp(rng.normal(0, 0.5, len(SIZES))) / SIZES / len(SIZES)
    if not rich:
        result[PLAIN.stop :] = 0.0
    return result


def rows(matrix: FloatArray, latencies: FloatArray) -> list[Row]:
    return [Row(x, float(y)) for x, y in zip(matrix, latencies, strict=True)]


@pytest.mark.parametrize(("count", "rich"), [(28, False), (250, True)])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_linear_law_is_recovered(count: int, rich: bool, seed: int) -> None:
    """The plain features' from few rows; that of all of them from rows enough to outweigh the ridge."""
    matrix, truth = vectors(count, seed), law(seed, rich)
    model = LatencyModel.fit(rows(matrix, matrix @ truth))
    fresh = vectors(50, seed + 1)
    errors = [abs(model.predict(x).latency_ms / (x @ truth) - 1) for x in fresh]
    assert np.median(errors) < 0.01
    assert all(c >= 0 for c in model.coefficients)


def test_few_rows_leave_the_further_features_alone_and_many_learn_them() -> None:
    matrix, truth = vectors(RICH_ROWS, 5), law(5, rich=True)
    latencies = matrix @ truth
    few = LatencyModel.fit(rows(matrix[:-1], latencies[:-1])).coefficients
    many = LatencyModel.fit(rows(matrix, latencies)).coefficients
    assert not any(few[PLAIN.stop :]) and any(many[PLAIN.stop :])


def test_a_ridge_does_not_make_estimates_low() -> None:
    for count in (12, 40):
        matrix, truth = vectors(count, 8), law(8, rich=count >= RICH_ROWS)
        model = LatencyModel.fit(rows(matrix, matrix @ truth))
        ratios = [model.predict(x).latency_ms / (x @ truth) for x in matrix]
        assert np.median(ratios) == pytest.approx(1, abs=1e-9)


def test_the_interval_covers_as_it_says() -> None:
    hits, widths = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        matrix = vectors(25 + 40, seed)
        latencies = (matrix @ law(seed)) * np.exp(rng.normal(0, 0.08, len(matrix)))
        model = LatencyModel.fit(rows(matrix[:25], latencies[:25]))
        for x, y in zip(matrix[25:], latencies[25:], strict=True):
            prediction = model.predict(x)
            assert prediction.calibrated
            hits.append(prediction.low_ms <= y <= prediction.high_ms)
            widths.append(prediction.high_ms / prediction.low_ms)
    assert 0.93 <= np.mean(hits) <= 1
    assert np.median(widths) < 2.5


def test_left_out_residuals_are_of_models_that_never_saw_the_row() -> None:
    matrix = vectors(12, 3)
    latencies = (matrix @ law(3)) * np.exp(np.random.default_rng(3).normal(0, 0.1, 12))
    model = LatencyModel.fit(rows(matrix, latencies))
    for left_out in (0, 7, 11):
        keep = np.arange(12) != left_out
        without = LatencyModel.fit(rows(matrix[keep], latencies[keep]))
        expected = math.log(latencies[left_out] / float(matrix[left_out] @ without.coefficients))
        assert model.log_residuals[left_out] == pytest.approx(expected)
        assert model.left_out[left_out] == pytest.approx(without.coefficients)


@given(st.integers(3, 24), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_predictions_are_positive_finite_and_inside_their_interval(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = vectors(count, seed)
    model = LatencyModel.fit(rows(matrix, np.exp(rng.normal(0, 2, count))))
    for x in [*vectors(5, seed + 1), np.zeros(len(SIZES)), SIZES * 1e4]:
        prediction = model.predict(x)
        assert 0 < prediction.low_ms <= prediction.latency_ms <= prediction.high_ms < math.inf
        assert prediction.calibrated == (count >= 20)


@given(st.integers(3, 30), st.integers(0, 10_000), st.floats(0.01, 100), st.floats(1.0, 10))
@settings(max_examples=40, deadline=None)
def test_the_probability_rises_with_the_budget(count: int, seed: int, budget: float, factor: float) -> None:
    matrix = vectors(count, seed)
    model = LatencyModel.fit(rows(matrix, matrix @ law(seed)))
    x = vectors(1, seed + 1)[0]
    lower, higher = model.probability_within(x, budget), model.probability_within(x, budget * factor)
    assert 0 <= lower <= higher <= 1
    assert model.probability_within(x, 0) == 0


def test_the_probability_is_half_at_the_prediction_and_honest_beside_it() -> None:
    matrix = vectors(30, 5)
    latencies = (matrix @ law(5)) * np.exp(np.random.default_rng(5).normal(0, 0.1, 30))
    model = LatencyModel.fit(rows(matrix, latencies))
    x = matrix[4]
    middle = model.predict(x).latency_ms
    assert model.probability_within(x, middle) == pytest.approx(0.5)
    assert model.probability_within(x, middle * 2) > 0.95
    assert model.probability_within(x, middle / 2) < 0.05
    spread = math.sqrt(float(np.mean(np.square(model.log_residuals))) * (1 + 1 / 30))
    assert model.probability_within(x, middle * 1.1) == pytest.approx(stats.t.cdf(math.log(1.1) / spread, 29))


def test_three_rows_give_a_wide_uncalibrated_estimate() -> None:
    matrix = vectors(3, 8)
    latencies = matrix @ law(8)
    prediction = LatencyModel.fit(rows(matrix, latencies)).predict(vectors(1, 9)[0])
    assert not prediction.calibrated
    assert prediction.high_ms / prediction.low_ms > 2
    assert latencies.min() / 100 <= prediction.latency_ms <= latencies.max() * 100


def test_an_estimate_beyond_what_was_seen_is_wider() -> None:
    matrix = vectors(30, 1)
    model = LatencyModel.fit(rows(matrix, matrix @ law(1)))
    x = matrix[int(np.argmax(matrix[:, :6].sum(axis=1)))]
    inside, outside = model.predict(x), model.predict(x * 10)
    assert np.log(outside.high_ms / outside.low_ms) > 1.2 * np.log(inside.high_ms / inside.low_ms)


@pytest.mark.parametrize("latencies", [[1.0, 2.0], [1.0, 2.0, 0.0], [1.0, 2.0, math.nan], [1.0, math.inf, 2.0]])
def test_too_few_or_impossible_measurements_are_refused(latencies: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needs 3 measured models|positive and finite"):
        LatencyModel.fit(rows(vectors(len(latencies), 0), np.array(latencies)))


def test_json_loses_nothing() -> None:
    matrix = vectors(21, 2)
    model = LatencyModel.fit(rows(matrix, matrix @ law(2)), basis="21 models on a bench")
    again = LatencyModel.from_json(model.to_json())
    assert again == model
    assert again.predict(matrix[0]) == model.predict(matrix[0])


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


def vector_with(multiply_adds: float) -> FloatArray:
    vector = SIZES.copy()
    vector[:6] *= multiply_adds / vector[:6].sum()
    return vector


def test_nothing_published_is_no_prior() -> None:
    assert prior_from_published(published([])) is None


def test_published_figures_give_a_line_with_a_wide_interval_that_names_its_sources() -> None:
    points = [("S", 0.2e9, 0.6), ("M", 0.9e9, 1.1), ("L", 2.2e9, 3.0)]
    prior = prior_from_published(published([(m, Precision.FP16, work, ms) for m, work, ms in points]))
    assert prior is not None
    assert prior.precision is Precision.FP16
    for _, work, latency in points:
        prediction = prior.model.predict(vector_with(work))
        assert prediction.latency_ms == pytest.approx(latency, rel=0.45)
        assert prediction.low_ms <= latency <= prediction.high_ms
        assert prediction.high_ms / prediction.low_ms > 4
        assert not prediction.calibrated
    assert "3 published figures at fp16" in prior.model.basis
    assert "S (paper, table 5)" in prior.model.basis


def test_many_published_figures_are_still_not_calibrated() -> None:
    points = [(str(i), Precision.INT8, 1e8 * i, 0.1 * i) for i in range(1, 31)]
    prior = prior_from_published(published(points))
    assert prior is not None
    assert not prior.model.predict(vector_with(1e9)).calibrated


def test_precisions_are_not_mixed_and_one_figure_is_enough() -> None:
    prior = prior_from_published(
        published([("S", Precision.FP32, 0.2e9, 9.0), ("S", Precision.FP16, 0.2e9, 0.6)]),
    )
    assert prior is not None
    assert prior.precision is Precision.FP16
    prediction = prior.model.predict(vector_with(0.2e9))
    assert prediction.latency_ms == pytest.approx(0.6, rel=0.05)
    assert prediction.high_ms / prediction.low_ms > 10
    assert prior.model.probability_within(vector_with(0.2e9), 0.01) < 0.05


def test_a_prior_widens_far_below_what_was_published() -> None:
    prior = prior_from_published(published([("S", Precision.FP16, 0.2e9, 0.6), ("M", Precision.FP16, 0.9e9, 1.1)]))
    assert prior is not None
    near, far = prior.model.predict(vector_with(0.3e9)), prior.model.predict(vector_with(1e6))
    assert far.high_ms / far.low_ms > 10 * near.high_ms / near.low_ms


# -- probes -----------------------------------------------------------------------------------------------------


def log_determinant(matrix: FloatArray, indices: Sequence[int]) -> float:
    logs = np.log1p(matrix)[:, PLAIN]
    varying = logs.std(axis=0) > 1e-9
    scaled = (logs[:, varying] - logs[:, varying].mean(axis=0)) / logs[:, varying].std(axis=0)
    chosen = np.column_stack([scaled, np.ones(len(scaled))])[list(indices)]
    return float(np.linalg.slogdet(chosen.T @ chosen + 1e-3 * np.eye(chosen.shape[1]))[1])


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_probes_are_distinct_and_as_many_as_asked_for(candidates: int, count: int, seed: int) -> None:
    chosen = choose_probes(vectors(candidates, seed), count)
    assert len(chosen) == len(set(chosen)) == min(count, candidates)
    assert all(0 <= index < candidates for index in chosen)


@given(st.integers(3, 25), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_probes_tell_more_than_random_ones(count: int, seed: int) -> None:
    matrix = vectors(80, seed)
    rng = np.random.default_rng(seed)
    random = [log_determinant(matrix, rng.choice(80, count, replace=False)) for _ in range(30)]
    assert log_determinant(matrix, choose_probes(matrix, count)) > max(random)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_fewer_probes_are_the_first_of_more(seed: int) -> None:
    matrix = vectors(40, seed)
    assume(len(matrix) > 12)
    assert choose_probes(matrix, 12)[:5] == choose_probes(matrix, 5)


def test_probes_of_nothing_are_none() -> None:
    assert choose_probes([], 5) == ()


def test_the_vectors_here_have_the_shape_of_features() -> None:
    assert len(SIZES) == len(FEATURE_NAMES)
