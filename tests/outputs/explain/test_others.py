"""What each trial lacked, in figures of the result."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from edgedistill.base.intervals import pack
from edgedistill.documents.artifacts import CrossValidation, Trial
from edgedistill.documents.explanation import (
    Beaten,
    BytesOver,
    LatencyOver,
    LessAccurate,
    OtherStudent,
    Slower,
    Stated,
    TooInaccurate,
)
from edgedistill.documents.measurements import MeasuredLatency, Percentiles, RelativeLatency
from edgedistill.documents.results import BuildResult, MemoryLimit, QualityLimit, SizeLimit
from edgedistill.documents.specs import Objective, Precision
from edgedistill.outputs.explain.limits import trained_out
from edgedistill.outputs.explain.others import other_students
from edgedistill.outputs.explain.winner import explain_winner, winning_file


def by_trial(result: BuildResult) -> dict[int, OtherStudent]:
    return {other.trial: other for other in other_students(result)}


def with_trial(result: BuildResult, number: int, **changes: Any) -> BuildResult:
    changed = tuple(t.model_copy(update=changes) if t.number == number else t for t in result.trials)
    return result.model_copy(update={"trials": changed})


def beside_the_anchor(trial: Trial, ratio: float) -> Trial:
    """A trial whose files took `ratio` of the anchor's 1 ms where they ran in turn with it."""
    figures = {"p50": ratio, "p95": ratio, "p99": ratio}
    relative = RelativeLatency(anchor_sha256="a", anchor_ms=Percentiles(p50=1.0, p95=1.0, p99=1.0), **figures)
    schemes = tuple(
        s.model_copy(update={"latency": s.latency.model_copy(update={"relative": relative})}) for s in trial.schemes
    )
    return trial.model_copy(update={"schemes": schemes})


def test_the_winner_among_those_it_was_chosen_from(realistic: ModuleType) -> None:
    winner = explain_winner(realistic.make_result())
    assert winner is not None
    assert (winner.trial, winner.precision, winner.tried, winner.rivals) == (realistic.WINNER, Precision.INT8, 13, 2)
    assert winner.equals == 1, "trial 2 is as accurate, and slower"
    assert winner.proof is not None and len(winner.proof.values) == 22
    assert winner.quality_interval == pytest.approx((0.9474, 0.9874), abs=1e-3)
    assert winner.teacher.quality_difference == pytest.approx(0.9741 - 0.9852)
    assert winner.teacher.times_faster == pytest.approx(2.06 / (0.297 * 0.71)), "the median of the proof's ratios"
    assert winner.teacher.bytes_share == pytest.approx(318_834 / 44_720_000)


def test_without_a_device_the_winner_has_no_bound(realistic: ModuleType) -> None:
    winner = explain_winner(realistic.make_unmeasured())
    assert winner is not None
    assert (winner.proof, winner.teacher.times_faster) == (None, None)
    assert winner.rivals == 2, "all that were trained to the end"
    assert explain_winner(realistic.make_not_met()) is None


def test_no_student_is_trained_out_where_all_stopped_early(realistic: ModuleType) -> None:
    result = realistic.make_not_met()
    early = tuple(t.model_copy(update={"rungs": t.rungs[:2]}) for t in result.trials)
    assert any(trained_out(trial, result) for trial in result.trials)
    assert not any(trained_out(trial, result.model_copy(update={"trials": early})) for trial in early)


def test_every_other_trial_is_told_and_lacks_something(realistic: ModuleType) -> None:
    for make in (realistic.make_result, realistic.make_not_met, realistic.make_unmeasured):
        result = make()
        others = other_students(result)
        won = {realistic.WINNER} if result.student else set()
        assert {other.trial for other in others} == {t.number for t in result.trials} - won
        assert all(other.lacks and other.lacked for other in others)


def test_those_that_kept_all_limits_come_first_then_the_longest_trained(realistic: ModuleType) -> None:
    others = other_students(realistic.make_result())
    assert [other.trial for other in others[:2]] == [2, 5], "complete, the more accurate first"
    assert [other.epochs for other in others[2:-1]] == sorted((o.epochs for o in others[2:-1]), reverse=True)
    assert others[-1].state == "failed"


def test_latency_over_the_budget_in_ms(realistic: ModuleType) -> None:
    (lack,) = by_trial(realistic.make_result())[7].lacks
    assert isinstance(lack, LatencyOver)
    assert (lack.precision, lack.budget.latency_ms) == (Precision.INT8, 0.412), "of its files the nearest to the budget"
    assert lack.comparable_ms == lack.measured_ms == pytest.approx(0.698 * 0.71)
    assert lack.sentence == (
        "p95 0.496 ms in int8 (24.1% of the teacher's by way of the anchor): "
        "20.3% over the budget of 20.0% of the teacher's p95"
    )
    alone = lack.model_copy(update={"budget": lack.budget.model_copy(update={"share_of_teacher": None})})
    assert alone.sentence == "p95 0.496 ms in int8: 20.3% over the budget of 0.412 ms at p95"


def test_what_counts_is_the_latency_beside_the_anchor(realistic: ModuleType) -> None:
    """In milliseconds trial 7 is over the budget; the machine was slow when they were taken."""
    result = realistic.make_result()

    def lacks(ratio: float) -> tuple[Any, ...]:
        schemes = beside_the_anchor(result.trials[7], ratio).schemes[1:]
        return by_trial(with_trial(result, 7, schemes=schemes))[7].lacks

    assert not any(isinstance(lack, LatencyOver) for lack in lacks(0.4))
    (lack,) = lacks(0.45)
    assert isinstance(lack, LatencyOver)
    assert (lack.comparable_ms, lack.measured_ms) == (0.45, pytest.approx(0.698 * 0.71))
    assert lack.sentence == (
        "p95 0.496 ms in int8 (21.8% of the teacher's by way of the anchor): "
        "9.2% over the budget of 20.0% of the teacher's p95"
    )


def test_inside_the_budget_but_not_by_as_much_as_sessions_differ(realistic: ModuleType) -> None:
    result = realistic.make_result()
    schemes = beside_the_anchor(result.trials[7], 0.411).schemes[1:]
    (lack,) = by_trial(with_trial(result, 7, schemes=schemes))[7].lacks
    assert isinstance(lack, LatencyOver)
    assert (lack.budget.latency_ms, lack.provable_ms) == (0.412, 0.41)
    assert lack.sentence.endswith(
        "(20.0% of the teacher's by way of the anchor): inside the budget of 20.0% of the teacher's p95, "
        "but only 19.9% of the teacher's can be proven where sessions differ as here"
    )


def test_quality_below_the_winner_in_points(realistic: ModuleType) -> None:
    result = realistic.make_result()
    (lack,) = by_trial(result)[5].lacks
    assert lack == LessAccurate(of_file=True, quality_validation=0.969, winner=0.974)
    assert lack.sentence == "96.90%, 0.50 points behind the winner"
    (lack,) = by_trial(result)[2].lacks
    assert isinstance(lack, Slower), "as accurate, and slower"
    assert lack.winner_ms == pytest.approx(0.297 * 0.71)


def test_a_more_accurate_student_may_lose_to_a_faster_one_within_the_margin(realistic: ModuleType) -> None:
    result = realistic.make_result()
    best = result.trials[2].schemes[0]
    verified = best.verification.model_copy(
        update={"quality_validation": 0.978, "right": result.trials[6].schemes[0].verification.right}
    )
    better = best.model_copy(update={"verification": verified})
    (lack,) = by_trial(with_trial(result, 2, schemes=(better,)))[2].lacks
    assert isinstance(lack, Slower) and lack.within == 0.02
    assert lack.sentence == "92.1% slower than the winner, which is as accurate within 2.00 points"


def test_a_student_that_cross_validation_finds_less_accurate_lacks_that(realistic: ModuleType) -> None:
    """It is as fast as the winner and has more of the validation split right, which did not decide."""
    result = realistic.make_result()

    def crossed(label: str, right: int) -> CrossValidation:
        answers = pack([True] * right + [False] * (400 - right))
        return CrossValidation(student=label, folds=5, quality=right / 400, images=400, right=answers)

    winner, other = result.trials[realistic.WINNER], result.trials[2]
    files = tuple(s.model_copy(update={"crossed": crossed(winner.spec.label, 360)}) for s in winner.schemes)
    best, judged = other.schemes[0], crossed(other.spec.label, 320)
    verified = best.verification.model_copy(update={"quality_validation": 0.99})
    best = best.model_copy(update={"verification": verified, "latency": files[1].latency, "crossed": judged})
    changed = with_trial(with_trial(result, realistic.WINNER, schemes=files), 2, schemes=(best,))
    (lack,) = by_trial(changed)[2].lacks
    assert lack == LessAccurate(of_file=False, quality_validation=0.8, winner=0.9, images=400)
    assert lack.sentence == "80.00% of 400 images in cross-validation, 10.00 points behind the winner"


def test_without_a_device_cross_validation_tells_who_is_less_accurate(realistic: ModuleType) -> None:
    result = realistic.make_unmeasured()
    for number, quality in ((realistic.WINNER, 0.9), (2, 0.8)):
        label = result.trials[number].spec.label
        found = CrossValidation(student=label, folds=5, quality=quality, images=400, right="")
        result = with_trial(result, number, crossed=found, schemes=())
    (lack,) = by_trial(result)[2].lacks
    assert lack == LessAccurate(of_file=False, quality_validation=0.8, winner=0.9, images=400)


def test_a_quality_that_the_split_does_not_bear_out_is_not_enough(realistic: ModuleType) -> None:
    """97.4% of 270 images are above 95.2% with 95% confidence, not above 95.5%."""
    result = realistic.make_result()
    limit = QualityLimit(limit=0.955, quality_validation=None, lower_bound=None, resolved=True, kept=None)
    found = by_trial(result.model_copy(update={"constraints": (*result.constraints, limit)}))[2].lacks
    (lack,) = [one for one in found if isinstance(one, TooInaccurate)]
    assert lack.lower_bound == pytest.approx(0.9525, abs=1e-3)
    assert lack.sentence == "97.40% in fp32: with 95% confidence only above 95.28%, not the 95.50% wanted"


def test_pruned_beside_which_others(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    (lack,) = by_trial(result)[9].lacks
    assert isinstance(lack, Beaten)
    assert (lack.rung, lack.epochs) == (0, 4)
    went_on = {t.number: t.rungs[0].quality_validation for t in result.trials if len(t.rungs) > 1}
    assert {rival.trial: rival.quality_validation for rival in lack.by} == went_on, "all of them had more"
    assert [r.quality_validation for r in lack.by] == sorted(went_on.values(), reverse=True)
    assert "where trial 7 (97.6%) and 5 more went on" in lack.sentence


def test_pruned_though_none_had_more_says_what_the_search_said(realistic: ModuleType) -> None:
    (lack,) = by_trial(realistic.make_result())[8].lacks
    assert lack == Stated(about="other", reason=realistic.make_result().trials[8].reason)


def test_failed_dropped_and_unproven_have_their_words(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    assert by_trial(result)[12].lacks == (
        Stated(about="failed", reason="the loss was not finite in epoch 2 (batch 31)"),
    )
    none_kept = tuple(s.model_copy(update={"dropped": "loses 3 points"}) for s in result.trials[2].schemes)
    (lack,) = by_trial(with_trial(result, 2, schemes=none_kept, state="over_budget"))[2].lacks
    assert lack == Stated(about="nothing_kept", reason="fp32: loses 3 points; int8: loses 3 points")


def test_a_file_whose_proof_is_not_met_is_told_by_its_proof(realistic: ModuleType) -> None:
    """Trial 2 keeps one precision alone, which measured inside the budget in one session."""
    result = realistic.make_result()
    (kept,) = [s for s in result.trials[5].schemes if s.scheme.precision is Precision.INT8]
    alone = with_trial(result, 5, schemes=(result.trials[5].schemes[0].model_copy(update={"dropped": "x"}), kept))
    tried = realistic.disproven(alone, 5, (0.1,) * 20 + (0.21, 0.22))
    for state in ("complete", "over_budget"):
        (lack,) = by_trial(with_trial(tried, 5, state=state))[5].lacks
        assert isinstance(lack, Stated) and lack.about == "unproven"
        assert lack.reason.startswith("int8 is not proven: in 22 sessions of 3.0 s over 1 min 28 s p95 was 10.0% to")
        assert "2 of them were over 20.0% of the teacher's, at most 0 may be" in lack.reason
    winner = explain_winner(tried)
    assert winner is not None and winner.rivals == 1, "it is not among those that kept all limits"


def test_a_file_ranked_before_the_winners_here_may_have_lost_elsewhere(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    better = tuple(
        s.model_copy(update={"verification": s.verification.model_copy(update={"quality_validation": 0.99})})
        for s in result.trials[5].schemes
    )
    own = next(limit for limit in result.constraints if limit.kind == "latency")
    both = (own, own.model_copy(update={"target": "phone"}), *result.constraints[1:])
    told = {"state": "complete", "reason": "phone: 97.00% of the validation split in its best file, the winner 98.00%"}
    together = with_trial(result, 5, schemes=better, **told).model_copy(update={"constraints": both})
    (lack,) = by_trial(together)[5].lacks
    assert lack == Stated(about="other", reason=told["reason"])


def test_all_limits_that_a_file_breaks_are_told(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    limits = (
        *result.constraints,
        SizeLimit(limit_bytes=150_000, bytes=None, kept=None),
        MemoryLimit(target="host", limit_bytes=10**6, bytes=None, kept=None),
        QualityLimit(limit=0.98, quality_validation=None, lower_bound=None, resolved=True, kept=None),
    )
    found = by_trial(result.model_copy(update={"constraints": limits}))
    size, memory, quality = found[5].lacks
    assert isinstance(size, BytesOver) and isinstance(memory, BytesOver) and isinstance(quality, TooInaccurate)
    assert (size.kind, size.bytes, size.precision) == ("size", 173_682, Precision.INT8)
    assert size.sentence == "169.6 KiB in int8: 23.1 KiB over the 146.5 KiB allowed"
    assert (memory.kind, memory.bytes) == ("memory", None)
    assert "not measured" in memory.sentence
    assert quality.sentence == "96.50% in int8: 1.50 points below the 98.00% wanted"
    assert not any(isinstance(lack, TooInaccurate) for lack in found[10].lacks), "still rising when it was pruned"


def test_where_nothing_won_the_nearest_comes_first(realistic: ModuleType) -> None:
    others = other_students(realistic.make_not_met())
    over = [other.lacks[0].comparable_ms for other in others if isinstance(other.lacks[0], LatencyOver)]
    assert len(over) == 6
    assert over == sorted(over)
    assert isinstance(others[0].latency, MeasuredLatency)


def test_without_a_device_the_torch_models_are_compared(realistic: ModuleType) -> None:
    lack = by_trial(realistic.make_unmeasured())[5].lacks[0]
    assert lack == LessAccurate(of_file=False, quality_validation=0.969, winner=0.978)
    assert "(torch model)" in lack.sentence


def test_where_the_fastest_wins_the_others_are_slower(realistic: ModuleType) -> None:
    result = realistic.make_result().model_copy(update={"objective": Objective.LATENCY})
    chosen = winning_file(result)
    assert chosen is not None
    kinds = [lack.kind for lack in by_trial(result)[2].lacks]
    assert kinds == ["slower"]
    assert by_trial(result)[5].lacks[0].kind == "stated", "faster, so something else decided"
