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
    DeviceCheck,
    DeviceList,
    EvaluateResult,
    ExportResult,
    InspectResult,
    KitResult,
    PackageDiff,
    PackageVerifyResult,
    Plan,
    QuantizeResult,
    RunResult,
    TargetsCheck,
    VerifyResult,
    ViewsCheck,
    ViewsInfo,
)
from edgedistill.documents.explanation import ExplainResult
from edgedistill.documents.measurements import Profile
from edgedistill.documents.package import GoldenDocument, KitLatency, Manifest, PackageContract
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.results import BuildIndex, BuildResult, SearchResult
from edgedistill.documents.specs import Format, Target

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What a command prints with `--json`, by its name.
_ANSWERS: dict[str, type[BaseModel]] = {
    "export": ExportResult,
    "quantize": QuantizeResult,
    "inspect": InspectResult,
    "verify": VerifyResult,
    "evaluate": EvaluateResult,
    "run": RunResult,
    "explain": ExplainResult,
    "kit": KitResult,
    "profiles": ProfilesResult,
}
_OF_GROUPS: dict[str, tuple[type[BaseModel], str]] = {
    "devices": (DeviceList, "what `edgedistill devices --json` prints"),
    "targets_check": (TargetsCheck, "what `edgedistill targets check --json` prints"),
    "devices_check": (DeviceCheck, "what `edgedistill devices check --json` prints"),
    "views": (ViewsInfo, "what `edgedistill views build --json` and `views info --json` print"),
    "package_diff": (PackageDiff, "what `edgedistill package diff --json` prints"),
    "package_verify": (PackageVerifyResult, "what `edgedistill package verify --json` prints"),
    "views_check": (ViewsCheck, "what `edgedistill views check --json` prints"),
}
# The documents, each with what it is from the reader's side.
_DOCUMENTS: dict[str, tuple[type[BaseModel], str]] = {
    "build": (BuildResult, "build.json, and what `edgedistill build --json` prints"),
    "search": (SearchResult, "search.json, and what `edgedistill search --json` prints"),
    "index": (BuildIndex, "build.json of a build for several targets"),
    "plan": (Plan, "what `--dry-run --json` of build and search prints"),
    "profile": (Profile, "a profile: raw latency samples, operator times, environment"),
    "profile_result": (ProfileResult, "what `edgedistill profile --json` prints"),
    **{name: (model, f"what `edgedistill {name} --json` prints") for name, model in _ANSWERS.items()},
    **_OF_GROUPS,
    "contract": (PackageContract, "contract.json of a package: how a picture gets into its files, and what comes out"),
    "golden": (GoldenDocument, "golden/golden.json of a package: pictures, and the outputs of its files for them"),
    "manifest": (Manifest, "manifest.json of a package: where its files come from"),
    "kit_latency": (KitLatency, "what a kit says of its latency on a user's device"),
    "device_profile": (DeviceProfile, "a device profile, and what `edgedistill calibrate --json` prints"),
    "target": (Target, "a target: a device and how it is used"),
}
# Those that a user writes and may leave defaults out of. In all others, which edgedistill writes, every field is present.
_WRITTEN_BY_HAND = ("target",)

NAMES = tuple(_DOCUMENTS)


class _DocumentSchema(GenerateJsonSchema):
    """Pydantic's generator with two differences: a written document has all its fields, defaults too, and the loop's
    own test format (`null`) stands in no document."""

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
    model, title = _DOCUMENTS[name]
    mode: JsonSchemaMode = "validation" if name in _WRITTEN_BY_HAND else "serialization"
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
