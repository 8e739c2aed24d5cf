"""`edgedistill profile`: the latency of any ONNX, LiteRT or ExecuTorch file on a target's device."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.paths import require_writable
from edgedistill.base.progress import Listener, Note, StageAdvanced, silent, telling
from edgedistill.base.units import format_percent, format_seconds
from edgedistill.commands.kept_profiles import replace_kept
from edgedistill.commands.options import ProfileOptions, require_known
from edgedistill.commands.profile_by_program import gate_by_program, profile_by_program
from edgedistill.devices.agent.agent_machine import os_name
from edgedistill.devices.agent.agent_sampling import HARD_LIMIT_FACTOR
from edgedistill.devices.attach import HERE, attach
from edgedistill.devices.base import Device, run_pushed, sample
from edgedistill.devices.latency.roofs import measure_roofs
from edgedistill.devices.session import MeasurementProtocol, PictureWay
from edgedistill.devices.sessions import joined
from edgedistill.devices.stats import (
    anchor_latency,
    least_runs,
    mean_with_interval,
    measured_latency,
    percentile_ms,
    ratio,
    resolves,
    spread,
)
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.devices import device_for
from edgedistill.documents.measurements import Profile, Session
from edgedistill.documents.package import TensorEdge, preparation
from edgedistill.documents.profiled import Comparison, Gate, GateLimit, ProfileResult, Roofs
from edgedistill.documents.specs import Format, Percentile, Target
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for, measured_by_agent
from edgedistill.formats.foreign import format_of, open_file, reading
from edgedistill.formats.format import Opened


@dataclass(frozen=True)
class Asked:
    """How a file is measured: in so many `sessions`, in turn with the file `compare`, on the user's device `named` (empty
    for the target's own). `roofs`: with what its runtime reaches at most there. `keep`: in place of its last profile."""

    sessions: int = 3
    compare: Path | None = None
    named: str = ""
    roofs: bool = False
    keep: bool = False


def profile(
    path: Path | str,
    *,
    target: str | Path = "host",
    device: str = "",
    listener: Listener = silent,
    **options: Unpack[ProfileOptions],
) -> ProfileResult:
    """Measure any ONNX, LiteRT or ExecuTorch file on `target`, on the device that `device` names in the user's file of
    devices or by its address, unless the target has one; returns latency, memory and operators, and what changed since the
    last time. See ProfileOptions for the others. A gate that is not kept is a result. Of a device that has a vendor's
    program alone, `by_program` is what that tells.

    Raises InputError for a file that is none of these or a gate that is none, UnsupportedError for a target that does not
    measure its format, UnreachableError where the target's device does not answer, TrialFailure where the file fails
    there."""
    require_known(options, ProfileOptions)
    compare, gate, report = options.get("compare"), options.get("gate"), options.get("report")
    limit = None if gate is None else GateLimit.parse(gate)
    if limit is not None and limit.share and compare is None:
        raise InputError(f"{gate!r} is a share of no file", fix="name the other with --compare, or give milliseconds")
    page = None if report is None else _page(Path(report))
    asked = Asked(
        sessions=options.get("sessions", 3),
        compare=None if compare is None else Path(compare),
        named=device,
        roofs=page is not None,
        keep=True,
    )
    wanted = load_target(str(target))
    known = None if wanted.transport in HERE else device_for(wanted.name, device)
    if known is not None and known.config.program:
        if page is not None:
            raise InputError(
                f"{known.config.program} tells no single runs, which the page shows", fix="leave --report away"
            )
        result = profile_by_program(Path(path), wanted, known, listener, asked.sessions, asked.compare)
        assert result.by_program is not None
        gated = None if limit is None else gate_by_program(limit, result.by_program)
        return result.model_copy(update={"gate": gated})
    result, taken = profile_file(Path(path), wanted, listener, asked)
    if limit is not None:
        result = result.model_copy(update={"gate": _gated(limit, taken)})
    if page is not None:
        # Plotly takes a moment to import.
        from edgedistill.outputs.report.profile_page import write_profile_report

        result = result.model_copy(update={"report": str(page)})
        write_profile_report(page, result, taken)
    return result


def _page(path: Path) -> Path:
    """Where a report is to go, checked before anything is measured. Raises InputError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"{path} is no name for a report", fix="a report is one HTML file: give a name that ends in .html"
        )
    require_writable(path)
    return path


def profile_file(
    path: Path, target: Target, listener: Listener, asked: Asked = Asked()
) -> tuple[ProfileResult, Profile]:
    """Sessions of `path` with random inputs of its own signature, and its operators by time where its runtime tells them.
    The result, and the sessions.

    Raises InputError for a file that is not a model in ONNX, LiteRT or ExecuTorch, for two of different formats or for no
    sessions, UnsupportedError for a target that does not measure its format, UnreachableError where its device does not
    answer, MissingDependencyError where the format's runtime is absent, TrialFailure where the file cannot be loaded or run
    or the device changes meanwhile.
    """
    sessions, compare = asked.sessions, asked.compare
    if sessions < 1:
        raise InputError(f"{sessions} sessions measure nothing", fix="take 1 or more")
    format = format_of(path)
    measured = _measured_on(target)
    if format not in measured:
        others = f"only {' and '.join(measured)}" if measured else "no files but a build's own"
        fix = target.how_to_measure or "choose a target that runs it (edgedistill targets)"
        if target.transport == "local" and measured:
            fix = f"export the model as {' or '.join(measured)} and measure that file: latency is the file's own"
        raise UnsupportedError(
            f"{path.name} is {format}; {others} can be measured on {target.title}",
            fix=fix,
        )
    if compare is not None and format_of(compare) is not format:
        raise InputError(
            f"{compare.name} is no {format}: it cannot run in turn with {path.name}", fix="export it as such"
        )
    opened = reading(path, open_file, path, target)
    artifact = opened.artifact
    anchor = None if compare is None else reading(compare, open_file, compare, target).artifact
    device = attach(target, listener, asked.named)
    config = ProfileConfig()
    protocol = MeasurementProtocol(
        target=target,
        seconds=config.session / 1000,
        min_runs=least_runs(Percentile.P95),
        operators=True,
        execute=partial(run_pushed, device),
        sample=sample,
        anchor=anchor,
        burst_s=config.burst / 1000,
        picture=_picture(opened),
    )
    listener(Note(_sentence(protocol, sessions)))
    taken: list[Profile] = []
    with closing(device), telling(listener, "profile", path.name, sessions):
        for number in range(sessions):
            if number:
                time.sleep(config.pause / 1000)
            taken.append(format_for(format).profile(artifact, None, replace(protocol, operators=not number)))
            listener(StageAdvanced("profile", number + 1, sessions))
        roofs = _roofs(format, device, target, listener) if asked.roofs else None
        device_id = device.facts().get("id", "") if asked.keep else ""
    profile = joined(taken)
    notes = ["inputs are random numbers of the file's own types and shapes"]
    if not profile.op_timings:
        notes.append(f"operators are not timed: {profile.environment.runtime} does not tell their times here")
    differ = spread([percentile_ms(s.samples_ns, Percentile.P95.fraction) for s in profile.sessions])
    if sessions > 1:
        notes.append(f"p95 differs by {format_percent(differ)} from session to session (standard deviation of the log)")
    first = [session.first_run_ms for session in profile.sessions if session.first_run_ms is not None]
    pictures = [s.picture_to_label_ms for s in profile.sessions if s.picture_to_label_ms is not None]
    result = ProfileResult(
        path=str(path),
        format=format,
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        latency=measured_latency(profile, anchor_latency(profile.sessions) if anchor else None),
        comparison=None if compare is None else _compared(str(compare), profile),
        peak_memory_bytes=profile.peak_memory_bytes,
        load_ms=statistics.median_high(session.load_ms for session in profile.sessions),
        first_run_ms=statistics.median_high(first) if first else None,
        picture_to_label_ms=statistics.median_high(pictures) if pictures else None,
        op_timings=tuple(sorted(profile.op_timings, key=lambda timing: -timing.median_us)),
        fallbacks=profile.fallbacks,
        environment=profile.environment,
        roofs=roofs,
        notes=tuple(notes),
    )
    if asked.keep:
        result = _beside_last(result, profile, device_id)
    return result, profile


def _beside_last(result: ProfileResult, profile: Profile, device_id: str) -> ProfileResult:
    """With what changed since the last profile of the file, which this one replaces; a note where it cannot be kept."""
    try:
        return result.model_copy(update={"since": replace_kept(result, profile, device_id)})
    except OSError as error:
        note = f"this profile is not kept for a later one to be compared with: {error.filename}: {error.strerror}"
        return result.model_copy(update={"notes": (*result.notes, note)})


def _picture(opened: Opened) -> PictureWay | None:
    """The way from a picture to a label through a file of ours; None where it carries no contract."""
    if opened.contract is None:
        return None
    edge = format_for(opened.artifact.format).input_edge(opened.contract)
    if not isinstance(edge, TensorEdge):
        return None
    return PictureWay(steps=preparation(opened.contract), layout=edge.layout)


def _roofs(format: Format, device: Device, target: Target, listener: Listener) -> Roofs | None:
    """What the format's runtime reaches on the device; None where the format has no files that show it, or
    operators are not timed there."""
    form = format_for(format)
    with tempfile.TemporaryDirectory(prefix="edgedistill-roofs-") as folder:
        files = {name: (file.path, file.op_type) for name, file in form.roof_files(Path(folder)).items()}
        if not files or form.on_device is None:
            return None
        listener(Note("what the runtime reaches at most there: a short session of each of four files"))
        return measure_roofs(files, form.on_device, target.threads, partial(run_pushed, device))


def _compared(other: str, profile: Profile) -> Comparison:
    p50, interval = mean_with_interval([ratio(session, Percentile.P50) for session in profile.sessions])
    told = all(resolves(session, Percentile.P95) for session in profile.sessions)
    p95 = [ratio(session, Percentile.P95) for session in profile.sessions] if told else []
    return Comparison(
        other=other, p50_ratio=p50, interval=interval, p95_ratio=mean_with_interval(p95)[0] if told else None
    )


def _gated(limit: GateLimit, profile: Profile) -> Gate:
    def value(session: Session) -> float:
        if limit.share:
            return ratio(session, limit.percentile)
        return percentile_ms(session.samples_ns, limit.percentile.fraction)

    values = tuple(map(value, profile.sessions))
    return Gate(limit=limit, values=values, over=sum(one > limit.most for one in values))


def _sentence(protocol: MeasurementProtocol, sessions: int) -> str:
    """What takes the time of so many sessions."""
    one, longest = (format_seconds(factor * protocol.seconds) for factor in (1, HARD_LIMIT_FACTOR))
    beside = "" if protocol.anchor is None else f" in turn with {protocol.anchor.path.name}"
    return (
        f"{sessions} session{'s' * (sessions != 1)} of {one}{beside}, up to {longest} for a slow file; the first also times "
        "the operators, where the runtime can"
    )


def _measured_on(target: Target) -> tuple[Format, ...]:
    """What the agent measures on `target`: all that it loads on this machine, elsewhere what the target takes. Nothing where
    the budget is held against a file that it does not load."""
    measured = measured_by_agent(os_name() if target.transport == "local" else None)
    if target.runtime not in measured:
        return ()
    if target.transport == "local":
        return measured
    return tuple(format for format in target.formats if format in measured)
