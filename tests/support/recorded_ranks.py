"""What several processes do in tests, where it is not what they always do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from edgedistill.distill import loop
from edgedistill.distill.teachers.load import weights_sha256


def with_losses(rank: Any, file: Path, *given: Any) -> None:
    """Train, and leave in `file` the loss of each step, and in another one the hash of this process' weights."""
    losses: list[float] = []
    weights: list[str] = []
    real = loop._State.advance

    def advance(self: Any, batch: Any) -> Any:
        loss = real(self, batch)
        losses.append(float(loss))
        weights[:] = [weights_sha256(self.pupil)]
        return loss

    loop._State.advance = advance  # type: ignore[method-assign]
    try:
        loop._train_part(rank, *given)
    finally:
        loop._State.advance = real  # type: ignore[method-assign]
    file.with_suffix(f".{rank.number}").write_text(weights[0])
    if rank.first:
        file.write_text(json.dumps(losses))


def killed(rank: Any, number: int, step: int, *given: Any) -> None:
    """Train, where process `number` is killed in step `step`."""
    real = loop._State.advance

    def advance(self: Any, batch: Any) -> Any:
        if self.step == step and rank.number == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, batch)

    loop._State.advance = advance  # type: ignore[method-assign]
    loop._train_part(rank, *given)


def with_nothing(rank: Any, tell: Any) -> None:
    """Meet, and no more."""
