"""JSON Schemas of the documents that others read: generated from the models, committed, shipped in the package.

`python -m edgedistill.outputs.schemas` writes them again after a change of a model; a test holds the two together.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from edgedistill.devices.latency.profile import DeviceProfile
from edgedistill.devices.latency.profiles import ProfilesResult
from edgedistill.documents.answers import (
    EvaluateResult,
    ExportResult,
    InspectResult,
    Plan,
    QuantizeResult,
    RunResult,
    VerifyResult,
)
from edgedistill.documents.artifacts import Profile
from edgedistill.documents.explanation import ExplainResult
from edgedistill.documents.results import BuildIndex, BuildResult, ProfileResult, SearchResult
from edgedistill.documents.specs import Format, Target

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What each document is, from the reader's side: `serialization` for those that edgedistill writes, where every field
# is present, `validation` for those that a user writes and may leave defaults out of.
_DOCUMENTS: dict[str, tuple[type[BaseModel], JsonSchemaMode, str]] = {
    "build": (BuildResult, "serialization", "build.json, and what `edgedistill build --json` prints"),
    "search": (SearchResult, "serialization", "search.json, and what `edgedistill search --json` prints"),
    "index": (BuildIndex, "serialization", "build.json of a build for several targets"),
    "plan": (Plan, "serialization", "what `--dry-run --json` of build and search prints"),
    "profile": (Profile, "serialization", "a profile: raw latency samples, operator times, environment"),
    "profile_result": (ProfileResult, "serialization", "what `edgedistill profile --json` prints"),
    "export": (ExportResult, "serialization", "what `edgedistill export --json` prints"),
    "quantize": (QuantizeResult, "serialization", "what `edgedistill quantize --json` prints"),
    "inspect": (InspectResult, "serialization", "what `edgedistill inspect --json` prints"),
    "verify": (VerifyResult, "serialization", "what `edgedistill verify --json` prints"),
    "evaluate": (EvaluateResult, "serialization", "what `edgedistill evaluate --json` prints"),
    "run": (RunResult, "serialization", "what `edgedistill run --json` prints"),
    "explain": (ExplainResult, "serialization", "what `edgedistill explain --json` prints"),
    "device_profile": (
        DeviceProfile,
        "serialization",
        "a device profile, and what `edgedistill calibrate --json` prints",
    ),
    "profiles": (ProfilesResult, "serialization", "what `edgedistill profiles --json` prints"),
    "target": (Target, "validation", "a target: a device and how it is used"),
}

NAMES = tuple(_DOCUMENTS)


class _DocumentSchema(GenerateJsonSchema):
    """Pydantic's generator with two differences: a written document has all its fields, defaults too, and the loop's
    own test format (`null`) is not a format that anyone will find in a document."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        if schema["cls"] is Format:
            schema = core_schema.enum_schema(Format, [f for f in Format if f is not Format.NULL], sub_type="str")
        return super().enum_schema(schema)


def generate(name: str) -> str:
    """The schema `name` (one of `NAMES`) from the models, as JSON text with a final newline."""
    model, mode, title = _DOCUMENTS[name]
    schema: dict[str, Any] = model.model_json_schema(mode=mode, schema_generator=_DocumentSchema)
    schema["title"] = title
    if "Format" in (named := schema.get("$defs", {})):
        named["Format"]["description"] = "File formats that a build can ship."
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema_path(name: str) -> Path:
    """Where the committed schema lies in the package."""
    return Path(__file__).with_name(f"{name}.schema.json")


@cache
def load(name: str) -> dict[str, Any]:
    """The committed schema `name` (one of `NAMES`), for `jsonschema` and the like."""
    content: dict[str, Any] = json.loads(schema_path(name).read_text(encoding="utf-8"))
    return content
