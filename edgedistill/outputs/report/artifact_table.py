"""The table of files that ship, with the teacher below them."""

from __future__ import annotations

from edgedistill.base.units import format_bytes, format_ms, format_percent
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency
from edgedistill.documents.results import BuildResult, ShippedArtifact
from edgedistill.documents.specs import ComputedBy, Percentile
from edgedistill.outputs.explain.shown import measured_in
from edgedistill.outputs.explain.winner import winning_artifact
from edgedistill.outputs.report.table import Cell, Column, Row, Table, cell, known, quality_cell, share_cell, unknown


def artifact_table(result: BuildResult) -> Table:
    """Every file of the package with its size, its quality, its parity, and its latency and how that is known."""
    columns = (
        Column("file"),
        Column("format"),
        Column("precision"),
        Column("size", number=True),
        Column(f"test {result.metric}", number=True),
        Column(f"validation {result.metric}", number=True),
        Column("parity", number=True),
        *(Column(percentile.value, number=True) for percentile in Percentile),
        Column("latency is"),
        Column("load, peak memory", number=True),
    )
    winner = winning_artifact(result)
    rows = [Row(_cells(artifact), ours=artifact is winner) for artifact in result.artifacts]
    return Table("Shipped artifacts", "Files of the package, and the teacher", columns, (*rows, _teacher(result)))


def _cells(artifact: ShippedArtifact) -> tuple[Cell, ...]:
    images = artifact.parity.images if artifact.parity else 0
    return (
        cell(artifact.path.removeprefix("package/")),
        cell(artifact.format.value),
        cell(artifact.scheme.details),
        cell(format_bytes(artifact.bytes), key=artifact.bytes),
        quality_cell(artifact.quality, artifact.quality_interval),
        share_cell(artifact.quality_validation, images) if images else unknown(),
        _parity(artifact),
        *_latency(artifact.latency),
        _process(artifact),
    )


def _teacher(result: BuildResult) -> Row:
    teacher = result.teacher
    return Row(
        (
            cell(f"teacher {teacher.name}"),
            unknown(""),
            cell("fp32"),
            unknown() if teacher.bytes is None else cell(format_bytes(teacher.bytes), key=teacher.bytes),
            quality_cell(teacher.quality, teacher.quality_interval),
            share_cell(teacher.quality_validation, result.data.validation),
            unknown(""),
            *_latency(teacher.latency),
            unknown(""),
        )
    )


def _parity(artifact: ShippedArtifact) -> Cell:
    parity, verification = artifact.parity, artifact.verification
    if parity is None:
        return unknown()
    vectors = parity.cosine_least is not None
    key = parity.cosine_least if vectors else parity.top1_agreement
    lines = [f"{key:.4f}" if vectors else format_percent(key or 0.0, 2), f"± {parity.max_abs_error:.2g}"]
    if isinstance(verification, Verified) and verification.computed_by is ComputedBy.REFERENCE:
        lines.append("reference")
    return cell(*lines, key=key or 0.0)


def _latency(latency: Latency) -> tuple[Cell, ...]:
    """A cell for each percentile, and how they are known."""
    if isinstance(latency, MeasuredLatency):
        values = [cell(format_ms(latency.at(percentile)), key=latency.at(percentile)) for percentile in Percentile]
        return (*values, cell("measured,", measured_in(latency)))
    if isinstance(latency, PredictedLatency):
        guess = cell(f"≈ {format_ms(latency.latency_ms)}", key=latency.latency_ms)
        return (*(guess if p is latency.percentile else unknown() for p in Percentile), cell("predicted"))
    return (*(unknown() for _ in Percentile), cell("not measured"))


def _process(artifact: ShippedArtifact) -> Cell:
    """How long loading took, and the peak memory of the measuring process."""
    if artifact.load_ms is None and artifact.peak_memory_bytes is None:
        return unknown()
    key = "" if artifact.load_ms is None else artifact.load_ms
    return cell(known(artifact.load_ms, format_ms), known(artifact.peak_memory_bytes, format_bytes), key=key)
