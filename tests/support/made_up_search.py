"""Searches on a made-up lab, from the beginning or with finalists that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from made_up_lab import MadeUpLab, made_candidate, made_student

from edgedistill.documents.artifacts import Rung, SchemeResult
from edgedistill.documents.measurements import UnknownLatency
from edgedistill.documents.specs import Budget, Goal, Percentile
from edgedistill.networks.space import Candidate
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.propose import Proposal
from edgedistill.selection.running_trial import RunningTrial, Winner
from edgedistill.selection.search import Outcome, Search, Settings
from edgedistill.selection.study import Study

DEVICE = MadeUpLab.device
BUDGET = Budget(latency_ms=5.0, percentile=Percentile.P95)
SETTINGS = Settings(probes=4, candidates=4, rungs=(2, 4), keep=0.5, trials=12)
FOUR = [made_candidate("resnet", 0.25 * n, 100 * n) for n in (1, 2, 3, 4)]
SIX = [*FOUR, *(made_candidate("resnet", 0.25 * n, 100 * n) for n in (5, 6))]


def search_of(
    folder: Path, lab: MadeUpLab, candidates: Sequence[Candidate] = FOUR, goal: Goal | None = None, **settings: Any
) -> Search:
    """A search on one target."""
    study = Study(folder / "study.journal", "build", [c.spec for c in candidates], folder / "turn")
    chosen = Settings(**{**vars(SETTINGS), **settings})
    return Search([OnTarget(lab, goal or Goal(budget=BUDGET))], chosen, candidates, study)


def run(search: Search) -> Outcome:
    """The outcome on its one target."""
    (outcome,) = search.run().values()
    return outcome


def running_trial(number: int, quality: float, *files: SchemeResult, trained_out: bool = True) -> RunningTrial:
    """One that has these files, and has come to the last rung."""
    candidate = SIX[number]
    proposal = Proposal(candidate, {DEVICE: UnknownLatency(reason="none", device=DEVICE)}, None)
    rungs = [Rung(rung=0, epochs=2, quality_validation=quality)]
    trained = made_student(candidate.spec, quality)
    return RunningTrial(
        proposal, number, rungs, trained, schemes={DEVICE: files} if files else {}, trained_out=trained_out
    )


def proving(
    folder: Path, *running_trials: RunningTrial, sessions_ms: Mapping[str, Sequence[float]] | None = None, **goal: Any
) -> Search:
    """A search whose finalists are there already; `sessions_ms` as a lab has them."""
    search = search_of(folder, MadeUpLab(sessions_ms=sessions_ms or {}), SIX, Goal(budget=BUDGET, **goal))
    for one in running_trials:
        search.study.ask(one.proposal.candidate.spec)
    search.running_trials = list(running_trials)
    return search


def prove(search: Search) -> Winner | None:
    """The winner on its one target."""
    return search.proving.prove().get(DEVICE)


def proven(search: Search) -> list[str]:
    """The hashes of the files of which a proof was tried, in order."""
    lab = search.targets[0].lab
    assert isinstance(lab, MadeUpLab)
    return lab.proven
