"""The study is Optuna's: trials are asked for and told about, and kept in a journal in the output folder.

What to try next is decided in `propose.py`; `_Chosen` is the sampler that hands that choice to Optuna, so that the
journal opens in Optuna's own tools with real parameters, intermediate values and states. A build that was killed
finds its trials there by their parameters and goes on under the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from edgedistill.specs import StudentSpec

JOURNAL = "study.journal"
State = Literal["failed", "pruned", "over_budget", "complete"]
_OPTUNA_STATE = {
    "failed": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
    "over_budget": TrialState.PRUNED,
    "complete": TrialState.COMPLETE,
}


class _Chosen(BaseSampler):
    """Gives the parameters that were chosen outside."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.parameters[param_name]


class Study:
    """One build's trials. `name` is the build's key, so that builds of other inputs in the same folder stay apart."""

    def __init__(self, folder: Path, name: str, space: Sequence[StudentSpec]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = folder / JOURNAL
        drop_torn_line(path)
        self._sampler = _Chosen()
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=name,
            sampler=self._sampler,
            direction="maximize",
            load_if_exists=True,
        )
        self._distributions: dict[str, BaseDistribution] = {
            field: CategoricalDistribution(sorted({getattr(spec, field) for spec in space}))
            for field in StudentSpec.model_fields
        }
        self._by_spec = {json.dumps(t.params, sort_keys=True): t for t in self._study.get_trials(deepcopy=False)}
        self._live: dict[int, optuna.trial.Trial] = {}

    def ask(self, spec: StudentSpec) -> int:
        """The trial's number: that of an earlier run of this build if it asked for the same student, else a new one."""
        parameters = spec.model_dump()
        known = self._by_spec.get(json.dumps(parameters, sort_keys=True))
        if known is not None:
            if not known.state.is_finished():
                self._live[known.number] = optuna.trial.Trial(self._study, known._trial_id)
            return known.number
        self._sampler.parameters = parameters
        trial = self._study.ask(self._distributions)
        self._live[trial.number] = trial
        return trial.number

    def report(self, number: int, *, epochs: int, accuracy: float) -> None:
        """Validation accuracy after `epochs`, Optuna's intermediate value. A value already there stays."""
        trial = self._live.get(number)
        if trial is not None and epochs not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(accuracy, epochs)

    def tell(self, number: int, state: State, *, accuracy: float | None, reason: str, latency_ms: float | None) -> None:
        """Finish a trial. One that was finished by an earlier run stays as it is."""
        trial = self._live.pop(number, None)
        if trial is None:
            return
        for name, value in (("state", state), ("reason", reason), ("latency_ms", latency_ms)):
            trial.set_user_attr(name, value)
        self._study.tell(trial, accuracy if state == "complete" else None, state=_OPTUNA_STATE[state])


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process left half-written: Optuna's journal reader stops at it for good, since
    the next append would run on behind it."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(data.rfind(b"\n") + 1)
