"""The loop's decisions on made-up measurements: who is promoted, who is proven, and what each trial says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_artifact

from edgedistill.artifacts import (
    MeasuredLatency,
    Parity,
    Proof,
    Rung,
    SchemeResult,
    TrainedStudent,
    UnknownLatency,
    Verified,
)
from edgedistill.config import BuildConfig
from edgedistill.loop import Contender, Search
from edgedistill.search.propose import Proposal
from edgedistill.search.study import Study
from edgedistill.specs import Budget, Percentile, Precision, QuantScheme, StudentSpec
from edgedistill.students.space import Candidate
from edgedistill.students.structure import Structure

BUDGET = Budget(latency_ms=5.0, percentile=Percentile.P95)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def scheme(precision: str, accuracy: float, p95_ms: float, dropped: str = "") -> SchemeResult:
    quant = QuantScheme(precision=Precision(precision))
    artifact = make_artifact(Precision(precision), sha256=f"{precision} {accuracy} {p95_ms}")
    parity = Parity(max_abs_error=0.0, top1_agreement=1.0, images=10)
    return SchemeResult(
        scheme=quant,
        artifact=artifact,
        verification=Verified(parity=parity, accuracy_validation=accuracy),
        latency=MeasuredLatency(p50_ms=p95_ms / 2, p95_ms=p95_ms, p99_ms=p95_ms, samples=100, device="a CPU"),
        dropped=dropped,
    )


def contender(number: int, accuracy: float, *schemes: SchemeResult) -> Contender:
    spec = StudentSpec(family="resnet", width=WIDTHS[number], depth=1.0, resolution=16)
    structure = Structure(parameters=10, multiply_adds=100 * (number + 1), activation_bytes=10, totals=())
    proposal = Proposal(Candidate(spec=spec, structure=structure), UnknownLatency(reason="none", device="host"), None)
    trained = TrainedStudent(
        spec=spec, weights=Path("w"), epochs=4, total_epochs=4, accuracy_validation=accuracy, train_seconds=1.0
    )
    rungs = [Rung(rung=0, epochs=4, accuracy_validation=accuracy)]
    return Contender(proposal, number, rungs=rungs, trained=trained, schemes=schemes)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """A search whose device is there, with a real study and no candidates of its own."""
    config = BuildConfig.model_validate({"budget": "5ms", "teacher": {"model": "timm:resnet18"}})
    notes: list[str] = []
    store = SimpleNamespace(listener=lambda event: notes.append(event.text))
    bench: Any = SimpleNamespace(config=config, device=object(), not_measurable="", store=store, notes=notes)
    specs = [StudentSpec(family="resnet", width=w, depth=1.0, resolution=16) for w in WIDTHS]
    study = Study(tmp_path, "build", specs)
    for spec in specs:
        study.ask(spec)
    return Search(bench, None, BUDGET, (), study, plausible_multiply_adds=1e9)  # type: ignore[arg-type]


def decide(monkeypatch: pytest.MonkeyPatch, search: Search, bounds_ms: dict[str, float]) -> list[str]:
    """Puts stated bounds in the place of three measured sessions; the files in the order in which they were tried."""
    tried: list[str] = []

    def attempt(contender: Contender, result: SchemeResult) -> Proof:
        sha256 = result.artifact.sha256
        tried.append(sha256)
        bound = bounds_ms.get(sha256, 1.0)
        return Proof(
            artifact_sha256=sha256,
            sessions=3,
            samples_per_session=(100,) * 3,
            ranks=(99,) * 3,
            bounds_ms=(bound,) * 3,
            pause_s=0.0,
            met=bound <= BUDGET.latency_ms,
        )

    monkeypatch.setattr(search, "attempt", attempt)
    return tried


def test_the_most_accurate_file_inside_the_budget_wins(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    # The torch model of 1 is the better one, but its only file inside the budget is not.
    first = contender(0, 0.90, scheme("fp32", 0.90, 4.0), scheme("int8", 0.89, 2.0))
    second = contender(1, 0.95, scheme("fp32", 0.95, 6.0), scheme("int8", 0.88, 3.0))
    tried = decide(monkeypatch, search, {})
    winner = search.prove([second, first])
    assert winner is not None and winner.scheme is not None and winner.proof is not None
    assert tried == ["fp32 0.9 4.0"] == [winner.scheme.artifact.sha256] == [winner.proof.artifact_sha256]
    assert winner.trial.state == "complete"
    assert "88.00%" in second.reason and "90.00%" in second.reason


def test_of_equals_the_faster_file_wins(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(monkeypatch, search, {})
    winner = search.prove([contender(0, 0.9, scheme("fp32", 0.9, 4.0), scheme("int8", 0.9, 2.0))])
    assert winner is not None and winner.scheme is not None
    assert winner.scheme.scheme.precision is Precision.INT8


def test_where_the_proof_fails_the_next_file_is_tried(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    best, next_best = scheme("fp32", 0.95, 4.9), scheme("int8", 0.92, 3.0)
    tried = decide(monkeypatch, search, {best.artifact.sha256: 5.1})
    winner = search.prove([contender(0, 0.95, best), contender(1, 0.92, next_best)])
    assert tried == [best.artifact.sha256, next_best.artifact.sha256]
    assert winner is not None and winner.scheme == next_best
    assert [a.bounds_ms for a in search.attempts] == [(5.1,) * 3]


def test_a_dropped_precision_is_not_tried(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = decide(monkeypatch, search, {})
    search.prove([contender(0, 0.95, scheme("fp32", 0.9, 4.0), scheme("int8", 0.95, 1.0, dropped="does not pay"))])
    assert tried == ["fp32 0.9 4.0"]


def test_where_no_proof_holds_nobody_wins(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    only = scheme("fp32", 0.95, 4.9)
    decide(monkeypatch, search, {only.artifact.sha256: 5.2})
    one = contender(0, 0.95, only)
    assert search.prove([one]) is None
    assert one.state == "over_budget"
    assert "fails the acceptance rule" in one.reason and "5.20 ms" in one.reason


def test_past_the_first_rung_goes_only_what_was_measured_inside_the_budget(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {0: scheme("fp32", 0.7, 3.0), 1: scheme("fp32", 0.9, 6.0), 2: scheme("fp32", 0.8, 4.0)}
    monkeypatch.setattr("edgedistill.loop.source_of", lambda bench, trained: trained)
    number_of = {WIDTHS[n]: n for n in files}
    monkeypatch.setattr(
        "edgedistill.loop.realise", lambda bench, trained, views: (files[number_of[trained.spec.width]],)
    )
    pool = [contender(0, 0.7), contender(1, 0.9), contender(2, 0.8), contender(3, 0.6)]
    promoted = search.promote(pool, 0, 2)
    assert [c.number for c in promoted] == [2, 0]
    assert (pool[1].state, pool[1].reason) == ("over_budget", "measured p95 6.00 ms in fp32, budget 5.00 ms")
    assert pool[3].state == "pruned" and "60.0% at rung 0" in pool[3].reason
    assert not pool[3].schemes, "what is pruned costs no measurement"
    # Every measurement, inside the budget or not, taught the latency model.
    assert [row.latency_ms for row in search.rows[Precision.FP32]] == [6.0, 4.0, 3.0]


def test_without_a_device_the_most_accurate_is_chosen_and_not_proven(search: Search) -> None:
    search.bench.device = None
    winner = search.prove([contender(0, 0.7), contender(1, 0.9)])
    assert winner is not None
    assert (winner.trial.number, winner.scheme, winner.proof) == (1, None, None)
