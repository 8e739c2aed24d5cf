"""What the verdict says: the figures that decide, whatever came out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_artifact

from edgedistill.artifacts import MeasuredLatency, Parity, Proof, SchemeResult, UnknownLatency, Verified
from edgedistill.config import BuildConfig
from edgedistill.describing import Finding, _constraints, _verdict
from edgedistill.results import AccuracyLimit, LatencyLimit, MemoryLimit, SizeLimit
from edgedistill.selection.search import Outcome
from edgedistill.specs import Budget, Goal, Percentile, Precision, QuantScheme
from edgedistill.winner_files import _over, _why_left_out

BUDGET = Budget(latency_ms=5.0, percentile=Percentile.P99)
NOBODY = Outcome(winner=None, trials=(), attempts=(), probes=8, stopped="")


def finding(bench: Any, *, together: bool = False, winner: Any = None, **limits: Any) -> Any:
    """On "board", for which alone or with "phone" a student was searched."""
    names = ("board", "phone") if together else ("board",)
    outcome = SimpleNamespace(winner=winner) if winner else NOBODY
    goals = {name: Goal(budget=BUDGET, **limits) for name in names}
    return Finding(bench, "board", goals, dict.fromkeys(names, outcome), build_key="k", began=0.0)


def bench(not_measurable: str = "", how: str = "") -> Any:
    target = SimpleNamespace(title="My board", how_to_measure=how)
    return SimpleNamespace(not_measurable=not_measurable, target=target)


def test_not_met_names_the_fastest_and_what_would_do() -> None:
    verdict = _verdict(finding(bench()), fastest=6.25, would_do=6.5)
    assert verdict == (
        "Budget of 5.00 ms at p99 not met: the fastest student measured 6.25 ms. A budget of 6.50 ms would do."
    )


def test_where_nothing_was_measured_no_budget_is_offered() -> None:
    verdict = _verdict(finding(bench()), fastest=None, would_do=None)
    assert "No candidate could be measured against the budget of 5.00 ms at p99" in verdict
    assert "would do" not in verdict


def test_of_several_targets_no_single_budget_is_offered() -> None:
    verdict = _verdict(finding(bench(), together=True), fastest=6.25, would_do=None)
    assert verdict == (
        "No one student keeps every limit on board, phone: here the budget is 5.00 ms at p99, and the fastest student "
        "measured 6.25 ms; the trials say what each lacked."
    )


def test_of_several_targets_the_own_limits_come_first() -> None:
    found = _constraints(finding(None, together=True, **LIMITS))
    assert [(limit.kind, getattr(limit, "target", "")) for limit in found] == [
        ("latency", "board"),
        ("latency", "phone"),
        ("size", ""),
        ("memory", "board"),
        ("memory", "phone"),
        ("accuracy", ""),
    ]


def test_unmeasured_says_why_and_how_to_measure() -> None:
    verdict = _verdict(finding(bench("not attached", "plug it in.")), fastest=None, would_do=None)
    assert verdict == "Not measured: not attached. To measure: plug it in."


def test_a_file_over_the_budget_is_judged_at_the_budgets_percentile() -> None:
    latency = MeasuredLatency(p50_ms=1.0, p95_ms=4.0, p99_ms=5.5, samples=1000, device="a CPU")
    assert _over(latency, BUDGET) == "measured p99 5.50 ms, over the budget of 5.00 ms"
    assert _over(latency, BUDGET.model_copy(update={"percentile": Percentile.P95})) == ""
    assert _over(UnknownLatency(reason="no device", device="x"), BUDGET) == ""


CONFIG = BuildConfig.model_validate({"budget": "5ms", "teacher": {"model": "timm:resnet18"}})


def file(precision: Precision, latency_ms: float, slowdown: float = 1.0) -> SchemeResult:
    scheme = QuantScheme(precision=precision)
    return SchemeResult(
        scheme=scheme,
        artifact=make_artifact(precision, bytes=100),
        verification=Verified(parity=Parity(max_abs_error=0.0, top1_agreement=1.0, images=10), accuracy_validation=0.9),
        latency=MeasuredLatency(
            p50_ms=latency_ms, p95_ms=latency_ms, p99_ms=latency_ms, samples=10, device="d", slowdown=slowdown
        ),
    )


@pytest.mark.parametrize(
    ("latency_ms", "slowdown", "why"),
    [(4.0, 1.0, "does not pay beside fp32"), (6.0, 1.2, "over the budget"), (2.0, 1.0, "")],
)
def test_the_proven_file_is_shipped_whatever_the_margins_say_of_its_proofs_figures(
    latency_ms: float, slowdown: float, why: str
) -> None:
    fast_teacher = Budget(latency_ms=5.0, percentile=Percentile.P95)
    widest, other = file(Precision.FP32, 4.0 if slowdown == 1 else 40.0), file(Precision.INT8, latency_ms, slowdown)
    assert _why_left_out(CONFIG, other, widest, fast_teacher, proven=True) == ""
    found = _why_left_out(CONFIG, other, widest, fast_teacher, proven=False)
    assert (why in found) if why else not found


LIMITS = {"max_bytes": 120, "max_memory_bytes": 5_000, "min_accuracy": 0.95}


def test_each_limit_stands_with_what_the_winner_came_to() -> None:
    made = file(Precision.INT8, 2.0).model_copy(update={"peak_memory_bytes": 6_000})
    proven = Proof(
        artifact_sha256="a",
        sessions=3,
        samples_per_session=(100,) * 3,
        ranks=(99,) * 3,
        bounds_ms=(4.5, 4.9, 4.7),
        pause_s=1.0,
        met=True,
    )
    winner: Any = SimpleNamespace(scheme=made, proof=proven)
    latency, size, memory, accuracy = _constraints(finding(None, winner=winner, **LIMITS))
    assert isinstance(latency, LatencyLimit) and (latency.bound_ms, latency.kept, latency.target) == (
        4.9,
        True,
        "board",
    )
    assert isinstance(size, SizeLimit) and (size.limit_bytes, size.bytes, size.kept) == (120, 100, True)
    assert isinstance(memory, MemoryLimit) and (memory.bytes, memory.kept) == (6_000, False)
    assert isinstance(accuracy, AccuracyLimit) and (accuracy.accuracy_validation, accuracy.kept) == (0.9, False)


def test_where_nothing_won_no_limit_is_said_to_be_kept() -> None:
    found = _constraints(finding(None, **LIMITS))
    assert [limit.kind for limit in found] == ["latency", "size", "memory", "accuracy"]
    assert all(limit.kept is None for limit in found)
