"""The committed schemas are those of the models, and what edgedistill writes fits them."""

from __future__ import annotations

import json
import math
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from factories import make_predictions
from pydantic import ValidationError

from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.specs import Format, Percentile, Precision, Target
from edgedistill.outputs import schemas


def check(name: str, document: Any) -> None:
    jsonschema.validate(document, schemas.load(name), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_the_committed_schema_is_the_generated_one(name: str) -> None:
    assert schemas.schema_path(name).read_text(encoding="utf-8") == schemas.generate(name), (
        "a model changed: run python -m edgedistill.outputs.schemas and commit what it wrote"
    )
    jsonschema.Draft202012Validator.check_schema(schemas.load(name))


@pytest.mark.parametrize(
    "make", ["make_result", "make_proven_in_ms", "make_measured_again", "make_not_met", "make_unmeasured"]
)
def test_a_build_fits_its_schema_and_comes_back_equal(realistic: ModuleType, make: str) -> None:
    result = getattr(realistic, make)()
    text = result.model_dump_json()
    check("build", json.loads(text))
    assert type(result).model_validate_json(text) == result


def test_predictions_on_the_test_split_fit_the_schema_and_a_build_of_before_is_read_without(
    realistic: ModuleType,
) -> None:
    result = realistic.make_result().model_copy(update={"predictions_on_test": make_predictions()})
    document = json.loads(result.model_dump_json())
    check("build", document)
    assert type(result).model_validate(document) == result
    del document["predictions_on_test"]
    assert type(result).model_validate(document) == realistic.make_result()


def test_a_profile_fits_its_schema(realistic: ModuleType) -> None:
    for anchor_ms in (None, 2.0):
        profile = realistic.make_profile("a" * 64, 0.2, anchor_ms=anchor_ms)
        check("profile", json.loads(profile.model_dump_json()))


def test_what_the_profile_command_prints_fits_its_schema(realistic: ModuleType) -> None:
    profile = realistic.make_profile("a" * 64, 0.2)
    result = ProfileResult(
        path="m.onnx",
        format=Format.ONNX,
        sha256="a" * 64,
        bytes=10,
        latency=MeasuredLatency(p50_ms=1, p95_ms=2, p99_ms=3, samples=4, device="here"),
        peak_memory_bytes=1,
        load_ms=2.0,
        op_timings=profile.op_timings,
        environment=profile.environment,
        notes=(),
    )
    check("profile_result", json.loads(result.model_dump_json()))


def test_a_target_may_leave_defaults_out() -> None:
    target = Target(
        name="t", title="T", runtime=Format.ONNX, formats=(Format.ONNX,), precisions=(Precision.FP32,), transport="none"
    )
    check("target", json.loads(target.model_dump_json(exclude_defaults=True)))


def test_no_document_knows_the_format_of_the_loops_own_tests(realistic: ModuleType) -> None:
    formats = schemas.load("build")["$defs"]["Format"]["enum"]
    assert formats == ["onnx", "coreml", "tensorrt", "litert", "executorch"]
    document = json.loads(realistic.make_result().model_dump_json())
    document["artifacts"][0]["format"] = "null"
    with pytest.raises(jsonschema.ValidationError, match="is not one of"):
        check("build", document)


@pytest.mark.parametrize("field", ["proof", "student", "notes", "schema_version"])
def test_a_written_document_has_all_fields(realistic: ModuleType, field: str) -> None:
    document = json.loads(realistic.make_result().model_dump_json())
    del document[field]
    with pytest.raises(jsonschema.ValidationError, match="required"):
        check("build", document)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_never_reaches_a_document(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        PredictedLatency(
            latency_ms=1,
            low_ms=0,
            high_ms=value,
            percentile=Percentile.P95,
            precision=Precision.FP32,
            calibrated=False,
            basis="",
            device="",
        )
