"""What another budget would give: measured where measured, marked where not."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.artifacts import MeasuredLatency, Verified
from edgedistill.errors import InputError
from edgedistill.explanation.budgets import INTERPOLATE_WITHIN, answer_budget, measured_steps, other_budgets
from edgedistill.explanation.words import answer_sentences, budget_rows
from edgedistill.results import AccuracyLimit, BuildResult, SizeLimit
from edgedistill.specs import Objective, Percentile


def test_the_steps_are_the_builds_frontier(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    steps = other_budgets(result).measured
    shown = [(s.trial, s.precision, s.latency_ms, s.accuracy_validation) for s in steps]
    assert shown == [(p.trial, p.precision, p.latency_ms, p.accuracy_validation) for p in result.frontier]
    assert [s.trial for s in steps if not s.trained_out] == [7, 7]


def test_what_breaks_another_limit_is_no_step(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    size = SizeLimit(limit_bytes=400_000, bytes=318_834, kept=True)
    accuracy = AccuracyLimit(limit=0.97, accuracy_validation=0.974, kept=True)
    steps = other_budgets(result.model_copy(update={"constraints": (*result.constraints, size, accuracy)})).measured
    assert [(s.trial, s.precision) for s in steps] == [(6, "int8"), (7, "int8")]


def test_a_line_lies_between_its_students_and_both_were_trained_to_the_end(realistic: ModuleType) -> None:
    lines = other_budgets(realistic.make_result()).interpolated
    assert lines
    for line in lines:
        left, right = line.between
        assert left.trained_out and right.trained_out
        assert left.trial != right.trial, "one student in two precisions has nothing in between"
        assert left.latency_ms < line.latency_ms < right.latency_ms <= INTERPOLATE_WITHIN * left.latency_ms
        assert line.latency_ms == pytest.approx(math.sqrt(left.latency_ms * right.latency_ms))
        middle = (left.accuracy_validation + right.accuracy_validation) / 2
        assert line.accuracy_validation == pytest.approx(middle)


def test_students_far_apart_have_no_line_between(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    far = []
    for trial in result.trials:
        factor = 5.0 if trial.number == 6 else 1.0
        schemes = tuple(
            s.model_copy(update={"latency": s.latency.model_copy(update={"p95_ms": s.latency.p95_ms * factor})})
            for s in trial.schemes
            if isinstance(s.latency, MeasuredLatency)
        )
        far.append(trial.model_copy(update={"schemes": schemes if trial.number in (5, 6) else ()}))
    assert other_budgets(result.model_copy(update={"trials": tuple(far)})).interpolated == ()


def test_a_measured_student_answers_first(realistic: ModuleType) -> None:
    answer = answer_budget(realistic.make_result(), "0.205ms")
    assert answer.kind == "measured"
    assert answer.measured is not None and answer.interpolated is not None
    assert (answer.measured.trial, answer.measured.precision) == (5, "fp32")
    assert answer.interpolated.latency_ms == pytest.approx(0.205)
    assert answer.measured.accuracy_validation < answer.interpolated.accuracy_validation < 0.974
    assert [s.partition(":")[0] for s in answer_sentences(answer)] == ["measured", "interpolated"]


def test_below_what_is_measured_a_prediction_answers_and_says_so(realistic: ModuleType) -> None:
    answer = answer_budget(realistic.make_result(), "0.12ms")
    assert (answer.kind, answer.measured) == ("predicted", None)
    assert answer.expected is not None and answer.expected.trial is None
    (sentence,) = answer_sentences(answer)
    assert sentence.startswith("predicted: ≈ 95.1% (93.1% to 95.7%) by mobilenetv4 w0.25 d1 @24 in int8, not trained")
    assert "its interval reaches 0.130 ms, over the budget" in sentence


def test_beyond_what_is_measured_a_prediction_stands_beside(realistic: ModuleType) -> None:
    answer = answer_budget(realistic.make_result(), "1ms")
    assert answer.kind == "measured"
    assert answer.expected is not None and answer.measured is not None
    assert answer.expected.accuracy_validation > answer.measured.accuracy_validation
    assert "after 8 epochs only" in answer_sentences(answer)[0]


def test_unknown_has_a_reason(realistic: ModuleType) -> None:
    answer = answer_budget(realistic.make_result(), "0.05ms")
    assert answer.kind == "unknown"
    assert answer.reason == "the fastest student measured takes 0.143 ms at p95, the fastest that is predicted 0.104 ms"
    nothing = realistic.make_result(trials=(), predicted=())
    assert answer_budget(nothing, "5ms@p50").reason == (
        "no file was measured that keeps the other limits, and nothing is predicted at p50"
    )


def test_the_percentile_is_the_builds_unless_named(realistic: ModuleType) -> None:
    result = realistic.make_result()
    assert answer_budget(result, "0.2ms").budget.percentile is Percentile.P95
    answer = answer_budget(result, "0.2ms@p50")
    assert answer.measured is not None
    assert answer.measured.latency_ms == pytest.approx(0.297 * 0.71 * 0.94), "p50 of a file whose p95 is over"
    assert answer.expected is None, "predictions are for p95"


def test_a_share_is_of_the_teacher(realistic: ModuleType) -> None:
    assert answer_budget(realistic.make_result(), "50%").budget.latency_ms == pytest.approx(1.03)
    with pytest.raises(InputError, match="cannot be measured"):
        answer_budget(realistic.make_unmeasured(), "50%")


@pytest.mark.parametrize("text", ["3", "3mss", "-1ms", "0%", "3ms@p42", "", "nan ms"])
def test_what_is_no_budget_is_refused_with_a_way_out(realistic: ModuleType, text: str) -> None:
    with pytest.raises(InputError) as found:
        answer_budget(realistic.make_result(), text)
    assert found.value.fix


def test_where_the_fastest_wins_a_larger_budget_changes_nothing(realistic: ModuleType) -> None:
    result = realistic.make_result().model_copy(update={"objective": Objective.LATENCY})
    small, large = answer_budget(result, "0.15ms"), answer_budget(result, "5ms")
    assert small.measured == large.measured == measured_steps(result, Percentile.P95)[0]
    assert large.interpolated is None


def test_without_a_device_trained_students_are_expected(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_unmeasured()
    budgets = other_budgets(result)
    assert budgets.measured == budgets.interpolated == ()
    assert budgets.expected
    assert all(one.trial is not None and one.accuracy_validation_low is None for one in budgets.expected)
    assert {row[2] for row in budget_rows(budgets)} == {"predicted"}
    answer = answer_budget(result, "5ms")
    assert (answer.kind, answer.measured) == ("predicted", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(limit_ms=st.floats(0.01, 5))
def test_the_answer_is_the_most_accurate_measured_file_inside(realistic: ModuleType, limit_ms: float) -> None:
    result: BuildResult = realistic.make_result()
    inside: list[Any] = [
        scheme.verification.accuracy_validation
        for trial in result.trials
        for scheme in trial.schemes
        if not scheme.dropped
        and isinstance(scheme.latency, MeasuredLatency)
        and isinstance(scheme.verification, Verified)
        and scheme.latency.p95_ms <= limit_ms
    ]
    answer = answer_budget(result, f"{limit_ms!r}ms")
    assert (answer.measured.accuracy_validation if answer.measured else None) == max(inside, default=None)
    if answer.expected is not None:
        assert answer.expected.latency.latency_ms <= limit_ms
    assert (answer.kind == "unknown") == bool(answer.reason)
