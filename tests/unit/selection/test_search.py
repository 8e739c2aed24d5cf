"""The search's decisions on made-up measurements: who is promoted, who is proven, when it stops, what each trial says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_up_lab import MadeUpLab, made_candidate, made_file, made_student
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edgedistill.artifacts import Proof, Rung, SchemeResult, UnknownLatency
from edgedistill.errors import TrialFailure
from edgedistill.selection.contender import Contender, Winner
from edgedistill.selection.expect import Measurements
from edgedistill.selection.lab import Figures
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.propose import Proposal
from edgedistill.selection.search import Outcome, Search, Settings
from edgedistill.selection.study import Study
from edgedistill.specs import Budget, Goal, Objective, Percentile, Precision
from edgedistill.students.space import Candidate

DEVICE = MadeUpLab.device
BUDGET = Budget(latency_ms=5.0, percentile=Percentile.P95)
SETTINGS = Settings(probes=4, candidates=4, rungs=(2, 4), keep=0.5, trials=12)
FOUR = [made_candidate("resnet", 0.25 * n, 100 * n) for n in (1, 2, 3, 4)]


def search_of(
    folder: Path, lab: MadeUpLab, candidates: Sequence[Candidate] = FOUR, goal: Goal | None = None, **settings: Any
) -> Search:
    study = Study(folder / "study.journal", "build", [c.spec for c in candidates], folder / "turn")
    chosen = Settings(**{**vars(SETTINGS), **settings})
    return Search([OnTarget(lab, goal or Goal(budget=BUDGET))], chosen, candidates, study)


def run(search: Search) -> Outcome:
    """The outcome on its one target."""
    (outcome,) = search.run().values()
    return outcome


def prove(search: Search) -> Winner | None:
    return search.proving.prove().get(DEVICE)


def contender(number: int, accuracy: float, *files: SchemeResult, trained_out: bool = True) -> Contender:
    candidate = FOUR[number]
    proposal = Proposal(candidate, {DEVICE: UnknownLatency(reason="none", device=DEVICE)}, None)
    rungs = [Rung(rung=0, epochs=2, accuracy_validation=accuracy)]
    trained = made_student(candidate.spec, accuracy)
    return Contender(
        proposal, number, rungs, trained, schemes={DEVICE: files} if files else {}, trained_out=trained_out
    )


def proving(folder: Path, *contenders: Contender, bounds_ms: dict[str, float] | None = None, **goal: Any) -> Search:
    """A search whose finalists are there already."""
    search = search_of(folder, MadeUpLab(bounds_ms=bounds_ms or {}), goal=Goal(budget=BUDGET, **goal))
    search.contenders = list(contenders)
    return search


def proven(search: Search) -> list[str]:
    lab = search.targets[0].lab
    assert isinstance(lab, MadeUpLab)
    return lab.proven


# -- the proof ------------------------------------------------------------------------------------------------------


def test_the_most_accurate_file_inside_the_budget_wins(tmp_path: Path) -> None:
    # The torch model of 1 is the better one, but its only file inside the budget is not.
    first = contender(0, 0.90, made_file("fp32", 0.90, 4.0), made_file("int8", 0.89, 2.0))
    second = contender(1, 0.95, made_file("fp32", 0.95, 6.0), made_file("int8", 0.88, 3.0))
    search = proving(tmp_path, first, second)
    winner = prove(search)
    assert winner is not None and winner.scheme is not None and winner.proof is not None
    assert proven(search) == ["fp32 0.9 4.0"] == [winner.scheme.artifact.sha256] == [winner.proof.artifact_sha256]
    assert winner.trial.state == "complete"
    assert "88.00%" in second.reason and "90.00%" in second.reason


def test_of_equals_the_faster_file_wins(tmp_path: Path) -> None:
    search = proving(tmp_path, contender(0, 0.9, made_file("fp32", 0.9, 4.0), made_file("int8", 0.9, 2.0)))
    winner = prove(search)
    assert winner is not None and winner.scheme is not None
    assert winner.scheme.scheme.precision is Precision.INT8


def test_turned_round_the_fastest_file_that_is_accurate_enough_wins(tmp_path: Path) -> None:
    files = made_file("fp32", 0.93, 4.0), made_file("int8", 0.91, 2.0), made_file("fp16", 0.89, 1.0)
    search = proving(tmp_path, contender(0, 0.9, *files), objective=Objective.LATENCY, min_accuracy=0.9)
    winner = prove(search)
    assert winner is not None and winner.scheme is not None
    assert winner.scheme.scheme.precision is Precision.INT8


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"max_bytes": 1500}, "2.0 KiB in fp32, at most 1.5 KiB are allowed"),
        ({"max_memory_bytes": 10_000}, "19.5 KiB of peak memory in fp32, at most 9.8 KiB are allowed"),
        ({"min_accuracy": 0.97}, "95.00% of the validation split in fp32, at least 97.00% are wanted"),
    ],
)
def test_a_file_outside_any_limit_does_not_win(tmp_path: Path, limit: dict[str, Any], told: str) -> None:
    outside = contender(0, 0.95, made_file("fp32", 0.95, 4.0, bytes=2000, memory=20_000))
    inside = contender(1, 0.98, made_file("fp32", 0.98, 4.9, bytes=1200, memory=9_000))
    search = proving(tmp_path, outside, inside, **limit)
    winner = prove(search)
    assert winner is not None and winner.scheme is not None
    assert winner.scheme.artifact.sha256 == "fp32 0.98 4.9"
    assert outside.why_not_fitting(DEVICE, search.targets[0].goal) == told


def test_memory_that_nobody_measured_keeps_no_limit(tmp_path: Path) -> None:
    only = contender(0, 0.95, made_file("fp32", 0.95, 4.0))
    search = proving(tmp_path, only, max_memory_bytes=10_000)
    assert prove(search) is None
    assert "peak memory that is not measured" in only.why_not_fitting(DEVICE, search.targets[0].goal)


def test_where_the_proof_fails_the_next_file_is_tried(tmp_path: Path) -> None:
    best, next_best = made_file("fp32", 0.95, 4.9), made_file("int8", 0.92, 3.0)
    search = proving(
        tmp_path, contender(0, 0.95, best), contender(1, 0.92, next_best), bounds_ms={best.artifact.sha256: 5.1}
    )
    winner = prove(search)
    assert proven(search) == [best.artifact.sha256, next_best.artifact.sha256]
    assert winner is not None and winner.scheme == next_best
    assert [a.bounds_ms for a in search.targets[0].attempts] == [(5.1,) * 3]


def test_a_dropped_precision_is_not_tried(tmp_path: Path) -> None:
    dropped = made_file("int8", 0.95, 1.0, dropped="does not pay")
    search = proving(tmp_path, contender(0, 0.95, made_file("fp32", 0.9, 4.0), dropped))
    prove(search)
    assert proven(search) == ["fp32 0.9 4.0"]


def test_where_no_proof_holds_nobody_wins(tmp_path: Path) -> None:
    only = made_file("fp32", 0.95, 4.9)
    one = contender(0, 0.95, only)
    search = proving(tmp_path, one, bounds_ms={only.artifact.sha256: 5.2})
    assert prove(search) is None
    assert one.state == "over_budget"
    assert "fails the acceptance rule" in one.reason and "5.20 ms" in one.reason
    assert prove(search) is None and len(proven(search)) == 1, "a file that failed is not proven again"


def test_without_a_device_the_most_accurate_is_chosen_and_not_proven(tmp_path: Path) -> None:
    search = search_of(tmp_path, MadeUpLab(measurable=False))
    search.contenders = [contender(0, 0.7), contender(1, 0.9)]
    winner = prove(search)
    assert winner is not None
    assert (winner.trial.number, winner.scheme, winner.proof) == (1, None, None)


# -- brackets -------------------------------------------------------------------------------------------------------


def test_past_the_first_rung_goes_only_what_was_measured_inside_the_budget(tmp_path: Path) -> None:
    files = [made_file("fp32", 0.7, 3.0), made_file("fp32", 0.9, 6.0), made_file("fp32", 0.8, 4.0)]
    by_spec = {FOUR[n].spec: file for n, file in enumerate(files)}
    search = search_of(tmp_path, MadeUpLab(files=lambda spec: [by_spec[spec]]))
    for candidate in FOUR:
        search.study.ask(candidate.spec)
    pool = [contender(n, a, trained_out=False) for n, a in enumerate((0.7, 0.9, 0.8, 0.6))]
    promoted = search.promote(pool, 0, 2)
    assert [c.number for c in promoted] == [2, 0]
    assert (pool[1].state, pool[1].reason) == ("over_budget", "measured p95 6.00 ms in fp32, budget 5.00 ms")
    assert pool[3].state == "pruned" and "60.0% at rung 0" in pool[3].reason
    assert not pool[3].schemes, "what is pruned costs no measurement"
    # Every measurement, inside the budget or not, taught the latency model.
    assert [row.latency_ms for row in search.targets[0].measurements.latency[Precision.FP32]] == [6.0, 4.0, 3.0]


def space(count: int) -> list[Candidate]:
    """Three families; latency grows with size, accuracy with size and family."""
    return [made_candidate(f, 0.1 * n, 1000 * n) for f in ("convnext", "repvgg", "resnet") for n in range(1, count + 1)]


def lawful_lab(**options: Any) -> MadeUpLab:
    """Latency is a millisecond a thousand multiply-adds; of one size, repvgg is 4 points better than resnet and resnet than
    convnext."""
    gain = {"convnext": 0.0, "resnet": 0.04, "repvgg": 0.08}

    def accuracy(candidate: Any, rung: int) -> float:
        return 0.60 + 0.015 * candidate.width * 10 + gain[candidate.family] + 0.05 * rung

    def files(spec: Any) -> list[SchemeResult]:
        return [made_file("fp32", accuracy(spec, 1), spec.width * 10)]

    return MadeUpLab(accuracy=accuracy, files=files, **options)


def test_the_best_student_of_a_lawful_space_is_found(tmp_path: Path) -> None:
    lab = lawful_lab()
    outcome = run(search_of(tmp_path, lab, space(10), trials=30))
    assert outcome.winner is not None
    assert outcome.winner.trial.spec.family == "repvgg" and outcome.winner.trial.spec.width == pytest.approx(0.5)
    assert len(outcome.trials) < 20, "that took less than trying all"
    assert outcome.stopped == "no untried candidate is likely enough to do better"


def test_no_more_candidates_than_trials_are_begun(tmp_path: Path) -> None:
    outcome = run(search_of(tmp_path, lawful_lab(), space(10), trials=5))
    assert len(outcome.trials) == 5
    assert outcome.winner is not None
    assert outcome.stopped == "as many candidates were tried as allowed"


def test_after_its_time_no_further_batch_begins(tmp_path: Path) -> None:
    outcome = run(search_of(tmp_path, lawful_lab(), space(10), seconds=0.0))
    assert len(outcome.trials) <= 4 and outcome.winner is not None
    assert outcome.stopped == "its time was over"


def test_no_student_is_tried_twice(tmp_path: Path) -> None:
    lab = lawful_lab()
    outcome = run(search_of(tmp_path, lab, space(10), trials=30))
    specs = [trial.spec for trial in outcome.trials]
    assert len(set(specs)) == len(specs)
    assert len(set(lab.asked)) == len(lab.asked)


def halving(folder: Path, sign: int, bound_ms: float) -> tuple[Search, MadeUpLab]:
    """Four students of 1, 2, 3 and 4 ms of which two are measured and one comes to the last rung: the largest with `sign` 1,
    the smallest with -1. The proof finds it at `bound_ms`."""

    def accuracy(spec: Any, rung: int) -> float:
        return 0.7 + 0.1 * sign * spec.width + 0.05 * rung

    def files(spec: Any) -> list[SchemeResult]:
        return [made_file("fp32", accuracy(spec, 2), spec.width * 4)]

    (file,) = files(FOUR[3 if sign > 0 else 0].spec)
    lab = MadeUpLab(accuracy, files, {file.artifact.sha256: bound_ms})
    return search_of(folder, lab, rungs=(2, 4, 8), trials=4), lab


def test_where_every_finalist_fails_the_proof_the_pruned_are_taken_up(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, 1, 5.1)
    outcome = run(search)
    assert outcome.winner is not None
    assert [trial.state for trial in outcome.trials if trial.spec.width == 1.0] == ["over_budget"]
    assert outcome.winner.trial.spec.width == 0.75 and outcome.winner.trial.state == "complete"
    assert [rung.epochs for rung in outcome.winner.trial.rungs] == [2, 4, 8]
    assert len(set(lab.asked)) == len(lab.asked), "it is trained on from where it was"
    assert [note for note in lab.notes if "taken up again" in note] == [
        "trial 1: resnet w0.75 d1 @16 was pruned and is taken up again"
    ]


def test_one_that_was_pruned_unmeasured_is_measured_when_those_that_were_fail_too(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, 1, 5.1)
    (second,) = lab.files(FOUR[2].spec)
    lab.bounds_ms = dict(lab.bounds_ms) | {second.artifact.sha256: 5.1}
    outcome = run(search)
    assert outcome.winner is not None
    assert outcome.winner.trial.spec.width == 0.5
    assert len(outcome.attempts) == 2
    assert [note for note in lab.notes if "was pruned" in note][-2:] == [
        "trial 2: resnet w0.5 d1 @16 was pruned unmeasured and is measured now",
        "trial 2: resnet w0.5 d1 @16 was pruned and is taken up again",
    ]


def test_one_that_is_a_little_slower_than_what_failed_the_proof_is_taken_up(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, -1, 5.1)
    lab.files = lambda spec: [made_file("fp32", lab.accuracy(spec, 2), 4 + spec.width / 2)]
    (failing,) = lab.files(FOUR[0].spec)
    lab.bounds_ms = {failing.artifact.sha256: 5.1}
    outcome = run(search)
    assert outcome.winner is not None and outcome.winner.trial.spec.width == 0.5


def test_none_is_taken_up_where_one_is_proven(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, 1, 4.9)
    assert run(search).winner is not None
    assert not any("taken up" in note for note in lab.notes)


def test_one_that_is_slower_than_what_failed_the_proof_stays_pruned(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, -1, 5.1)
    outcome = run(search)
    assert outcome.winner is None
    assert {trial.state for trial in outcome.trials if trial.spec.width > 0.25} == {"pruned"}
    assert not any("taken up" in note for note in lab.notes)


def test_nobody_is_taken_up_who_will_not_be_accurate_enough(tmp_path: Path) -> None:
    lab = lawful_lab()
    outcome = run(search_of(tmp_path, lab, space(10), Goal(budget=BUDGET, min_accuracy=0.99), rungs=(2, 4, 8)))
    assert outcome.winner is None
    measured = [trial for trial in outcome.trials if trial.state == "pruned" and trial.schemes]
    assert measured and all(trial.schemes[0].latency.p95_ms < BUDGET.latency_ms for trial in measured)
    assert not any("taken up" in note for note in lab.notes)


def test_nobody_is_taken_up_when_the_time_is_over(tmp_path: Path) -> None:
    search, lab = halving(tmp_path, 1, 5.1)
    search.settings = replace(search.settings, seconds=0.0)
    assert run(search).winner is None
    assert not any("taken up" in note for note in lab.notes)


def test_turned_round_the_search_goes_for_the_fastest(tmp_path: Path) -> None:
    goal = Goal(budget=BUDGET, objective=Objective.LATENCY, min_accuracy=0.74)
    outcome = run(search_of(tmp_path, lawful_lab(), space(10), goal, trials=30))
    assert outcome.winner is not None and outcome.winner.scheme is not None
    # repvgg reaches 74% from width 0.1 on (0.60 + 0.015 + 0.08 + 0.05), the others are slower there.
    assert (outcome.winner.trial.spec.family, outcome.winner.trial.spec.width) == ("repvgg", pytest.approx(0.1))


def test_turned_round_a_student_has_to_reach_the_accuracy_and_to_beat_nobodys(tmp_path: Path) -> None:
    goal = Goal(budget=BUDGET, objective=Objective.LATENCY, min_accuracy=0.78)
    outcome = run(search_of(tmp_path, lawful_lab(), space(10), goal, trials=30))
    told = [trial.reason for trial in outcome.trials if "unlikely" in trial.reason]
    assert told and all(reason.endswith("unlikely to end at the 78.00% that it would have to reach") for reason in told)


def test_where_nothing_fits_the_fastest_are_measured_before_that_is_said(tmp_path: Path) -> None:
    lab = lawful_lab()
    goal = Goal(budget=Budget(latency_ms=0.01, percentile=Percentile.P95))
    outcome = run(search_of(tmp_path, lab, space(10), goal))
    assert outcome.winner is None
    assert {trial.state for trial in outcome.trials} == {"over_budget"}
    assert min(trial.spec.width for trial in outcome.trials) == pytest.approx(0.1)


def test_where_none_is_accurate_enough_the_largest_that_fit_are_measured_before_that_is_said(tmp_path: Path) -> None:
    lab = lawful_lab()
    goal = Goal(budget=BUDGET, min_accuracy=0.99)
    outcome = run(search_of(tmp_path, lab, space(10), goal))
    assert outcome.winner is None
    assert not any("fit: trying the fastest" in note for note in lab.notes), "many fit"
    (told,) = (number for number, note in enumerate(lab.notes) if "accurate enough: trying the largest" in note)
    later = [note for note in lab.notes[told + 1 :] if note.startswith("trial") and "predicted" in note]
    assert later and not any(" w0.1 " in note for note in later)


def test_what_is_expected_of_the_untried_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_of(tmp_path, lawful_lab(), space(10))
    outcome = run(search)
    fitted = []
    expectations = Measurements.expectations

    def counting(rows: Measurements) -> Any:
        fitted.append(rows)
        return expectations(rows)

    monkeypatch.setattr(Measurements, "expectations", counting)
    assert search.expected(search.targets[0], search.quality()) == outcome.predicted != ()
    assert len(fitted) == 1


def test_a_search_that_was_killed_takes_the_same_way(tmp_path: Path) -> None:
    class Killed(MadeUpLab):
        """Ends its process at call `last` of those that take long."""

        last = 0

        def __getattribute__(self, name: str) -> Any:
            if name in ("train", "realise", "prove", "probe"):
                self.last -= 1
                if self.last == 0:
                    raise KeyboardInterrupt
            return super().__getattribute__(name)

    def lab(last: int) -> Killed:
        made = Killed(lawful_lab().accuracy, lawful_lab().files)
        made.last = last
        return made

    counting = lab(0)
    undisturbed = run(search_of(tmp_path / "undisturbed", counting, space(10)))
    calls = -counting.last
    assert calls > 10
    for last in range(2, calls + 1, 3):
        folder = tmp_path / str(last)
        with pytest.raises(KeyboardInterrupt):
            run(search_of(folder, lab(last), space(10)))
        assert run(search_of(folder, lab(0), space(10))) == undisturbed
        journal = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        trials = optuna.load_study(study_name="build", storage=journal).trials
        assert [trial.number for trial in trials] == [trial.number for trial in undisturbed.trials]
        assert [trial.user_attrs["reason"] for trial in trials] == [trial.reason for trial in undisturbed.trials]


# -- a device that is lost, and one on which nothing works ------------------------------------------------------------


def test_a_device_that_is_lost_turns_nobody_away(tmp_path: Path) -> None:
    lab = MadeUpLab()
    unknown = UnknownLatency(reason="unplugged", device=DEVICE)

    def unplugged(spec: Any) -> list[SchemeResult]:
        lab.measurable = False
        return [made_file("fp32", 0.9, 1.0).model_copy(update={"latency": unknown})]

    lab.files = unplugged
    search = search_of(tmp_path, lab)
    only = contender(0, 0.9, trained_out=False)
    assert search.measure(only) and (only.state, only.reason) == ("complete", "")
    only.trained_out = True
    search.contenders = [only]
    winner = prove(search)
    assert winner is not None and winner.proof is None


def test_what_was_measured_before_a_device_was_lost_still_tells_of_the_others(tmp_path: Path) -> None:
    lab = lawful_lab()
    target = search_of(tmp_path, lab, space(10)).targets[0]
    target.probe(space(10), 4)
    known = target.prospect().models
    lab.measurable = False
    assert set(target.prospect().models) == set(known) == {Precision.FP32}


def test_what_a_measurement_turned_away_does_not_come_back_when_the_device_is_lost(tmp_path: Path) -> None:
    slow, fitting = made_file("fp32", 0.95, 6.0), made_file("fp32", 0.9, 4.0)
    lab = MadeUpLab(files=lambda spec: [slow])
    search = search_of(tmp_path, lab)
    search.contenders = [contender(0, 0.95), contender(1, 0.9, fitting)]
    assert not search.measure(search.contenders[0])
    lab.measurable = False
    winner = prove(search)
    assert winner is not None and winner.trial.number == 1


def test_a_device_that_is_lost_at_the_proof_speaks_against_no_file(tmp_path: Path) -> None:
    class Unplugged(MadeUpLab):
        def prove(self, *asked: Any) -> Proof:
            self.measurable = False
            raise TrialFailure("unplugged")

    search = search_of(tmp_path, Unplugged())
    only = contender(0, 0.9, made_file("fp32", 0.9, 4.0))
    search.contenders = [only]
    winner = prove(search)
    assert winner is not None and (winner.proof, winner.trial.state) == (None, "complete")
    assert not only.failed_proofs


def test_where_no_probe_can_be_measured_none_is_counted(tmp_path: Path) -> None:
    class Refusing(MadeUpLab):
        def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
            return ()

        def realise(self, trained: Any, *, last: bool) -> tuple[SchemeResult, ...]:
            raise TrialFailure("no such operation")

    lab = Refusing()
    outcome = run(search_of(tmp_path, lab))
    assert (outcome.winner, outcome.probes) == (None, 0)
    assert {(trial.state, trial.reason) for trial in outcome.trials} == {("failed", "no such operation")}
    assert "every candidate failed before it could be measured" in lab.notes


def test_probing_ends_when_the_device_is_lost(tmp_path: Path) -> None:
    class Unplugged(MadeUpLab):
        def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
            self.asked.append((candidate.spec, -1))
            self.measurable = False
            return ()

    lab = Unplugged()
    search_of(tmp_path, lab).targets[0].probe(FOUR, 4)
    assert len(lab.asked) == 1


@pytest.mark.parametrize("settings", [{"rungs": (4,)}, {"candidates": 1}, {"rungs": (1, 2, 4), "candidates": 2}])
def test_the_smallest_brackets_find_a_winner(tmp_path: Path, settings: dict[str, Any]) -> None:
    search = search_of(tmp_path, lawful_lab(), space(10))
    search.settings = replace(search.settings, **settings)
    outcome = run(search)
    assert outcome.winner is not None and outcome.winner.proof is not None
