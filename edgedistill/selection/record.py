"""What a search says of its students while it goes on, and what it writes down when one of them is through."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedistill.selection.goal import comparable_ms
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.running_trial import RunningTrial, State
from edgedistill.selection.study import Study


@dataclass(frozen=True)
class Record:
    """Of a search for `targets`, written to `study`. Notes go to the first target's lab."""

    targets: Sequence[OnTarget]
    study: Study

    def note(self, text: str, warning: bool = False) -> None:
        """One line of progress."""
        self.targets[0].lab.note(text, warning)

    def close(self, running_trial: RunningTrial, state: State, reason: str) -> None:
        """Say what became of a trial, and write it down where that is final: a pruned one may be reopened."""
        running_trial.state, running_trial.reason = state, reason
        self.note(f"trial {running_trial.number}: {running_trial.label} {state.replace('_', ' ')}: {reason}")
        if state != "pruned":
            self.tell(running_trial)

    def tell(self, running_trial: RunningTrial) -> None:
        """Finish a trial in the study with what became of it. One that is finished stays as it is."""
        fastest_ms = {
            target.name: min(
                (comparable_ms(s, target.goal) for s in running_trial.schemes.get(target.name, ())), default=math.inf
            )
            for target in self.targets
        }
        self.study.tell(
            running_trial.number,
            running_trial.state,
            quality=running_trial.quality if running_trial.rungs else None,
            reason=running_trial.reason,
            latency_ms={name: ms for name, ms in fastest_ms.items() if math.isfinite(ms)},
        )

    def on(self, target: OnTarget, text: str) -> str:
        """What is said of one target."""
        return self.by_target({target.name: text})

    def by_target(self, texts: Mapping[str, str]) -> str:
        """What is said of each target, its name before it where there are several."""
        if len(self.targets) == 1:
            return "".join(texts.values())
        return "; ".join(f"{name}: {text}" for name, text in texts.items())
