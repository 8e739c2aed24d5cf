"""What another budget would give: measured where measured, marked where not."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.results import BuildResult, QualityLimit, SizeLimit
from edgedistill.documents.specs import Objective, Percentile
from edgedistill.outputs.explain.budgets import INTERPOLATE_WITHIN, answer_budget, measured_steps, other_budgets
from edgedistill.outputs.explain.words import answer_sentences, budget_rows


def test_the_steps_are_the_builds_frontier(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    steps = other_budgets(result).measured
    shown = [(s.trial, s.precision, s.latency_ms, s.quality_validation) for s in steps]
    assert shown == [(p.trial, p.precision, p.latency_ms, p.quality_validation) for p in result.frontier]
    assert [s.trial for s in steps if not s.trained_out] == [7, 7]


def test_what_breaks_another_limit_is_no_step(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    size = SizeLimit(limit_bytes=400_000, bytes=318_834, kept=True)
    quality = QualityLimit(limit=0.95, quality_validation=0.974, lower_bound=0.951, resolved=True, kept=True)
    steps = other_budgets(result.model_copy(update={"constraints": (*result.constraints, size, quality)})).measured
    assert [(s.trial, s.precision) for s in steps] == [(6, "int8"), (7, "int8")]


def proven_in_ms(realistic: ModuleType, *values: float) -> BuildResult:
    """A build for 0.412 ms, of which the int8 file of trial 5 was tried first; one session measured 0.143 ms of it."""
    result: BuildResult = realistic.disproven(realistic.make_proven_in_ms(), 5, values)
    return result


def test_a_budget_that_a_proof_missed_is_not_offered_with_its_file(realistic: ModuleType) -> None:
    """Trial 5 in int8 is the fastest file: it stands at what its proof saw, above the budget."""
    result = proven_in_ms(realistic, *(0.2,) * 20, 0.43, 0.44)
    before = {(s.trial, s.precision) for s in measured_steps(realistic.make_proven_in_ms(), Percentile.P95)}
    assert (5, "int8") in before
    assert (5, "int8") not in {(s.trial, s.precision) for s in measured_steps(result, Percentile.P95)}
    assert answer_budget(result, "0.15ms").measured is None
    winner = answer_budget(result, "0.412ms").measured
    assert winner is not None and (winner.trial, winner.proof, winner.proof_ms) == (6, "met", 0.412)


def test_what_a_proof_missed_may_serve_a_larger_budget(realistic: ModuleType) -> None:
    result = proven_in_ms(realistic, *(0.2,) * 20, 0.43, 0.44)
    (trial,) = [t for t in result.trials if t.number == 5]
    alone = result.model_copy(update={"trials": (trial.model_copy(update={"schemes": trial.schemes[1:]}),)})
    (step,) = measured_steps(alone, Percentile.P95)
    assert (step.proof, step.proof_ms) == ("not_met", 0.412)
    assert step.latency_ms == pytest.approx(0.44 * 1.01), "the bound of its sessions"
    assert answer_budget(alone, "0.412ms").measured is None
    answer = answer_budget(alone, "0.5ms")
    assert answer.measured == step
    assert "its proof for 0.412 ms is not met, one for this budget is still to be taken" in answer_sentences(answer)[0]
    assert "measured, not proven for 0.412 ms" in {row[2] for row in budget_rows(other_budgets(alone))}
    # Of a lower percentile its proof says nothing, of a higher one that it is no faster.
    assert measured_steps(alone, Percentile.P50)[0].proof == "none"
    assert measured_steps(alone, Percentile.P99)[0].latency_ms == step.latency_ms


def test_a_proof_that_was_cut_short_offers_nothing_either(realistic: ModuleType) -> None:
    """Its device was lost after two sessions, both inside: nothing is proven, and the budget was tried."""
    result = proven_in_ms(realistic, 0.2, 0.21)
    (trial,) = [t for t in result.trials if t.number == 5]
    alone = result.model_copy(update={"trials": (trial.model_copy(update={"schemes": trial.schemes[1:]}),)})
    assert answer_budget(alone, "0.412ms").measured is None
    assert answer_budget(alone, "0.413ms").measured is not None


def test_what_is_proven_is_said_to_be(realistic: ModuleType) -> None:
    result = realistic.make_proven_in_ms()
    (line,) = [row for row in budget_rows(other_budgets(result)) if "trial 6, mobileone w0.5 d1 @16, int8" in row[3]]
    assert line[1:3] == ("97.40% (94.7% to 98.7%)", "measured, proven for 0.412 ms")
    assert "it is proven for 0.412 ms" in answer_sentences(answer_budget(result, "0.412ms"))[0]
    narrow = realistic.make_proven_in_ms(quality_margin=0.001)
    assert "it is proven for 0.412 ms, not yet for this budget" in answer_sentences(answer_budget(narrow, "0.25ms"))[0]
    assert "its proof is still to be taken" in answer_sentences(answer_budget(result, "0.15ms"))[0]


def test_a_line_lies_between_its_students_and_both_were_trained_to_the_end(realistic: ModuleType) -> None:
    lines = other_budgets(realistic.make_result()).interpolated
    assert lines
    for line in lines:
        left, right = line.between
        assert left.trained_out and right.trained_out
        assert left.trial != right.trial, "one student in two precisions has nothing in between"
        assert left.latency_ms < line.latency_ms < right.latency_ms <= INTERPOLATE_WITHIN * left.latency_ms
        assert line.latency_ms == pytest.approx(math.sqrt(left.latency_ms * right.latency_ms))
        middle = (left.quality_validation + right.quality_validation) / 2
        assert line.quality_validation == pytest.approx(middle)


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
    answer = answer_budget(realistic.make_result(quality_margin=0.001), "0.205ms")
    assert answer.kind == "measured"
    assert answer.measured is not None and answer.interpolated is not None
    assert (answer.measured.trial, answer.measured.precision) == (5, "fp32")
    assert answer.interpolated.latency_ms == pytest.approx(0.205)
    assert answer.measured.quality_validation < answer.interpolated.quality_validation < 0.974
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
    assert answer.expected.quality_validation > answer.measured.quality_validation
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
    result = realistic.make_result(quality_margin=0.001)
    assert answer_budget(result, "0.2ms").budget.percentile is Percentile.P95
    answer = answer_budget(result, "0.2ms@p50")
    assert answer.measured is not None
    assert answer.measured.latency_ms == pytest.approx(0.297 * 0.71 * 0.94), "p50 of a file whose p95 is over"
    assert answer.expected is None, "predictions are for p95"


def test_of_files_as_accurate_the_fastest_answers_as_it_wins(realistic: ModuleType) -> None:
    answer = answer_budget(realistic.make_result(), "0.205ms").measured
    assert answer is not None and (answer.trial, answer.precision) == (5, "int8")
    most = answer_budget(realistic.make_result(quality_margin=0.001), "0.205ms").measured
    assert most is not None and most.quality_validation - answer.quality_validation == pytest.approx(0.004)


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
    assert all(one.trial is not None and one.quality_validation_low is None for one in budgets.expected)
    assert {row[2] for row in budget_rows(budgets)} == {"predicted"}
    answer = answer_budget(result, "5ms")
    assert (answer.kind, answer.measured) == ("predicted", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit_ms=st.floats(0.01, 5))
def test_the_answer_is_the_fastest_of_the_most_accurate_files_inside(realistic: ModuleType, limit_ms: float) -> None:
    result: BuildResult = realistic.make_result()
    inside: list[Any] = [
        (scheme.verification.quality_validation, -scheme.latency.p95_ms)
        for trial in result.trials
        for scheme in trial.schemes
        if not scheme.dropped
        and isinstance(scheme.latency, MeasuredLatency)
        and isinstance(scheme.verification, Verified)
        and scheme.latency.p95_ms <= limit_ms
    ]
    answer = answer_budget(result, f"{limit_ms!r}ms")
    assert (answer.measured is None) == (not inside)
    if answer.measured is not None:
        best, its_ms = max(inside)
        assert answer.measured.latency_ms <= -its_ms
        assert best - result.quality_margin <= answer.measured.quality_validation <= best
    if answer.expected is not None:
        assert answer.expected.latency.latency_ms <= limit_ms
    assert (answer.kind == "unknown") == bool(answer.reason)
