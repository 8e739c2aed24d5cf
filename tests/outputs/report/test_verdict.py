"""The verdict in words: each figure from the result, each kind of latency by its name."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget, BudgetRequest, Percentile
from edgedistill.outputs.explain.winner import winning_artifact, winning_trial
from edgedistill.outputs.report.verdict import (
    budget_option,
    make_verdict,
    points,
)


def test_met_names_figures_and_device(realistic: ModuleType) -> None:
    verdict = make_verdict(realistic.make_result())
    assert verdict.title == "Budget met"
    assert verdict.sentence == (
        "mobileone w0.5 d1 @16 in int8 is proven inside 0.412 ms at p95 on this machine. "
        "It was measured on Intel Xeon Platinum 8375C @ 2.90GHz, 1 thread; 97.4% [94.7% to 98.7%] of the test images are "
        "right (teacher 98.5% [96.3% to 99.4%]), in 311.4 KiB (teacher 42.6 MiB)."
    )
    latency, proof, quality, size, teacher = verdict.tiles
    assert latency.note == "20.0% of the teacher's p95 allowed; measured, 11,000 runs in 22 sessions"
    assert (proof.label, proof.value) == ("p95 of a session, of the teacher's", "10.0% to 10.5%")
    assert proof.note == (
        "measured in 22 sessions; with 95% confidence at least 80% of sessions stay below 20.0% of the teacher's"
    )
    assert "95% interval 94.7% to 98.7%" in quality.note
    assert (size.label, teacher.value) == ("Size", "9.8 times faster")
    assert teacher.note == "in turn with it; its p95 is 2.06 ms, fp32, measured in 6 sessions"


def test_a_budget_in_milliseconds_is_proven_in_milliseconds(realistic: ModuleType) -> None:
    latency, proof, *_ = make_verdict(realistic.make_proven_in_ms()).tiles
    assert latency.note == "51% of 0.412 ms at p95 allowed; measured, 11,000 runs in 22 sessions"
    assert (proof.label, proof.value) == ("p95 of a session", "0.206 ms to 0.214 ms")
    assert proof.note.endswith("stay below 0.412 ms")
    teacher = make_verdict(realistic.make_proven_in_ms()).tiles[4]
    assert teacher.value == "9.8 times faster" and teacher.note.startswith("each in turn with the anchor")


def test_not_met_says_what_the_build_said(realistic: ModuleType) -> None:
    result = realistic.make_not_met()
    verdict = make_verdict(result)
    assert verdict.sentence == result.verdict
    assert [tile.label for tile in verdict.tiles] == ["Budget", "Fastest seen", "A budget that would do"]


def test_nothing_seen_and_nothing_shipped_still_has_a_verdict(realistic: ModuleType) -> None:
    result = realistic.make_not_met().model_copy(update={"fastest_ms": None, "budget_that_would_do_ms": None})
    assert [tile.label for tile in make_verdict(result).tiles] == ["Budget"]


def test_a_slower_student_is_called_slower(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    assert result.proof is not None
    slower = result.model_copy(update={"proof": result.proof.model_copy(update={"values": (2.0, 2.1, 2.2)})})
    assert make_verdict(slower).tiles[4].value == "2.1 times slower"


def test_the_winner_is_the_file_that_was_proven(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    turned = result.model_copy(update={"artifacts": tuple(reversed(result.artifacts))})
    winner = winning_artifact(turned)
    assert winner is not None and result.proof is not None and winner.as_measured == result.proof.artifact_sha256
    trial = winning_trial(result)
    assert trial is not None and trial.number == realistic.WINNER
    assert winning_artifact(realistic.make_not_met()) is None


@pytest.mark.parametrize(
    ("difference", "text"), [(-0.011, "1.1 points below"), (0.02, "2.0 points above"), (0.0002, "equal to")]
)
def test_points(difference: float, text: str) -> None:
    assert points(difference) == text


@given(st.floats(1e-3, 1e4), st.sampled_from(Percentile))
def test_the_budget_option_is_the_budget(latency_ms: float, percentile: Percentile) -> None:
    request = BudgetRequest.parse(budget_option(Budget(latency_ms=latency_ms, percentile=percentile)))
    assert request.latency_ms == pytest.approx(latency_ms, rel=1e-9) and request.percentile is percentile
    share = Budget(latency_ms=latency_ms, percentile=percentile, share_of_teacher=0.07)
    assert BudgetRequest.parse(budget_option(share)).share_of_teacher == pytest.approx(0.07)
