"""`edgedistill.explain`: why a build ended as it did."""

from __future__ import annotations

from pathlib import Path

from edgedistill.documents.explanation import ExplainResult
from edgedistill.outputs.explain.build_folder import build_folder, read_build, read_profiles
from edgedistill.outputs.explain.explain import explain_build


def explain(out: Path | str, *, budget: str | None = None, students: int = 10) -> ExplainResult:
    """Why the build in the folder `out` ended as it did: what won, what the next `students` lacked, which operators cost the
    time, what other budgets would give, and `budget` ("3ms", "20%@p99") among them. Raises InputError for a folder without
    a build that this version reads, and for what is no budget."""
    folder = build_folder(Path(out))
    result = read_build(folder)
    return explain_build(result, read_profiles(folder, result), folder, budget=budget, students=students)
