"""`edgedistill profile` on a device that has a vendor's program alone: what that tells of a file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.progress import Listener, Note, StageAdvanced, telling
from edgedistill.base.store import file_sha256, size_bytes
from edgedistill.devices.attach import program_device, require_fitting
from edgedistill.devices.program_shell import CALLS
from edgedistill.devices.stats import mean_with_interval
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.devices import KnownDevice
from edgedistill.documents.imported import ByProgram, Figures, Program, ProgramComparison, Told
from edgedistill.documents.measurements import UnknownLatency
from edgedistill.documents.profiled import Gate, GateLimit, ProfileResult
from edgedistill.documents.specs import Percentile, Target
from edgedistill.formats.foreign import format_of

NOTES = (
    "the program ran by itself each time, with inputs of its own making: its figures serve predictions "
    "(`edgedistill profiles import`), and prove no budget",
    "operators, memory and heat are not known: `python` or `runner` in your devices.toml measures them",
)


def profile_by_program(
    path: Path, target: Target, known: KnownDevice, listener: Listener, sessions: int, compare: Path | None
) -> ProfileResult:
    """Short runs of the program of the device `known` with the file at `path`, each followed by one with `compare`.

    Raises InputError for what is no model file and for a device of another architecture than the target's,
    UnsupportedError for a format that the program or the target does not take, UnreachableError where the device does not
    answer, MissingDependencyError where the program is not there, TrialFailure where it fails with a file."""
    device = program_device(known, listener, target.threads)
    for file in (path, *([compare] if compare else [])):
        _require_taken(file, device.program, target)
    sha256, size = file_sha256(path), size_bytes(path)
    taken: list[Figures] = []
    others: list[Figures] = []
    with closing(device):
        require_fitting(target, device)
        listener(Note(f"{sessions} runs of {device.program} on {known.name}"))
        with telling(listener, "profile", path.name, sessions):
            for number in range(sessions):
                if number:
                    time.sleep(ProfileConfig().pause / 1000)
                taken.append(device.run(path))
                if compare is not None:
                    others.append(device.run(compare))
                listener(StageAdvanced("profile", number + 1, sessions))
    told = {
        name: _told([getattr(figures, f"{name}_ms") for figures in taken]) for name in ("p50", "p95", "p99", "mean")
    }
    return ProfileResult(
        path=str(path),
        format=format_of(path),
        sha256=sha256,
        bytes=size,
        latency=UnknownLatency(
            reason=f"{device.program} tells no single runs, which a measured latency is made of", device=target.title
        ),
        by_program=ByProgram(
            program=device.program,
            sessions=tuple(taken),
            comparison=None if compare is None else _compared(str(compare), taken, others),
            **told,
        ),
        peak_memory_bytes=None,
        load_ms=_middle(taken, lambda figures: figures.load_ms),
        first_run_ms=_middle(taken, lambda figures: figures.first_run_ms),
        op_timings=(),
        environment=None,
        notes=NOTES,
    )


def gate_by_program(limit: GateLimit, found: ByProgram) -> Gate:
    """Whether each run of the program kept a limit. Raises UnsupportedError where it does not tell that percentile."""
    values = [_percentile(figures, limit.percentile) for figures in found.sessions]
    if limit.share and found.comparison is not None:
        others = [_percentile(figures, limit.percentile) for figures in found.comparison.sessions]
        values = [own / other if own and other else None for own, other in zip(values, others, strict=True)]
    kept = tuple(value for value in values if value is not None)
    if len(kept) < len(values):
        raise UnsupportedError(
            f"{found.program} tells no {limit.percentile} of {found.sessions[0].file}",
            fix="measure with Python or our runner: `edgedistill devices runner` says how to build it",
        )
    return Gate(limit=limit, values=kept, over=sum(value > limit.most for value in kept))


def _require_taken(path: Path, program: Program, target: Target) -> None:
    form, takes = format_of(path), CALLS[program].formats
    if form not in takes:
        raise UnsupportedError(
            f"{path.name} is {form}, and {program} runs {' and '.join(takes)} files",
            fix="export it as such, or name another program of the device",
        )
    if form not in target.formats:
        raise UnsupportedError(
            f"{target.title} takes {' and '.join(target.formats)} files, and {path.name} is {form}",
            fix="name another target (edgedistill targets)",
        )
    if not path.stat().st_size:
        raise InputError(f"{path} is empty", fix="export it again")


def _told(values: Sequence[float | None]) -> Told | None:
    """Over all sessions; None where one does not tell it."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    value, interval = mean_with_interval(known)
    return Told(value_ms=value, interval_ms=interval)


def _compared(other: str, own: Sequence[Figures], others: Sequence[Figures]) -> ProgramComparison:
    """Each run with the one that followed it, by medians where the program tells them. Raises UnsupportedError where it
    tells neither medians nor means of all."""
    figures: tuple[Literal["p50", "mean"], ...] = ("p50", "mean")
    for of in figures:
        pairs = [(getattr(a, f"{of}_ms"), getattr(b, f"{of}_ms")) for a, b in zip(own, others, strict=True)]
        if all(a and b for a, b in pairs):
            ratio, interval = mean_with_interval([a / b for a, b in pairs])
            return ProgramComparison(other=other, sessions=tuple(others), of=of, ratio=ratio, interval=interval)
    raise UnsupportedError(
        f"{own[0].program} does not tell the same figure of both files in each run: they take less time than it prints",
        fix="compare them with Python or our runner",
    )


def _percentile(figures: Figures, percentile: Percentile) -> float | None:
    value: float | None = getattr(figures, f"{percentile}_ms", None)
    return value


def _middle(taken: Sequence[Figures], value: Callable[[Figures], float | None]) -> float | None:
    known = [found for figures in taken if (found := value(figures)) is not None]
    return statistics.median_high(known) if known else None
