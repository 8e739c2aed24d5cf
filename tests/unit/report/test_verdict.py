"""The verdict in words: each figure from the result, each kind of latency by its name."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.explanation.winner import winning_artifact, winning_trial
from edgedistill.report.verdict import (
    budget_option,
    make_verdict,
    points,
    wilson_interval,
)
from edgedistill.results import BuildResult
from edgedistill.specs import Budget, BudgetRequest, Percentile


def test_met_names_figures_and_device(realistic: ModuleType) -> None:
    verdict = make_verdict(realistic.make_result())
    assert verdict.title == "Budget met"
    assert verdict.sentence == (
        "p95 is 0.211 ms where 0.412 ms was allowed, measured on Intel Xeon Platinum 8375C @ 2.90GHz, 1 thread; "
        "97.4% of the test images are right (teacher 98.5%), in 311.4 KiB (teacher 42.6 MiB)."
    )
    assert [tile.label for tile in verdict.tiles] == ["p95 latency", "Test accuracy", "Size", "Beside the teacher"]
    assert verdict.tiles[3].value == "9.8 times faster"


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
    latency = result.teacher.latency.model_copy(update={"p95_ms": 0.1})
    slower = result.model_copy(update={"teacher": result.teacher.model_copy(update={"latency": latency})})
    assert make_verdict(slower).tiles[3].value == "2.1 times slower"


def test_the_winner_is_the_file_that_was_proven(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    turned = result.model_copy(update={"artifacts": tuple(reversed(result.artifacts))})
    winner = winning_artifact(turned)
    assert winner is not None and result.proof is not None and winner.sha256 == result.proof.artifact_sha256
    trial = winning_trial(result)
    assert trial is not None and trial.number == realistic.WINNER
    assert winning_artifact(realistic.make_not_met()) is None


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_narrows_with_more_images(count: int, share: float) -> None:
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    wider_low, wider_high = wilson_interval(share, count + 50)
    assert wider_high - wider_low < high - low


def test_wilson_solves_its_own_equation() -> None:
    """The bounds are where the score statistic equals 1.96 (Wilson's definition)."""
    for bound in wilson_interval(0.97, 270):
        assert abs(0.97 - bound) / math.sqrt(bound * (1 - bound) / 270) == pytest.approx(1.959964, rel=1e-6)


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
