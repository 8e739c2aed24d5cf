"""A finished build's folder, read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from edgedistill.base.errors import InputError
from edgedistill.documents.measurements import Profile
from edgedistill.documents.problems import first_fault
from edgedistill.documents.results import BuildIndex, BuildResult
from edgedistill.outputs.explain.winner import winning_artifact

SCHEMA_VERSION: int = BuildResult.model_fields["schema_version"].default
D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class ReportProfiles:
    """Raw samples to show beside the result: of the exact file that ships, those of its proof where it is proven, and of the
    teacher's. None where not measured."""

    winner: Profile | None = None
    teacher: Profile | None = None


def build_folder(out: Path) -> Path:
    """The output folder that `out`, a folder or the build.json in it, names. Raises InputError where there is no
    build.json."""
    folder = out.parent if out.name == "build.json" else out
    if not (folder / "build.json").is_file():
        inside = folder / "out"
        found = (inside / "build.json").is_file()
        fix = f"did you mean {inside}?" if found else "give the output folder of a finished build"
        if (folder / "search.json").is_file():
            fix = "a search alone ended here: build it, which does nothing of it twice"
        raise InputError(f"{folder} holds no build.json", fix=fix)
    return folder


def read_build(folder: Path) -> BuildResult:
    """What `folder/build.json` holds. Raises InputError where it cannot be read, is damaged, is of another version of the
    document, or is the index of several."""
    path = folder / "build.json"
    content = _content(path)
    try:
        document = from_json(content)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}", fix="run the build again") from None
    if isinstance(document, dict) and "targets" in document:
        folders = ", ".join(str(folder / entry.folder) for entry in _parsed(path, content, BuildIndex).targets)
        raise InputError(f"{path} is the index of a build for several targets", fix=f"name one of them: {folders}")
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema_version {version}, this version of edgedistill reads {SCHEMA_VERSION}",
            fix="build it again with this version"
            if version < SCHEMA_VERSION
            else "use the version of edgedistill that built it, or a newer",
        )
    return _parsed(path, content, BuildResult)


def read_profiles(folder: Path, result: BuildResult) -> ReportProfiles:
    """The profiles in `folder/profiles/` that belong to `result`: the one of the exact file that ships, whatever its name,
    and the teacher's, where the result says that it was measured. Raises InputError for one that cannot be read."""
    artifact = winning_artifact(result)
    found = {path.stem: _parsed(path, _content(path), Profile) for path in sorted((folder / "profiles").glob("*.json"))}
    teacher = found.pop("teacher", None)
    return ReportProfiles(
        winner=next((p for p in found.values() if artifact and p.artifact_sha256 == artifact.as_measured), None),
        teacher=teacher if result.teacher.latency.kind == "measured" else None,
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", fix="run the build again") from error


def _parsed(path: Path, content: bytes, model: type[D]) -> D:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise InputError(
            f"{path} is not what this version of edgedistill writes: {first_fault(error)}", fix="run the build again"
        ) from error
