"""What the verdict says: the figures that decide, whatever came out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_artifact, make_environment

from edgedistill.artifacts import (
    Inspected,
    MeasuredLatency,
    Parity,
    Profile,
    Proof,
    SchemeResult,
    Session,
    Trial,
    UnknownLatency,
    Verified,
)
from edgedistill.config import BuildConfig
from edgedistill.describing import Finding, _budget_that_would_do, _constraints, _notes, _verdict
from edgedistill.results import AccuracyLimit, LatencyLimit, MemoryLimit, SizeLimit
from edgedistill.selection.search import Outcome
from edgedistill.specs import Budget, Goal, Percentile, Precision, QuantScheme, StudentSpec
from edgedistill.winner_files import _over, _why_left_out
from edgedistill.workbench import ProcessorSpeed

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
    verdict = _verdict(finding(bench()), 6.25, 6.25, 6.5)
    assert verdict == (
        "Budget of 5.00 ms at p99 not met: the fastest student measured 6.25 ms. A budget of 6.50 ms would do."
    )


def test_a_budget_is_not_blamed_for_another_limit() -> None:
    slow = _verdict(finding(bench()), 2.0, 6.25, 6.5)
    assert slow == (
        "Budget of 5.00 ms at p99 not met: the fastest student that keeps the other limits measured 6.25 ms. "
        "A budget of 6.50 ms would do."
    )
    none = _verdict(finding(bench()), 2.0, None, None)
    assert none == (
        "No student keeps the limits beside the budget of 5.00 ms at p99; the fastest one measured 2.00 ms; the trials say "
        "what each lacked."
    )


def sampled(store: Path, latency_ms: float, **changes: Any) -> SchemeResult:
    """A file with a profile in the cache at `store`, all of whose runs took so long."""
    key = f"{latency_ms}"
    session = Session(
        samples_ns=(round(latency_ms * 1e6),) * 100,
        warmup_runs=1,
        load_ms=1.0,
        peak_memory_bytes=1,
        model_memory_bytes=1,
        drift=0.0,
        noisy=False,
    )
    profile = Profile(
        artifact_sha256=key,
        target="board",
        precision=Precision.FP32,
        environment=make_environment(),
        sessions=(session,),
        op_timings=(),
    )
    (store / key).mkdir(parents=True)
    (store / key / "profile.json").write_text(profile.model_dump_json())
    return file(Precision.FP32, latency_ms).model_copy(update={"profile": key, **changes})


def test_the_budget_that_would_do_is_a_larger_one_of_a_file_that_keeps_the_other_limits(tmp_path: Path) -> None:
    goal = Goal(budget=Budget(latency_ms=5.0, percentile=Percentile.P50), min_accuracy=0.9)
    weak = Verified(parity=Parity(max_abs_error=0.0, top1_agreement=1.0, images=10), accuracy_validation=0.8)
    files = (sampled(tmp_path, 2.0, verification=weak), sampled(tmp_path, 6.0, verification=weak))
    good = (sampled(tmp_path, 4.0), sampled(tmp_path, 9.0), sampled(tmp_path, 7.0))
    store = SimpleNamespace(find=lambda stage, key: tmp_path / key)
    own_bench: Any = SimpleNamespace(store=store, min_samples=5)

    def would_do(*schemes: SchemeResult) -> float | None:
        trial = Trial(
            number=0,
            spec=StudentSpec(family="resnet", width=1.0, depth=1.0, resolution=16),
            parameters=1,
            multiply_adds=1,
            predicted=UnknownLatency(reason="none", device="d"),
            schemes=schemes,
            state="over_budget",
            reason="",
        )
        return _budget_that_would_do(own_bench, Outcome(None, (trial,), (), 0, ""), goal)

    assert would_do(*files) is None
    assert would_do(*files, *good) == pytest.approx(7.0)


def test_where_nothing_was_measured_no_budget_is_offered() -> None:
    verdict = _verdict(finding(bench()), None, None, None)
    assert "No candidate could be measured against the budget of 5.00 ms at p99" in verdict
    assert "would do" not in verdict


def test_of_several_targets_no_single_budget_is_offered() -> None:
    verdict = _verdict(finding(bench(), together=True), 6.25, 6.25, None)
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
    found = finding(bench("not attached", "plug it in."), winner=SimpleNamespace())
    assert _verdict(found, None, None, None) == "Not measured: not attached. To measure: plug it in."


def test_unmeasured_without_a_student_says_that_too() -> None:
    nobody = finding(bench("not attached", "plug it in."))
    assert _verdict(nobody, None, None, None) == (
        "Not measured: not attached. There is no student either; the trials say why."
    )
    together = finding(bench("not attached"), together=True)
    assert "There is no student that keeps every limit on board, phone either" in _verdict(together, None, None, None)


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
    goal = Goal(budget=fast_teacher)
    assert _why_left_out(CONFIG, other, widest, goal, proven=True) == ""
    found = _why_left_out(CONFIG, other, widest, goal, proven=False)
    assert (why in found) if why else not found


def test_a_file_that_is_known_to_break_another_limit_is_not_shipped() -> None:
    def why(made: SchemeResult, **limits: Any) -> str:
        return _why_left_out(CONFIG, made, None, Goal(budget=BUDGET, **limits), proven=False)

    made = file(Precision.FP32, 2.0)
    assert why(made, max_bytes=99) == "100 B in fp32, at most 99 B are allowed"
    assert why(made, min_accuracy=0.95) == "90.00% of the validation split in fp32, at least 95.00% are wanted"
    assert why(made, max_bytes=100, min_accuracy=0.9) == ""
    heavy = made.model_copy(update={"peak_memory_bytes": 6_000})
    assert "5.9 KiB of peak memory in fp32" in why(heavy, max_memory_bytes=5_000)
    # What is unknown of it breaks no limit.
    unrun = made.model_copy(update={"verification": Inspected(reason="no such device", checks=())})
    assert why(unrun, min_accuracy=0.95, max_memory_bytes=1) == ""


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


def test_runs_that_a_proof_set_aside_are_told() -> None:
    proven = Proof(
        artifact_sha256="a",
        sessions=2,
        samples_per_session=(100, 100),
        set_aside_per_session=(1_000, 41),
        ranks=(99, 99),
        bounds_ms=(4.5, 4.9),
        pause_s=1.0,
        met=True,
    )
    quiet = proven.model_copy(update={"set_aside_per_session": (0, 0)})

    def told(proof: Proof) -> tuple[str, ...]:
        outcome: Any = SimpleNamespace(winner=SimpleNamespace(proof=proof), probes=0, attempts=())
        at: Any = SimpleNamespace(not_measurable="", speed=ProcessorSpeed())
        return _notes(
            Finding(at, "board", {"board": Goal(budget=BUDGET)}, {"board": outcome}, build_key="k", began=0.0)
        )

    assert told(quiet) == ()
    assert told(proven) == ("1,041 runs are set aside in the proof: the processor was at another speed meanwhile",)


def test_where_nothing_won_no_limit_is_said_to_be_kept() -> None:
    found = _constraints(finding(None, **LIMITS))
    assert [limit.kind for limit in found] == ["latency", "size", "memory", "accuracy"]
    assert all(limit.kept is None for limit in found)
