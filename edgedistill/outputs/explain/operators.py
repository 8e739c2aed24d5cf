"""Which operators of the winner's file cost the time."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.documents.explanation import DearOperator, OperatorKind, OperatorsUnknown, OperatorTimes
from edgedistill.documents.measurements import OpTiming, Profile
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.winner import winning_artifact

DEAREST = 10


def operator_kinds(timings: Sequence[OpTiming]) -> tuple[OperatorKind, ...]:
    """Operators summed by type, the costliest first."""
    everything_us = sum(t.median_us for t in timings)
    kinds = []
    for name in {t.op_type for t in timings}:
        of_kind = [t.median_us for t in timings if t.op_type == name]
        share = sum(of_kind) / everything_us if everything_us else 0.0
        kinds.append(OperatorKind(name=name, count=len(of_kind), total_us=sum(of_kind), share=share))
    return tuple(sorted(kinds, key=lambda kind: (-kind.total_us, kind.name)))


def operator_times(result: BuildResult, profile: Profile | None) -> OperatorTimes | OperatorsUnknown:
    """Time by kind of operator and the dearest single ones, as `profile`, that of the winner's file, has them."""
    artifact = winning_artifact(result)
    if artifact is None:
        return OperatorsUnknown(reason="no file won")
    if profile is None:
        latency = artifact.latency
        if latency.kind == "measured":
            return OperatorsUnknown(reason=f"profiles/ holds no samples of {artifact.path}")
        told = f": {latency.reason}" if latency.kind == "unknown" else ""
        return OperatorsUnknown(reason=f"{artifact.path} is not measured{told}")
    everything_us = sum(t.median_us for t in profile.op_timings)
    if everything_us <= 0:
        return OperatorsUnknown(reason=f"{profile.environment.runtime} times no single operators")
    dearest = sorted(profile.op_timings, key=lambda t: -t.median_us)[:DEAREST]
    return OperatorTimes(
        path=artifact.path,
        device=profile.environment.device,
        operators=len(profile.op_timings),
        total_us=everything_us,
        kinds=operator_kinds(profile.op_timings),
        dearest=tuple(
            DearOperator(name=t.name, op_type=t.op_type, median_us=t.median_us, share=t.median_us / everything_us)
            for t in dearest
        ),
    )
