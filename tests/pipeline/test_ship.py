"""What is known of a shipped file's latency: its proof's sessions, one beside the anchor, a prediction or nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_proof
from made_up_lab import made_file

from edgedistill.base.errors import Problem, UnsupportedError
from edgedistill.documents.artifacts import SchemeResult
from edgedistill.documents.measurements import PredictedLatency, UnknownLatency
from edgedistill.documents.specs import Budget, Format, Goal, Percentile, Precision, QuantScheme
from edgedistill.pipeline import ship as winner_files
from edgedistill.pipeline.judge import Chosen
from edgedistill.pipeline.ship import _over, _own_latency, _profile, _tried

PREDICTED = PredictedLatency(
    latency_ms=2.0,
    low_ms=1.0,
    high_ms=4.0,
    percentile=Percentile.P95,
    precision=Precision.INT8,
    calibrated=False,
    basis="24 models of a profile",
    device="a phone",
)
BENCH: Any = SimpleNamespace(
    meter=SimpleNamespace(not_measurable="not attached"),
    target=SimpleNamespace(name="a phone", published=(), precisions=(Precision.FP32,)),
)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP32])
def test_a_prediction_is_that_of_files_in_its_own_precision_alone(precision: Precision) -> None:
    winner: Any = SimpleNamespace(trial=SimpleNamespace(predicted=PREDICTED))
    found = _own_latency(BENCH, winner, QuantScheme(precision=precision), None)
    unknown = UnknownLatency(reason="not attached", device="a phone")
    assert found == (PREDICTED if precision is Precision.INT8 else unknown)


GOAL = Goal(budget=Budget(latency_ms=5.0, percentile=Percentile.P95))
WON, TRIED, OTHER = made_file("fp32", 0.9, 4.0), made_file("int8", 0.89, 4.5), made_file("fp16", 0.9, 4.2)
MET = make_proof([4.1] * 22, artifact_sha256=WON.artifact.sha256)
FAILED = make_proof([4.9, 5.6, 5.7, 5.8], artifact_sha256=TRIED.artifact.sha256, bound=6.5)


def winner() -> Any:
    schemes = (
        WON.model_copy(update={"proof": MET}),
        TRIED.model_copy(update={"proof": FAILED}),
        OTHER,
    )
    return SimpleNamespace(trial=SimpleNamespace(schemes=schemes))


@pytest.mark.parametrize(("file", "proof"), [(WON, MET), (TRIED, FAILED), (OTHER, None)])
def test_what_was_tried_in_the_search_is_found_by_the_very_file(file: SchemeResult, proof: Any) -> None:
    assert _tried(winner(), file.artifact) == proof
    assert _tried(winner(), file.artifact.model_copy(update={"sha256": "made anew"})) is None


@pytest.mark.parametrize("share", [False, True])
def test_a_proven_files_samples_are_those_of_its_proof(monkeypatch: pytest.MonkeyPatch, share: bool) -> None:
    """None is taken again: as many sessions as it has values, beside the teacher's file where the budget is a share."""
    asked: list[Any] = []

    def first_sessions(*given: Any) -> str:
        asked.append(given)
        return "the proof's"

    monkeypatch.setattr(winner_files, "first_sessions", first_sessions)
    monkeypatch.setattr(winner_files, "compared", lambda *given: "beside the anchor")
    bench: Any = SimpleNamespace(meter=SimpleNamespace(teacher_file="the teacher's"))
    source: Any = "student"
    found: Any = _profile(bench, WON.artifact, source, MET.model_copy(update={"share": share}))
    assert found == "the proof's"
    assert asked == [(bench, WON.artifact, source, "the teacher's" if share else None, 22)]
    assert _profile(bench, OTHER.artifact, source, None) == "beside the anchor"


@pytest.mark.parametrize(
    ("file", "proof", "told"),
    [
        (OTHER, None, ""),
        (TRIED, FAILED, "measured 6.50 ms, over the budget of 5.00 ms at p95"),
        (made_file("fp32", 0.9, 5.2), None, "measured 5.20 ms, over the budget of 5.00 ms at p95"),
    ],
    ids=["inside", "inside, and the proof saw more", "outside"],
)
def test_what_is_over_the_budget_by_all_that_is_known_is_left_out(file: SchemeResult, proof: Any, told: str) -> None:
    assert _over(file.model_copy(update={"proof": proof}), GOAL) == told


def test_a_format_that_cannot_be_made_is_dropped_with_each_operation_in_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems = (Problem("head.norm", "has no kernel", "leave it out"), Problem("head.gelu", "has no kernel"))

    def refused(*given: Any) -> None:
        raise UnsupportedError("student.onnx cannot be made for a phone", problems=problems)

    monkeypatch.setattr(winner_files, "choose", lambda bench, source, asked, *rest: Chosen(asked, source))
    monkeypatch.setattr(winner_files, "made", refused)
    source: Any = "student"
    won: Any = SimpleNamespace(scheme=None)
    bench: Any = SimpleNamespace(target=SimpleNamespace(runtime=Format.ONNX))
    tune: Any = None
    shipment = winner_files._Shipment(bench, source, GOAL, won, tune)
    assert shipment.add(QuantScheme(precision=Precision.FP16), Format.COREML, None) is None
    (dropped,) = shipment.files.dropped
    assert dropped.reason == (
        "student.onnx cannot be made for a phone; head.norm: has no kernel (leave it out); head.gelu: has no kernel"
    )
