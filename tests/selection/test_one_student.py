"""One student for several targets: it keeps the limits of all, and each of its files is proven on its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from made_up_lab import PLAN, MadeUpLab, answering_file, made_candidate, made_file, made_student

from edgedistill.base.errors import TrialFailure
from edgedistill.devices.latency.model import Row
from edgedistill.devices.proof import FINALISTS
from edgedistill.documents.artifacts import Rung, SchemeResult
from edgedistill.documents.measurements import Proof, UnknownLatency
from edgedistill.documents.specs import Budget, Goal, Objective, Percentile, Precision, StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.propose import Proposal
from edgedistill.selection.running_trial import RunningTrial
from edgedistill.selection.search import Search, Settings
from edgedistill.selection.study import Study
from edgedistill.selection.warm_start import Known, KnownFile

SETTINGS = Settings(probes=4, candidates=6, rungs=(2, 4), keep=0.5, trials=40)
SPACE = [
    made_candidate(f, 0.1 * n, 1000 * n, resolution)
    for f, resolution in (("convnext", 16), ("resnet", 16))
    for n in range(1, 11)
]


def quality(spec: StudentSpec, rung: int) -> float:
    return 0.60 + 0.15 * spec.width + (0.04 if spec.family == "resnet" else 0.0) + 0.05 * rung


def files_at(factors: dict[str, float]) -> Any:
    """Files that take `factor` ms a tenth of width."""

    def files(spec: StudentSpec) -> Sequence[SchemeResult]:
        return [made_file("fp32", quality(spec, 1), factors[spec.family] * spec.width * 10)]

    return files


def target(name: str, budget_ms: float, lab: MadeUpLab, **goal: Any) -> OnTarget:
    lab.device = name
    return OnTarget(lab, Goal(budget=Budget(latency_ms=budget_ms, percentile=Percentile.P95), **goal))


def search_of(folder: Path, *targets: OnTarget, known: Known | None = None) -> Search:
    study = Study(folder / "study.journal", "build", [c.spec for c in SPACE], folder / "turn")
    return Search(targets, SETTINGS, SPACE, study, known or Known())


def test_the_winner_keeps_the_budgets_of_all(tmp_path: Path) -> None:
    # The phone is quick at convnext, the board at resnet: what is best for one is too slow for the other.
    phone = target("phone", 8.0, MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 2.0})))
    board = target("board", 6.0, MadeUpLab(quality, files_at({"convnext": 2.0, "resnet": 1.0})))
    outcomes = search_of(tmp_path, phone, board).run()
    winners = {name: outcome.winner for name, outcome in outcomes.items()}
    assert set(winners) == {"phone", "board"}
    specs = {winner.trial.spec for winner in winners.values() if winner}
    # convnext fits both up to 0.3, resnet up to 0.4: that is the largest, and resnet is the more accurate.
    (spec,) = specs
    assert (spec.family, spec.width) == ("resnet", pytest.approx(0.4))
    for name, winner in winners.items():
        assert winner is not None and winner.proof is not None and winner.scheme is not None
        assert winner.proof.met and winner.proof.artifact_sha256 == winner.scheme.artifact.sha256
        (shipped,) = outcomes[name].trials[winner.trial.number].schemes
        assert (shipped.artifact, shipped.proof) == (winner.scheme.artifact, winner.proof)
    # Each alone would have taken another one.
    alone = search_of(tmp_path / "alone", phone).run()["phone"].winner
    assert alone is not None and (alone.trial.spec.family, alone.trial.spec.width) != ("resnet", pytest.approx(0.4))


def test_the_files_of_each_target_stand_with_that_target_alone(tmp_path: Path) -> None:
    phone = target("phone", 8.0, MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 1.5})))
    board = target("board", 8.0, MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 1.0})))
    outcomes = search_of(tmp_path, phone, board).run()
    for on_phone, on_board in zip(outcomes["phone"].trials, outcomes["board"].trials, strict=True):
        assert (on_phone.number, on_phone.spec, on_phone.state) == (on_board.number, on_board.spec, on_board.state)
        if on_phone.spec.family == "resnet" and on_phone.schemes and on_board.schemes:
            assert on_phone.schemes[0].latency != on_board.schemes[0].latency


def test_training_is_done_once_for_all(tmp_path: Path) -> None:
    first = MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 1.0}))
    second = MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 1.0}))
    search_of(tmp_path, target("first", 5.0, first), target("second", 5.0, second)).run()
    assert len(set(first.asked)) == len(first.asked) > 0
    assert second.asked == []
    assert second.realised and set(second.realised) <= set(first.realised)


def finalist(number: int, quality: float, **files: Sequence[SchemeResult]) -> RunningTrial:
    candidate: Candidate = SPACE[number]
    unknown = {name: UnknownLatency(reason="none", device=name) for name in files}
    rungs = [Rung(rung=0, epochs=2, quality_validation=quality)]
    trained = made_student(candidate.spec, quality)
    schemes = {name: tuple(of) for name, of in files.items() if of}
    return RunningTrial(Proposal(candidate, unknown, None), number, rungs, trained, schemes=schemes, trained_out=True)


def proving(folder: Path, labs: dict[str, MadeUpLab], *running_trials: RunningTrial, **goal: Any) -> Search:
    search = search_of(folder, *(target(name, 5.0, lab, **goal) for name, lab in labs.items()))
    search.running_trials = list(running_trials)
    return search


def test_where_one_target_refuses_a_file_the_next_student_is_taken(tmp_path: Path) -> None:
    best_phone, best_board = made_file("fp32", 0.95, 4.0), made_file("fp32", 0.95, 4.9)
    next_phone, next_board = made_file("fp32", 0.92, 3.0), made_file("fp32", 0.92, 3.5)
    labs = {"phone": MadeUpLab(), "board": MadeUpLab(sessions_ms={best_board.artifact.sha256: [5.1]})}
    best = finalist(0, 0.95, phone=[best_phone], board=[best_board])
    search = proving(tmp_path, labs, best, finalist(1, 0.92, phone=[next_phone], board=[next_board]))
    winners = search.proving.prove()
    assert {name: winner.scheme for name, winner in winners.items()} == {"phone": next_phone, "board": next_board}
    assert best.state == "over_budget" and best.reason.startswith("board: fp32 is not proven: in 3 sessions")
    assert [len(on.attempts) for on in search.targets] == [0, 1]
    on_phone, on_board = search.goals["phone"], search.goals["board"]
    assert on_phone.limit_ms == pytest.approx(5.0) and on_board.limit_ms < 4.9, "lowered where the proof was not met"


@pytest.mark.parametrize("on_phone", [0, 1, 2, FINALISTS])
def test_as_many_students_may_fail_as_were_planned_on_all_targets_together(tmp_path: Path, on_phone: int) -> None:
    """Each student that is tried takes its part of each target's alpha: the first ones fail on the phone, the others on
    the board, and there are no more of them than the plan shares alpha among."""
    files = [made_file("fp32", 0.95 - 0.01 * n, 4.0 - 0.5 * n) for n in range(7)]
    late = {file.artifact.sha256: [5.1] for file in files}
    labs = {
        "phone": MadeUpLab(sessions_ms=dict(list(late.items())[:on_phone])),
        "board": MadeUpLab(sessions_ms=dict(list(late.items())[on_phone:])),
    }
    students = [finalist(n, 0.95 - 0.01 * n, phone=[file], board=[file]) for n, file in enumerate(files)]
    search = proving(tmp_path, labs, *students)
    assert search.proving.prove() == {} and search.proving.exhausted
    assert [len(on.attempts) for on in search.targets] == [on_phone, FINALISTS - on_phone]
    assert len(labs["phone"].proven) == FINALISTS == PLAN.finalists


def test_every_file_of_a_student_meets_every_file_on_the_other_target(tmp_path: Path) -> None:
    phone = [made_file("fp32", 0.95, 4.0), made_file("int8", 0.94, 2.0)]
    board = [made_file("fp32", 0.95, 4.1), made_file("int8", 0.93, 2.1)]
    search = proving(
        tmp_path, {"phone": MadeUpLab(), "board": MadeUpLab()}, finalist(0, 0.95, phone=phone, board=board)
    )
    pairs = [(f.files["phone"].scheme.label, f.files["board"].scheme.label) for f in search.finalists]
    assert pairs[0] == ("fp32", "fp32") and sorted(pairs) == sorted(product(("fp32", "int8"), repeat=2))


def test_a_student_within_the_margin_on_one_target_alone_does_not_win(tmp_path: Path) -> None:
    """On the phone it is as good as the most accurate and faster; on the board its file loses two points."""
    images = 10_000

    def file(wrong: int, p95_ms: float) -> SchemeResult:
        return answering_file("fp32", images, range(wrong), p95_ms)

    best = finalist(0, 0.97, phone=[file(300, 4.0)], board=[file(300, 4.0)])
    uneven = finalist(1, 0.97, phone=[file(305, 2.0)], board=[file(500, 2.0)])
    even = finalist(2, 0.97, phone=[file(305, 3.0)], board=[file(310, 3.0)])
    labs = {"phone": MadeUpLab(), "board": MadeUpLab()}
    assert {w.trial.number for w in proving(tmp_path / "a", labs, best, uneven).proving.prove().values()} == {0}
    assert {w.trial.number for w in proving(tmp_path / "b", labs, best, uneven, even).proving.prove().values()} == {2}


def test_the_least_accurate_of_its_files_ranks_a_student(tmp_path: Path) -> None:
    uneven = finalist(0, 0.96, phone=[made_file("fp32", 0.96, 4.0)], board=[made_file("int8", 0.80, 4.0)])
    even = finalist(1, 0.90, phone=[made_file("fp32", 0.90, 4.0)], board=[made_file("fp32", 0.90, 4.0)])
    winners = proving(tmp_path, {"phone": MadeUpLab(), "board": MadeUpLab()}, uneven, even).proving.prove()
    assert {winner.trial.number for winner in winners.values()} == {1}
    assert "phone: 96.00%" in uneven.reason and "board: 80.00%" in uneven.reason


def test_turned_round_the_largest_share_of_a_budget_ranks_a_student(tmp_path: Path) -> None:
    uneven = finalist(0, 0.96, phone=[made_file("fp32", 0.96, 1.0)], board=[made_file("fp32", 0.96, 4.5)])
    even = finalist(1, 0.96, phone=[made_file("fp32", 0.96, 3.0)], board=[made_file("fp32", 0.96, 3.0)])
    labs = {"phone": MadeUpLab(), "board": MadeUpLab()}
    search = proving(tmp_path, labs, uneven, even, objective=Objective.LATENCY, min_quality=0.9)
    assert [prospect.aim.limit_ms for prospect in search.prospects()] == [3.0, 3.0]
    assert {winner.trial.number for winner in search.proving.prove().values()} == {1}


def test_a_student_without_a_file_for_one_target_is_none(tmp_path: Path) -> None:
    only = finalist(0, 0.96, phone=[made_file("fp32", 0.96, 1.0)], board=[])
    assert proving(tmp_path, {"phone": MadeUpLab(), "board": MadeUpLab()}, only).proving.prove() == {}


def test_a_target_that_is_not_attached_takes_part_unproven(tmp_path: Path) -> None:
    only = finalist(0, 0.96, phone=[], board=[made_file("fp32", 0.96, 1.0)])
    winners = proving(tmp_path, {"phone": MadeUpLab(measurable=False), "board": MadeUpLab()}, only).proving.prove()
    assert winners["phone"].scheme is None and winners["phone"].proof is None
    assert winners["board"].proof is not None and winners["board"].proof.met


def test_a_target_that_is_lost_at_the_proof_takes_part_unproven(tmp_path: Path) -> None:
    class Unplugged(MadeUpLab):
        def prove(self, *asked: Any) -> Proof:
            self.measurable = False
            raise TrialFailure("unplugged")

    labs = {"phone": MadeUpLab(), "board": Unplugged()}
    only = finalist(0, 0.96, phone=[made_file("fp32", 0.96, 1.0)], board=[made_file("fp32", 0.96, 1.0)])
    search = proving(tmp_path, labs, only)
    winners = search.proving.prove()
    assert winners["board"].scheme is None and winners["board"].proof is None
    assert winners["phone"].proof is not None and winners["phone"].proof.met
    assert only.reason == "phone: proven inside the budget in fp32"


@pytest.mark.parametrize(("times", "probes"), [(1, 0), (1000, 4)])
def test_what_is_known_of_other_sizes_saves_no_probe(tmp_path: Path, times: int, probes: int) -> None:
    lab = MadeUpLab(quality, files_at({"convnext": 1.0, "resnet": 1.0}))
    alone = target("board", 5.0, lab)
    for number in range(1, 9):
        known = made_candidate("resnet", 0.1 * number, times * 1000 * number)
        alone.measurements.add(Row(known.structure, 1.0), Precision.FP32, None, None)
    alone.probe(SPACE, 4)
    assert alone.probes == probes


def test_what_is_known_goes_to_the_target_that_it_was_measured_on(tmp_path: Path) -> None:
    rows = [
        KnownFile(
            target="board",
            precision=Precision.FP32,
            structure=candidate.structure,
            latency_ms=1.0,
            bytes=10,
            peak_memory_bytes=10,
        )
        for candidate in SPACE[:4]
    ]
    phone, board = target("phone", 5.0, MadeUpLab()), target("board", 5.0, MadeUpLab())
    search = search_of(tmp_path, phone, board, known=Known(files=tuple(rows)))
    search.remember()
    assert (phone.measurements.latency, len(board.measurements.latency[Precision.FP32])) == ({}, 4)
