"""The search's decisions on made-up measurements: who is promoted, when it stops, what each trial says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_up_lab import MadeUpLab, made_candidate, made_file
from made_up_search import BUDGET, DEVICE, FOUR, prove, run, running_trial, search_of
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edgedistill.base.errors import TrialFailure
from edgedistill.devices.latency.model import LatencyModel, prior_from_published
from edgedistill.documents.artifacts import SchemeResult
from edgedistill.documents.measurements import PredictedLatency, Proof, UnknownLatency
from edgedistill.documents.specs import Budget, Goal, Objective, Percentile, Precision
from edgedistill.documents.targets import load_target
from edgedistill.networks.space import Candidate
from edgedistill.selection.expectations import Expectation, Measurements
from edgedistill.selection.lab import Figures
from edgedistill.selection.running_trial import RunningTrial
from edgedistill.selection.search import Search

# -- brackets -------------------------------------------------------------------------------------------------------


def test_past_the_first_rung_goes_only_what_was_measured_inside_the_budget(tmp_path: Path) -> None:
    files = [made_file("fp32", 0.7, 3.0), made_file("fp32", 0.9, 6.0), made_file("fp32", 0.8, 4.0)]
    by_spec = {FOUR[n].spec: file for n, file in enumerate(files)}
    search = search_of(tmp_path, MadeUpLab(files=lambda spec: [by_spec[spec]]))
    for candidate in FOUR:
        search.study.ask(candidate.spec)
    pool = [running_trial(n, a, trained_out=False) for n, a in enumerate((0.7, 0.9, 0.8, 0.6))]
    promoted = search.promote(pool, 2)
    assert [c.number for c in promoted] == [2, 0]
    assert (pool[1].state, pool[1].reason) == ("over_budget", "measured 6.00 ms in fp32, budget 5.00 ms at p95")
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

    def quality(candidate: Any, rung: int) -> float:
        return 0.60 + 0.015 * candidate.width * 10 + gain[candidate.family] + 0.05 * rung

    def files(spec: Any) -> list[SchemeResult]:
        return [made_file("fp32", quality(spec, 1), spec.width * 10)]

    return MadeUpLab(quality=quality, files=files, **options)


def test_the_best_student_of_a_lawful_space_is_found(tmp_path: Path) -> None:
    lab = lawful_lab()
    outcome = run(search_of(tmp_path, lab, space(10), trials=30))
    assert outcome.winner is not None
    assert outcome.winner.trial.spec.family == "repvgg" and outcome.winner.trial.spec.width == pytest.approx(0.5)
    assert len(outcome.trials) < 20, "that took less than trying all"
    assert outcome.stopped == "no untried candidate is likely enough to do better"


@pytest.mark.parametrize("measurable", [True, False])
def test_finalists_are_ranked_by_cross_validation_with_a_device_and_without(tmp_path: Path, measurable: bool) -> None:
    """It turns their order round, by more than what chance does on its images."""
    lab = lawful_lab(measurable=measurable)
    candidates = space(5)
    before = run(search_of(tmp_path / "before", lab, candidates, trials=6)).winner
    lab.crossed = {c.spec: round(1.2 - lab.quality(c.spec, 1), 2) for c in candidates}
    outcome = run(search_of(tmp_path / "after", lab, candidates, trials=6))
    finalists = [trial for trial in outcome.trials if trial.state == "complete"]
    found = {trial.spec: trial.crossed.quality for trial in finalists if trial.crossed is not None}
    assert before is not None and outcome.winner is not None and len(found) == len(finalists) > 1
    winner = outcome.winner.trial
    assert winner.spec == max(found, key=lambda spec: found[spec]) != before.trial.spec
    assert all(scheme.crossed == trial.crossed for trial in finalists for scheme in trial.schemes)
    assert bool(winner.schemes) is measurable
    (lost,) = [trial.reason for trial in finalists if trial.spec == before.trial.spec]
    assert f"{found[before.trial.spec]:.2%} of 300 images in cross-validation" in lost


def test_a_cross_validation_that_fails_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lawful_lab()

    def fails(trained: Any) -> None:
        raise TrialFailure("cross-validation: the loss is nan")

    monkeypatch.setattr(lab, "cross_validate", fails)
    outcome = run(search_of(tmp_path, lab, space(5), trials=6))
    failed = [trial for trial in outcome.trials if trial.state == "failed"]
    assert failed and outcome.winner is None
    assert {trial.reason for trial in failed} == {"cross-validation: the loss is nan"}


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


@pytest.mark.parametrize(("late", "wins"), [((1.0,), 0.75), ((1.0, 0.75), 0.5), ((1.0, 0.75, 0.5), None)])
def test_where_no_finalist_is_proven_a_pruned_student_is_reopened(
    tmp_path: Path, late: Sequence[float], wins: float | None
) -> None:
    """Four students of 1 to 4 ms of which two come to the second rung and one to the last. Proofs of the `late` ones find
    them too slow; then the best of those that were pruned goes on from its rung."""

    def quality(spec: Any, rung: int) -> float:
        return 0.7 + 0.1 * spec.width + 0.05 * rung

    def files(spec: Any) -> list[SchemeResult]:
        return [made_file("fp32", quality(spec, 2), spec.width * 4)]

    slow = [
        file.artifact.sha256 for width in late for file in files(next(c.spec for c in FOUR if c.spec.width == width))
    ]
    lab = MadeUpLab(quality, files, {sha256: [5.1] for sha256 in slow})
    outcome = run(search_of(tmp_path, lab, rungs=(2, 4, 8), trials=4))
    assert (outcome.winner.trial.spec.width if outcome.winner else None) == wins
    assert lab.proven[: len(slow)] == slow
    states = {trial.spec.width: trial.state for trial in outcome.trials}
    assert [states[width] for width in late] == ["over_budget"] * len(late)
    reasons = {trial.spec.width: trial.reason for trial in outcome.trials}
    assert all("is not proven" in reasons[width] for width in late)
    assert wins is None or states[wins] == "complete"
    assert len(set(lab.asked)) == len(lab.asked), "no rung is trained twice"
    assert [attempt.artifact_sha256 for attempt in outcome.attempts] == slow
    told = optuna.load_study(
        study_name="build", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    ).trials
    assert {trial.params["width"]: trial.user_attrs["state"] for trial in told} == states


def test_turned_round_the_search_goes_for_the_fastest(tmp_path: Path) -> None:
    goal = Goal(budget=BUDGET, objective=Objective.LATENCY, min_quality=0.74)
    outcome = run(search_of(tmp_path, lawful_lab(), space(10), goal, trials=30))
    assert outcome.winner is not None and outcome.winner.scheme is not None
    # repvgg reaches 74% from width 0.1 on (0.60 + 0.015 + 0.08 + 0.05), the others are slower there.
    assert (outcome.winner.trial.spec.family, outcome.winner.trial.spec.width) == ("repvgg", pytest.approx(0.1))


def test_turned_round_a_student_has_to_reach_the_quality_and_to_beat_no_other(tmp_path: Path) -> None:
    goal = Goal(budget=BUDGET, objective=Objective.LATENCY, min_quality=0.78)
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
    goal = Goal(budget=BUDGET, min_quality=0.99)
    outcome = run(search_of(tmp_path, lab, space(10), goal))
    assert outcome.winner is None
    assert not any("fit: trying the fastest" in note for note in lab.notes), "many fit"
    (told,) = (number for number, note in enumerate(lab.notes) if "accurate enough: trying the largest" in note)
    later = [note for note in lab.notes[told + 1 :] if note.startswith("trial") and "predicted" in note]
    assert later and not any(" w0.1 " in note for note in later)


def begun(search: Search) -> list[str]:
    """What is told of the first two candidates when they begin."""
    lab = search.targets[0].lab
    assert isinstance(lab, MadeUpLab)
    for proposal in search.propose(2):
        search.start(proposal)
    return [note for note in lab.notes if note.startswith("trial")]


def test_a_prediction_from_published_figures_is_told_as_a_guess_without_a_probability(tmp_path: Path) -> None:
    sizes = [made_candidate("resnet", 0.1 * n, 200_000_000 * n) for n in range(1, 11)]  # those of the published models
    search = search_of(tmp_path, lawful_lab(measurable=False), sizes)
    assert all(note.endswith(", latency unknown") for note in begun(search))
    published = prior_from_published(load_target("iphone-13"))
    search.targets[0].prior = {precision: Expectation(model) for precision, model in published.items()}
    told = begun(search)[2:]
    assert len(told) == 2
    for note in told:
        assert re.search(r", a guess of [\d.]+ ms \([\d.]+ ms to [\d.]+ ms\)$", note), note


def test_a_probability_stands_only_beside_what_is_calibrated(tmp_path: Path, exact: LatencyModel) -> None:
    search = search_of(tmp_path / "few", lawful_lab(), space(10))
    search.targets[0].probe(search.candidates, 4)
    for note in begun(search):
        assert re.search(r", predicted [\d.]+ ms \([\d.]+ ms to [\d.]+ ms\)$", note), note
    search = search_of(tmp_path / "many", lawful_lab(measurable=False), space(10))
    search.targets[0].prior = {Precision.FP32: Expectation(exact)}
    for note in begun(search):
        assert re.search(r", predicted [\d.]+ ms, P \d+%$", note), note


def test_what_is_expected_of_the_untried_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_of(tmp_path, lawful_lab(), space(10))
    outcome = run(search)
    fitted = []
    expectations = Measurements.expectations

    def counting(rows: Measurements) -> Any:
        fitted.append(rows)
        return expectations(rows)

    monkeypatch.setattr(Measurements, "expectations", counting)
    assert search.expected(search.targets[0], search.quality_model()) == outcome.predicted != ()
    assert len(fitted) == 1


@pytest.mark.parametrize("failing", [0, 2], ids=["proven at once", "two proofs fail"])
def test_a_search_that_was_killed_takes_the_same_way(tmp_path: Path, failing: int) -> None:
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
        made = Killed(lawful_lab().quality, lawful_lab().files, late)
        made.last = last
        return made

    late: dict[str, Sequence[float]] = {}
    while len(late) < failing:
        run(search_of(tmp_path / f"best {len(late)}", best := lab(0), space(10)))
        late[best.proven[-1]] = [5.1, 5.3]

    counting = lab(0)
    undisturbed = run(search_of(tmp_path / "undisturbed", counting, space(10)))
    calls = -counting.last
    assert calls > 10 and len(undisturbed.attempts) == failing
    for last in range(2, calls + 1, 3):
        folder = tmp_path / str(last)
        with pytest.raises(KeyboardInterrupt):
            run(search_of(folder, lab(last), space(10)))
        assert run(search_of(folder, lab(0), space(10))) == undisturbed
        journal = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        trials = optuna.load_study(study_name="build", storage=journal).trials
        assert [trial.number for trial in trials] == [trial.number for trial in undisturbed.trials]
        assert [trial.user_attrs["reason"] for trial in trials] == [trial.reason for trial in undisturbed.trials]


# -- what files lose of their torch models' accuracy --------------------------------------------------------------------


def predicted_in(number: int, precision: Precision) -> RunningTrial:
    """One that should do best in that precision."""
    one = running_trial(number, 0.9)
    latency = PredictedLatency(
        latency_ms=1.0,
        low_ms=0.9,
        high_ms=1.1,
        percentile=Percentile.P95,
        precision=precision,
        calibrated=True,
        basis="rows",
        device=DEVICE,
    )
    one.proposal = replace(one.proposal, predicted={DEVICE: latency})
    return one


def test_the_bar_is_higher_for_a_precision_in_which_files_lose_quality(tmp_path: Path) -> None:
    """Of three students int8 lost 3 points in the median; one that should do best in int8 has to have as much more."""
    search = search_of(tmp_path, MadeUpLab())
    losses = (0.01, 0.03, 0.05)
    search.running_trials = [
        running_trial(n, 0.9, made_file("fp32", 0.9, 4.0), made_file("int8", 0.9 - loss, 2.0))
        for n, loss in enumerate(losses)
    ]
    unfinished = running_trial(3, 0.5, made_file("int8", 0.1, 2.0), trained_out=False)
    search.running_trials.append(unfinished)
    assert search.lost_in(Precision.INT8) == pytest.approx(0.03)
    assert search.lost_in(Precision.FP16) == 0.0, "nothing is known of it"
    assert search.lost_by(predicted_in(0, Precision.INT8).proposal) == pytest.approx(0.03)
    assert search.lost_by(predicted_in(0, Precision.FP32).proposal) == 0.0
    assert search.lost_by(running_trial(0, 0.9).proposal) == 0.0, "nothing is predicted of it"


def test_on_several_targets_the_precision_that_loses_most_counts(tmp_path: Path) -> None:
    search = search_of(tmp_path, MadeUpLab())
    search.running_trials = [running_trial(0, 0.9, made_file("fp16", 0.89, 4.0), made_file("int8", 0.85, 2.0))]
    both = predicted_in(0, Precision.INT8).proposal
    fp16 = predicted_in(0, Precision.FP16).proposal.predicted[DEVICE]
    assert search.lost_by(replace(both, predicted={**both.predicted, "phone": fp16})) == pytest.approx(0.05)


def test_a_student_that_would_win_but_for_what_int8_loses_is_unlikely(tmp_path: Path) -> None:
    """Two running_trials at the same rung and accuracy: one is expected in fp32, one in int8, of which files lose a lot."""

    class Certain:
        """Ends at what it has."""

        def reach(self, candidates: Sequence[Candidate], qualities: Sequence[float]) -> list[float]:
            return [1.0 if quality < 0.92 else 0.0 for quality in qualities]

    search = search_of(tmp_path, MadeUpLab())
    search.running_trials = [running_trial(0, 0.9, made_file("fp32", 0.9, 4.0), made_file("int8", 0.85, 2.0))]
    model: Any = Certain()
    assert not search._unlikely(predicted_in(1, Precision.FP32), model, 0.9)
    assert search._unlikely(predicted_in(1, Precision.INT8), model, 0.9)


# -- a device that is lost, and one on which nothing works ------------------------------------------------------------


def test_a_device_that_is_lost_rejects_no_student(tmp_path: Path) -> None:
    lab = MadeUpLab()
    unknown = UnknownLatency(reason="unplugged", device=DEVICE)

    def unplugged(spec: Any) -> list[SchemeResult]:
        lab.measurable = False
        return [made_file("fp32", 0.9, 1.0).model_copy(update={"latency": unknown})]

    lab.files = unplugged
    search = search_of(tmp_path, lab)
    only = running_trial(0, 0.9, trained_out=False)
    assert search.measure(only) and (only.state, only.reason) == ("complete", "")
    only.trained_out = True
    search.running_trials = [only]
    winner = prove(search)
    assert winner is not None and winner.proof is None


def test_what_was_measured_before_a_device_was_lost_still_tells_of_the_others(tmp_path: Path) -> None:
    lab = lawful_lab()
    target = search_of(tmp_path, lab, space(10)).targets[0]
    target.probe(space(10), 4)
    known = target.prospect().models
    lab.measurable = False
    assert set(target.prospect().models) == set(known) == {Precision.FP32}


def test_what_a_measurement_rejected_does_not_come_back_when_the_device_is_lost(tmp_path: Path) -> None:
    slow, fitting = made_file("fp32", 0.95, 6.0), made_file("fp32", 0.9, 4.0)
    lab = MadeUpLab(files=lambda spec: [slow])
    search = search_of(tmp_path, lab)
    search.running_trials = [running_trial(0, 0.95), running_trial(1, 0.9, fitting)]
    assert not search.measure(search.running_trials[0])
    lab.measurable = False
    winner = prove(search)
    assert winner is not None and winner.trial.number == 1


def test_a_device_that_is_lost_at_the_proof_speaks_against_no_file(tmp_path: Path) -> None:
    class Unplugged(MadeUpLab):
        def prove(self, *asked: Any) -> Proof:
            self.measurable = False
            raise TrialFailure("unplugged")

    search = search_of(tmp_path, Unplugged())
    only = running_trial(0, 0.9, made_file("fp32", 0.9, 4.0))
    search.running_trials = [only]
    winner = prove(search)
    assert winner is not None and (winner.proof, winner.trial.state) == (None, "complete")
    assert all(scheme.proof is None for scheme in winner.trial.schemes)


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
