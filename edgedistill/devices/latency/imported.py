"""Imported latencies in the user's own folder, and what they tell of a target's other files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.base.store import write_atomic
from edgedistill.devices.latency.folders import file_name, own_folder
from edgedistill.documents.imported import ImportedLatencies, ImportedLatency
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import PublishedLatency, Target


def imported_path(target: str) -> Path:
    """Where what was imported for a target lies."""
    return own_folder() / "imported" / f"{file_name(target)}.json"


def imported_for(target: str) -> tuple[ImportedLatency, ...]:
    """What was imported for a target, in the order in which it came. Raises InputError where the file is damaged."""
    path = imported_path(target)
    if not path.exists():
        return ()
    try:
        return ImportedLatencies.model_validate_json(path.read_bytes()).latencies
    except (OSError, ValidationError) as error:
        why = first_fault(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{path} cannot be read: {why}", fix="remove it, and import again") from None


def keep_imported(latencies: Iterable[ImportedLatency]) -> None:
    """Add latencies to those of their targets; one of the same file by the same program is replaced."""
    for one in latencies:
        same = (one.sha256, one.figures.program)
        others = [old for old in imported_for(one.target) if (old.sha256, old.figures.program) != same]
        document = ImportedLatencies(target=one.target, latencies=(*others, one))
        write_atomic(imported_path(one.target), document.model_dump_json(indent=1) + "\n")


def with_imported(target: Target) -> Target:
    """The target, with what was imported for it beside what others published: both are read as such evidence."""
    found = [
        PublishedLatency(
            model=one.figures.file,
            precision=one.precision,
            multiply_adds=one.multiply_adds,
            latency_ms=one.figures.typical_ms,
            source=f"imported on {one.imported_at[:10]}, {one.figures.program}",
        )
        for one in imported_for(target.name)
        if one.figures.typical_ms is not None
    ]
    return target.model_copy(update={"published": (*target.published, *found)})
