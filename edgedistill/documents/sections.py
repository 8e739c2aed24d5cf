"""What a build file names, section by section, whatever else is wrong with the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgedistill.documents.build_file import DataConfig, EmbeddingConfig, SpaceConfig, as_json, load_build_file
from edgedistill.documents.fields import TargetName, read_in
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.specs import TaskName
from edgedistill.documents.teachers import TeacherConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Sections:
    """The sections of a build file that name something outside it, each by itself. None is what is wrong: `load_config`
    tells of it, and what it names may be the mistake."""

    task: TaskName | None
    targets: tuple[str, ...]
    teachers: tuple[TeacherConfig | None, ...]
    data: DataConfig | None
    space: SpaceConfig | None
    embedding: EmbeddingConfig | None
    processes: int | None
    terms: tuple[TermConfig | None, ...]


def load_sections(path: Path) -> tuple[Sections, str]:
    """Those of the build file at `path`, and its text. Raises InputError where it is no TOML file."""
    content, text = load_build_file(path)

    def valid(kind: TypeAdapter[T], value: object) -> T | None:
        try:
            return kind.validate_json(as_json(value), strict=True, context=read_in(path.parent))
        except ValidationError:
            return None

    train = content.get("train")
    train = train if isinstance(train, dict) else {}
    targets = valid(TypeAdapter(tuple[TargetName, ...]), content.get("targets") or [content.get("target", "host")])
    teachers = [content.get("teacher"), *_listed(content.get("teachers"))]
    sections = Sections(
        task=valid(TypeAdapter(TaskName), content.get("task", "classification")),
        targets=targets or (),
        teachers=tuple(valid(TypeAdapter(TeacherConfig), teacher) for teacher in teachers),
        data=valid(TypeAdapter(DataConfig), content.get("data", {})),
        space=valid(TypeAdapter(SpaceConfig), content.get("space", {})),
        embedding=valid(TypeAdapter(EmbeddingConfig), content.get("embedding", {})),
        processes=valid(TypeAdapter(int), train.get("processes", 1)),
        terms=tuple(valid(TypeAdapter(TermConfig), term) for term in _listed(train.get("terms"))),
    )
    return sections, text


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
