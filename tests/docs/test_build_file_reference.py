"""docs/reference/build-file.md names every key of the build file, with its real default and its real bounds, and no
other key; docs/reference/targets.md every field of a target."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgedistill.documents import build_file as config
from edgedistill.documents.build_file import BuildConfig, validate
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.specs import Target
from edgedistill.documents.targets import all_targets
from edgedistill.documents.teachers import FitConfig
from edgedistill.formats import measured_by_agent

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference" / "build-file.md"
TARGETS = DOCS / "reference" / "targets.md"

SECTIONS: dict[str, type[BaseModel]] = {
    "": BuildConfig,
    "teacher": config.TeacherConfig,
    "teacher.fit": FitConfig,
    "ensemble": config.EnsembleConfig,
    "data": config.DataConfig,
    "data.split": config.SplitConfig,
    "augmentation": config.AugmentationConfig,
    "space": config.SpaceConfig,
    "train": config.TrainConfig,
    "embedding": config.EmbeddingConfig,
    "limits": config.LimitsConfig,
    "search": config.SearchConfig,
    "export": config.ExportConfig,
    "package": config.PackageConfig,
    "profile": config.ProfileConfig,
}
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


class Row:
    """One line of a table: `| key | type | default | what |`."""

    def __init__(self, line: str) -> None:
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        self.key = cells[0].strip("` ")
        self.type, self.default = cells[1].strip(), cells[2].strip("` |")


def rows() -> dict[str, dict[str, Row]]:
    """Rows by section and key."""
    found: dict[str, dict[str, Row]] = {}
    for part in re.split(r"^## ", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        section = "" if title == "Top level" else title.strip("`[]")
        lines = [line for line in body.splitlines() if line.startswith("| `")]
        found[section] = {row.key: row for row in map(Row, lines)}
        assert len(found[section]) == len(lines), f"[{section}] has a key twice"
    return found


ROWS = rows()


def with_key(section: str, assignment: str) -> BuildConfig:
    """The smallest build file, with one more line in a section."""
    tables = {"": 'budget = "5ms"\n', "teacher": 'model = "timm:resnet18"\n'}
    own = tables.get(section, "")
    if assignment.split(" = ")[0] in ("budget", "model"):
        own = ""
    tables[section] = f"{own}{assignment}\n"
    text = "".join(f"[{name}]\n{body}" if name else body for name, body in tables.items())
    return validate(BuildConfig, tomllib.loads(text), text, Path("build.toml"))


def value_of(build: BuildConfig, section: str, key: str) -> Any:
    value: Any = build
    for name in (*section.split("."), key) if section else (key,):
        value = getattr(value, name)
    return value


def bounds(schema: Any) -> Iterator[float]:
    """Every least and greatest value in a field's JSON Schema."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
                yield value
            else:
                yield from bounds(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from bounds(value)


def choices(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (str(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else []))
        for value in schema.values():
            yield from choices(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from choices(value)


def test_the_sections_are_those_of_the_models() -> None:
    assert set(ROWS) == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section or "top level")
def test_every_key_is_described_and_none_is_invented(section: str) -> None:
    assert list(ROWS[section]) and set(ROWS[section]) == set(SECTIONS[section].model_fields)


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda part: part or "top")
def test_the_default_is_the_models_own(section: str, key: str) -> None:
    field, stated = SECTIONS[section].model_fields[key], ROWS[section][key].default
    match stated:
        case "required":
            assert field.is_required()
        case "unset":
            assert not field.is_required() and field.default is None
        case "table":
            assert isinstance(field.default, BaseModel)
            assert field.default == type(field.default)(), "the section's own defaults are not those that hold"
        case _:
            assert value_of(with_key(section, f"{key} = {stated}"), section, key) == field.default


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda part: part or "top")
def test_bounds_and_choices_are_stated(section: str, key: str) -> None:
    schema = SECTIONS[section].model_json_schema()
    own, stated = schema["properties"][key], ROWS[section][key].type
    if isinstance(SECTIONS[section].model_fields[key].default, BaseModel) or stated in ("table", "list of tables"):
        return  # the keys of a table are listed by themselves
    numbers = {float(text) for text in re.findall(r"\d+(?:\.\d+)?", stated.replace(",", ""))}
    assert set(map(float, bounds(own))) <= numbers
    named = {ref.rpartition("/")[2] for ref in re.findall(r"#/\$defs/\w+", str(own))}
    # Null ships nothing, and mixed is what int8 becomes: a build file cannot ask for either.
    listed = set(choices([own, *(schema["$defs"][name] for name in named)])) - {"null", "mixed"}
    assert listed <= set(re.findall(r'"([\w-]+)"', stated))


def test_the_keys_of_a_term_are_described_where_recipes_are() -> None:
    text = (DOCS / "explanation" / "distillation.md").read_text()
    for key in TermConfig.model_fields:
        assert f"`{key}" in text or f"{key} =" in text, key
        for choice in set(choices(TermConfig.model_json_schema()["properties"][key])) - {"none", "shared"}:
            assert f'"{choice}"' in text, f"{key} = {choice}"


def test_the_families_are_those_that_there_are() -> None:
    from edgedistill.networks.families.registry import FAMILIES

    assert set(re.findall(r"`(\w+)`", ROWS["space"]["families"].type)) == set(FAMILIES)


def target_section(title: str) -> str:
    return TARGETS.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_field_of_a_target_is_described() -> None:
    lines = [line for line in target_section("Fields").splitlines() if line.startswith("| `")]
    needed = {row.key: row.default.startswith("yes") for row in map(Row, lines)}
    assert needed == {name: field.is_required() for name, field in Target.model_fields.items()}


def test_the_example_of_a_target_is_one() -> None:
    example = target_section("Write one").partition("```toml\n")[2].partition("```")[0]
    target = validate(Target, tomllib.loads(example), example, Path("my-board.toml"))
    assert target.runtime in target.formats


def test_every_target_that_ships_is_listed_with_what_predicts_it() -> None:
    lines = target_section("What comes with edgedistill").splitlines()
    statuses = {line.split(" | ")[0].strip("| `"): line for line in lines if line.startswith("| `")}
    assert set(statuses) == {target.name for target in all_targets()}
    for target in all_targets():
        assert ("**predicted**" in statuses[target.name]) == bool(target.published), target.name
        by_ssh = target.transport == "ssh" and target.runtime in measured_by_agent()
        reached = target.transport in ("local", "browser") or by_ssh
        assert ("**Measured**" in statuses[target.name]) == reached, target.name
