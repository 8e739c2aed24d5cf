"""What the report's tables hold, as plain rows: each value the build's own."""

from __future__ import annotations

from edgedistill.documents.artifacts import Verified
from edgedistill.documents.measurements import Core, Environment, PredictedLatency, Profile, UnknownLatency
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import ComputedBy, Metric, scored
from edgedistill.outputs.explain.shown import validation_text
from edgedistill.outputs.report.verdict import prediction_text

Pairs = tuple[tuple[str, str], ...]


def reference_text(metric: Metric, verification: Verified) -> str:
    """What an interpreter in the runtime's place computed: a reference, not the device's own arithmetic."""
    parity = verification.parity
    quality = validation_text(verification.quality_validation, parity.images)
    outputs = "logits" if parity.cosine_least is None else "vectors"
    return (
        f"a reference interpreter, not the device, {scored(metric, quality, f'{parity.images} validation images')}; its "
        f"{outputs} differ from the fp32 program's by at most {parity.max_abs_error:.2g}"
    )


def unknowns(result: BuildResult) -> Pairs:
    """Of each artifact, what was not measured or not run, why, and what was checked instead."""
    rows = []
    for artifact in result.artifacts:
        texts = []
        if artifact.verification.kind == "inspected":
            checks = "; ".join(artifact.verification.checks)
            checked = f" Checked instead: {checks}." if checks else ""
            texts.append(f"{result.metric} unknown, {artifact.verification.reason.rstrip('.')}.{checked}")
        elif artifact.verification.computed_by is ComputedBy.REFERENCE:
            texts.append(
                f"{result.metric} on the device unknown; {reference_text(result.metric, artifact.verification)}."
            )
        if isinstance(artifact.latency, PredictedLatency):
            latency, told = artifact.latency, prediction_text(artifact.latency, result.budget)
            texts.append(f"latency predicted for {latency.device}, {told}, from {latency.basis}.")
        elif isinstance(artifact.latency, UnknownLatency):
            texts.append(f"latency unknown on {artifact.latency.device}, {artifact.latency.reason.rstrip('.')}.")
        if texts:
            rows.append((artifact.path, " ".join(text[0].upper() + text[1:] for text in texts)))
    if isinstance(unknown := result.teacher.latency, UnknownLatency):
        rows.append(("teacher", f"Latency unknown on {unknown.device}, {unknown.reason.rstrip('.')}."))
    return tuple(rows)


def computed_by(result: BuildResult) -> Pairs:
    """What computes the operations of each artifact, and how many fall back to something else."""
    return tuple((a.path, a.fallbacks.sentence) for a in result.artifacts if a.fallbacks is not None)


def environments(result: BuildResult, winner: Profile | None, teacher: Profile | None) -> tuple[tuple[str, Pairs], ...]:
    """Where the samples were taken, and what the build was made with. The teacher's environment is told only where it
    differs from the student's."""
    groups: list[tuple[str, Pairs]] = []
    if winner is not None:
        groups.append(("Where the student was measured", environment_facts(winner.environment)))
    if teacher is not None and (winner is None or teacher.environment != winner.environment):
        groups.append(("Where the teacher was measured", environment_facts(teacher.environment)))
    if result.environment:
        groups.append(("What the build was made with", tuple(sorted(result.environment.items()))))
    return tuple(groups)


def environment_facts(environment: Environment) -> Pairs:
    """Where and how samples were taken."""
    return (
        ("device", environment.device),
        ("system", environment.os),
        ("machine", environment.machine),
        ("CPU", environment.cpu),
        ("runtime", f"{environment.runtime} {environment.runtime_version}"),
        ("provider", environment.provider),
        ("threads", str(environment.threads)),
        ("pinned to CPU", ", ".join(map(str, environment.pinned_cpus)) or "not pinned"),
        *(("core", _core(core)) for core in environment.cores),
        ("power", environment.power),
    )


def _core(core: Core) -> str:
    """`CPU 3, capacity 446 of 1024, shares its core with CPU 2`."""
    parts = [f"CPU {core.cpu}"]
    if core.capacity is not None:
        parts.append(f"capacity {core.capacity} of 1024")
    if others := [str(cpu) for cpu in core.siblings if cpu != core.cpu]:
        parts.append(f"shares its core with CPU {', '.join(others)}")
    return ", ".join(parts)


def recipe_facts(result: BuildResult) -> Pairs:
    """By which recipe students learnt, and why by that one."""
    choice = result.recipe
    if choice is None:
        return ()
    rows = [
        ("recipe", choice.recipe if choice.asked == choice.recipe else f"{choice.recipe}, which {choice.asked} chose")
    ]
    rows += [("why", reason) for reason in choice.reasons]
    if choice.assistant is not None:
        rows.append(("assistant", choice.assistant.sentence))
    return tuple(rows)


def data_facts(result: BuildResult) -> Pairs:
    """The data set and its splits."""
    data = result.data
    return (
        ("source", data.source),
        ("labels", data.labels),
        ("images", f"{data.training}, {data.validation:,} validation, {data.test:,} test"),
        ("split", "given with the data" if data.seed is None else f"drawn with seed {data.seed}"),
        ("fingerprint", data.fingerprint),
    )
