"""What stays of files' profiles, so that the next profile of the same file on the same device can say what changed.

One small file for each, in `files/` of the folder of the user's own device profiles; the newest replaces the one before.
"""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from edgedistill.base.store import digest, write_atomic
from edgedistill.base.versions import __version__
from edgedistill.devices.latency.folders import own_folder
from edgedistill.devices.sessions import changes
from edgedistill.devices.stats import percentile_ms, ratio_with_interval
from edgedistill.documents.measurements import OpTiming, Profile
from edgedistill.documents.profiled import KeptProfile, OperatorChange, ProfileResult, Since
from edgedistill.documents.specs import Percentile

CHANGES_SHOWN = 10


def kept_path(profile: Profile, device_id: str) -> Path:
    """Where the profile of this file is kept: for its target, the file that it ran in turn with, and the device, by its name
    and by the `device_id` that tells it from others that are alike."""
    where = profile.environment
    name = digest([profile.artifact_sha256, profile.anchor_sha256, profile.target, where.device, where.cpu, device_id])
    return own_folder() / "files" / f"{name[:32]}.json"


def read_kept(path: Path) -> KeptProfile | None:
    """The profile kept there; None where there is none, or another version of edgedistill wrote it."""
    try:
        return KeptProfile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def kept_of(result: ProfileResult, profile: Profile) -> KeptProfile:
    """What is kept of a profile."""
    sessions = profile.sessions
    start = sessions[0].start
    return KeptProfile(
        edgedistill_version=__version__,
        measured_at=start.at if start else datetime.now(UTC).isoformat(timespec="seconds"),
        p50_ms=tuple(percentile_ms(session.samples_ns, Percentile.P50.fraction) for session in sessions),
        p95_ms=tuple(percentile_ms(session.samples_ns, Percentile.P95.fraction) for session in sessions),
        load_ms=statistics.median_high(session.load_ms for session in sessions),
        first_run_ms=result.first_run_ms,
        peak_memory_bytes=profile.peak_memory_bytes,
        environment=profile.environment,
        # Without what the operators take and give, which the file itself tells.
        op_timings=tuple(
            timing.model_copy(update={"inputs": (), "outputs": (), "bytes": None}) for timing in profile.op_timings
        ),
    )


def replace_kept(result: ProfileResult, profile: Profile, device_id: str) -> Since | None:
    """Keep this profile in place of the last one of the same file on the same device; returns what changed since that, None
    where it is the first."""
    path, now = kept_path(profile, device_id), kept_of(result, profile)
    last = read_kept(path)
    write_atomic(path, now.model_dump_json(indent=1) + "\n")
    return None if last is None else since(last, now)


def since(last: KeptProfile, now: KeptProfile) -> Since:
    """What changed from one profile of a file to a later one."""
    p50, interval = ratio_with_interval(now.p50_ms, last.p50_ms)
    return Since(
        last=last,
        p50_ratio=p50,
        interval=interval,
        p95_ratio=ratio_with_interval(now.p95_ms, last.p95_ms)[0],
        environment=changes(last.environment, now.environment),
        operators=_operators(last.op_timings, now.op_timings),
    )


def _operators(last: tuple[OpTiming, ...], now: tuple[OpTiming, ...]) -> tuple[OperatorChange, ...]:
    """Those whose medians differ most, the largest difference first; none where one of the two timed no operators."""
    if not last or not now:
        return ()
    before, after = ({timing.name: timing for timing in timings} for timings in (last, now))
    found = [
        OperatorChange(
            name=name,
            op_type=(after.get(name) or before[name]).op_type,
            before_us=before[name].median_us if name in before else None,
            now_us=after[name].median_us if name in after else None,
        )
        for name in {**before, **after}
    ]
    differing = [change for change in found if change.before_us != change.now_us]
    differing.sort(key=lambda change: -abs((change.now_us or 0) - (change.before_us or 0)))
    return tuple(differing[:CHANGES_SHOWN])
