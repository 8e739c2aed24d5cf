"""The study is Optuna's: trials are begun and told about, and kept in a journal in the output folder.

What to try next is decided in `propose.py`, not by a sampler; the journal opens in Optuna's own tools with real
parameters, intermediate values and states. A search that was killed finds its trials there by their parameters and goes
on under the same numbers, and so does a second process beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState, create_trial

from edgedistill.base.errors import InputError, first_line
from edgedistill.base.progress import silent
from edgedistill.base.store import lock
from edgedistill.documents.specs import StudentSpec
from edgedistill.selection.running_trial import State
from edgedistill.selection.warm_start import Known

_OPTUNA_STATE: dict[State, TrialState] = {
    "failed": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
    "over_budget": TrialState.PRUNED,
    "complete": TrialState.COMPLETE,
}


class _FlockLock(JournalFileOpenLock):
    """The lock of `journal` as the kernel keeps it: dropped with its process. Optuna's own are files, which a killed process
    leaves behind; others then wait until it has grown old. The first to have it cuts off the line
    that a killed process had begun."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held: ExitStack | None = None

    def acquire(self) -> bool:
        with ExitStack() as stack:
            stack.enter_context(lock(self._journal.with_name(f"{self._journal.name}.flock"), silent, "the study"))
            drop_torn_line(self._journal)
            self._held = stack.pop_all()
        return True

    def release(self) -> None:
        assert self._held is not None
        self._held.close()


class Study:
    """One search's trials. `name` tells its inputs, so that searches of others in the same storage stay apart.
    `storage` is Optuna's journal, a file, or the URL of a database; several processes may share it, and `turn` is the file
    that makes their decisions follow one another."""

    def __init__(self, storage: Path | str, name: str, space: Sequence[StudentSpec], turn: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._turn = turn
        with self._my_turn():
            self._study = optuna.create_study(
                storage=_opened(storage), study_name=name, direction="maximize", load_if_exists=True
            )
        self._distributions: dict[str, BaseDistribution] = {
            field: CategoricalDistribution(
                sorted({getattr(spec, field) for spec in space}, key=lambda value: (value is not None, value))
            )
            for field in StudentSpec.model_fields
        }
        self._live: dict[int, optuna.trial.Trial] = {}

    def ask(self, spec: StudentSpec) -> int:
        """The trial's number: the one under which this student was asked for before, here or by another process, else a new
        one."""
        parameters = spec.model_dump()
        # Added whole, in one line of the journal: a process that is killed leaves no trial without its parameters.
        begun = create_trial(state=TrialState.RUNNING, params=parameters, distributions=self._distributions)
        with self._my_turn():
            if all(trial.params != parameters for trial in self._study.get_trials(deepcopy=False)):
                self._study.add_trial(begun)
            trial = next(trial for trial in self._study.get_trials(deepcopy=False) if trial.params == parameters)
        if not trial.state.is_finished():
            self._live[trial.number] = optuna.trial.Trial(self._study, trial._trial_id)
        return trial.number

    def report(self, number: int, *, epochs: int, quality: float) -> None:
        """Validation quality after `epochs`, Optuna's intermediate value. A value already there stays."""
        if (trial := self._live.get(number)) is None:
            return
        with self._my_turn():
            known = trial.storage.get_trial(trial._trial_id)
            if not known.state.is_finished() and epochs not in known.intermediate_values:
                trial.report(quality, epochs)

    def tell(
        self, number: int, state: State, *, quality: float | None, reason: str, latency_ms: Mapping[str, float]
    ) -> None:
        """Finish a trial; `latency_ms` is that of its fastest file, by target. One that is finished stays as it is."""
        if (trial := self._live.pop(number, None)) is None:
            return
        with self._my_turn():
            if trial.storage.get_trial(trial._trial_id).state.is_finished():
                return
            for name, value in (("state", state), ("reason", reason), ("latency_ms", dict(latency_ms))):
                trial.set_user_attr(name, value)
            self._study.tell(trial, quality if state == "complete" else None, state=_OPTUNA_STATE[state])

    def known(self, find: Callable[[], Known]) -> Known:
        """What this search began with: as it is remembered here, else what `find` finds, remembered. A search that goes on
        takes the same way for it, whatever has been learnt elsewhere meanwhile."""
        with self._my_turn():
            if (text := self._study.user_attrs.get("known")) is not None:
                return Known.model_validate_json(text)
            found = find()
            self._study.set_user_attr("known", found.model_dump_json())
        return found

    def _my_turn(self) -> AbstractContextManager[None]:
        return lock(self._turn, silent, "the study")


def _opened(storage: Path | str) -> BaseStorage:
    """The storage in a journal file, or in the database of a URL. Raises InputError where it cannot be opened."""
    if isinstance(storage, str) and "://" in storage:
        try:
            return optuna.storages.RDBStorage(storage)
        except Exception as error:  # SQLAlchemy's and its drivers', whichever is installed
            raise InputError(
                f"the storage {storage} cannot be opened: {first_line(error)}",
                fix="give a journal file, or a URL such as sqlite:///study.db",
            ) from None
    path = Path(storage)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_FlockLock(path)))
    except OSError as error:
        raise InputError(f"the storage {path} cannot be opened: {error.strerror}", fix="check --storage") from None


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process left half-written: Optuna's journal reader stops at it for good once the
    next append runs on behind it. The caller holds the journal's lock."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read() != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
