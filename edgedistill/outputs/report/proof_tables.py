"""What the report's tables of proof and sessions hold, as plain rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from edgedistill.base.units import format_bytes, format_ms, format_percent, format_seconds
from edgedistill.devices.stats import RUNS_BEYOND, cold_start, percentile_ms, resolves
from edgedistill.documents.measurements import Moment, Profile, Proof, Session
from edgedistill.documents.results import SustainedLoad
from edgedistill.documents.specs import Percentile
from edgedistill.outputs.explain.shown import claim_text
from edgedistill.outputs.report.noise import NOISY_SPREAD
from edgedistill.outputs.report.table import known

Pairs = tuple[tuple[str, str], ...]
COLD_START_WARNING = 0.05
"""From this share on, what alternating does to the ratio is worth longer turns."""


def proof_sessions(proof: Proof) -> list[tuple[int, str, bool]]:
    """Of each session its number, its value, and whether that is inside the budget."""
    return [(number, proof.shown(value), value <= proof.limit) for number, value in enumerate(proof.values, 1)]


def claim_facts(proof: Proof, sessions: Sequence[Session]) -> Pairs:
    """What a proof claims, what it rests on, and what was fixed before its first sample. `sessions` are its own, as far as
    they are at hand."""
    facts = [
        ("claim", claim_text(proof)),
        (
            "sessions",
            f"{len(proof.values)} of {format_seconds(proof.session_s)} over {format_seconds(proof.period_s)}, each a "
            f"process of its own; begun {moment_text(proof.began_at)}",
        ),
        ("over the limit", f"{proof.over} of them; this look takes {proof.over_allowed} at most"),
        (
            "tolerance bound",
            "none of fewer than three sessions"
            if proof.bound is None
            else f"{proof.shown(proof.bound)}, for the same claim from how the sessions' logs spread",
        ),
        (
            "sessions differ by",
            f"{format_percent(proof.spread)} (standard deviation of the log); a measurement is marked as noisy above "
            f"{format_percent(NOISY_SPREAD, 0)}",
        ),
        (
            "fixed beforehand",
            "how many finalists might be tried and after how many sessions each is looked at: this look errs with "
            f"{format_percent(proof.alpha, 2)}, all together with less than {format_percent(1 - proof.confidence, 0)}",
        ),
        ("measured file", f"SHA-256 {proof.artifact_sha256}"),
    ]
    if proof.retaken:
        facts.append(
            ("taken again", f"{proof.retaken} besides were lost with the connection to the device, without samples")
        )
    if proof.share:
        facts.append(("in turn with", f"the teacher's fp32 file, SHA-256 {proof.anchor_sha256}"))
        if short := sum(not resolves(session, proof.percentile) for session in sessions):
            needed = round(RUNS_BEYOND / (1 - proof.percentile.fraction))
            facts.append(
                (
                    "compared by median",
                    f"{short} of {len(sessions)} sessions: {proof.percentile} takes {needed} runs of each model, "
                    "for which [profile] session has to be longer",
                )
            )
    return tuple(facts)


def moment_text(at: str) -> str:
    """`2026-01-02 03:04:05 UTC` of a moment as it is recorded; `unknown` of none."""
    return f"{at[:19].replace('T', ' ')} UTC" if at else "unknown"


def reference_time(moment: Moment | None) -> str:
    """How long the reference arithmetic took at a moment; `unknown` where that was not recorded."""
    return _shown(moment, lambda m: m.reference_us, "{:.1f} µs")


# -- the machine ------------------------------------------------------------------------------------------------


_UNITS: tuple[tuple[str, Callable[[Moment], float | str | None], str], ...] = (
    ("reference arithmetic", lambda m: m.reference_us, "{:.1f} µs"),
    ("clock", lambda m: m.clock_mhz, "{:.0f} MHz"),
    ("highest clock allowed", lambda m: m.clock_limit_mhz, "{:.0f} MHz"),
    ("temperature", lambda m: m.temperature_c, "{:.1f} °C"),
    ("held back by", lambda m: m.throttle, "{}"),
    ("battery", lambda m: m.battery_percent, "{:.0f}%"),
    ("charging", lambda m: None if m.charging is None else ("no", "yes")[m.charging], "{}"),
    ("load of the last minute", lambda m: m.load, "{:.2f}"),
)
_ALWAYS = ("reference arithmetic", "clock", "temperature", "load of the last minute")
"""Rows that stand in a table though the system tells nothing of them."""


def proof_machine(proof: Proof, sessions: Sequence[Session]) -> list[tuple[str, str, str]]:
    """The machine before and after a proof. Each session is a process of its own, with its own count of waiting."""
    return machine_rows(proof.start, proof.end, [_spent(session, lambda m: m.waited_ms) for session in sessions])


def sessions_machine(sessions: Sequence[Session]) -> list[tuple[str, str, str]]:
    """The machine before the first session and after the last."""
    return machine_rows(
        sessions[0].start, sessions[-1].end, [_spent(session, lambda m: m.waited_ms) for session in sessions]
    )


def sustained_machine(load: SustainedLoad) -> list[tuple[str, str, str]]:
    """The machine before and after load without a pause."""
    return machine_rows(load.start, load.end, [_between(load.start, load.end, lambda m: m.waited_ms)])


def machine_rows(
    start: Moment | None, end: Moment | None, waited_ms: Sequence[float | None]
) -> list[tuple[str, str, str]]:
    """What the machine was like at the begin and at the end, and for how long it was kept from the runs meanwhile."""
    rows = [(name, _shown(start, read, form), _shown(end, read, form)) for name, read, form in _UNITS]
    return [
        *(row for row in rows if row[0] in _ALWAYS or row[1:] != ("unknown", "unknown")),
        ("ready and without a processor", "", _total(waited_ms)),
        ("processors given to others", "", _total([_between(start, end, lambda m: m.stolen_ms)])),
    ]


def _shown(moment: Moment | None, read: Callable[[Moment], float | str | None], form: str) -> str:
    value = None if moment is None else read(moment)
    return "unknown" if value is None else form.format(value)


def _between(start: Moment | None, end: Moment | None, read: Callable[[Moment], float | None]) -> float | None:
    """What a counter grew by."""
    values = [None if moment is None else read(moment) for moment in (start, end)]
    return None if values[0] is None or values[1] is None else max(0.0, values[1] - values[0])


def _spent(session: Session, read: Callable[[Moment], float | None]) -> float | None:
    return _between(session.start, session.end, read)


def _total(times_ms: Iterable[float | None]) -> str:
    known = [ms for ms in times_ms if ms is not None]
    return f"{_duration(sum(known))} in all" if known else "unknown"


def _duration(ms: float | None) -> str:
    """A time that may be none at all."""
    return "unknown" if ms is None else format_ms(ms) if ms else "0 ms"


# -- sessions ---------------------------------------------------------------------------------------------------


class SessionRow(NamedTuple):
    """A session as it is shown; latencies are the file's own."""

    name: str
    number: int
    date: str
    runs: str
    fastest: str
    median: str
    percentile: str
    slowest: str
    warm_up: str
    load: str
    memory: str
    reference: str
    waited: str
    stolen: str


def session_rows(name: str, profile: Profile, percentile: Percentile) -> list[SessionRow]:
    """Every session of a profile, in the order taken."""
    return [_session_row(name, number, session, percentile) for number, session in enumerate(profile.sessions, 1)]


def _session_row(name: str, number: int, session: Session, percentile: Percentile) -> SessionRow:
    references = [_shown(moment, lambda m: m.reference_us, "{:.1f}") for moment in (session.start, session.end)]
    waited, stolen = (_spent(session, read) for read in (lambda m: m.waited_ms, lambda m: m.stolen_ms))
    return SessionRow(
        name=name,
        number=number,
        date=moment_text(session.start.at if session.start else ""),
        runs=f"{len(session.samples_ns):,}",
        fastest=format_ms(min(session.samples_ns) / 1e6),
        median=format_ms(statistics.median(session.samples_ns) / 1e6),
        percentile=format_ms(session_ms(session, percentile)),
        slowest=format_ms(max(session.samples_ns) / 1e6),
        warm_up=f"{session.warmup_runs:,}",
        load=format_ms(session.load_ms),
        memory=known(session.peak_memory_bytes, format_bytes),
        reference="unknown" if references == ["unknown", "unknown"] else " to ".join(references),
        waited=_duration(waited),
        stolen=_duration(stolen),
    )


def session_ms(session: Session, percentile: Percentile) -> float:
    """A session's latency at a percentile, in ms."""
    return percentile_ms(session.samples_ns, percentile.fraction)


def alternating(profile: Profile) -> tuple[str, bool]:
    """By how much taking turns changes the ratio of the two models, and whether that is worth longer turns; empty where the
    file ran alone."""
    bias = cold_start(profile) if profile.anchor_sha256 is not None else None
    if bias is None:
        return "", False
    told = f"alternating changes the ratio by {bias * 100:+.1f}%"
    if abs(bias) <= COLD_START_WARNING:
        return told, False
    return f"{told}: too much; raise burst in [profile] for longer turns", True


def sustained_text(load: SustainedLoad, percentile: Percentile) -> str:
    """What load without a pause does to the winner."""
    change = load.last_third_ms / load.first_third_ms - 1
    return (
        f"{percentile} was {format_ms(load.first_third_ms)} in the first third of {format_seconds(load.seconds)} without a "
        f"pause and {format_ms(load.last_third_ms)} in the last ({change * 100:+.1f}%), in one session"
    )
