"""What an ExecuTorch program holds: metadata, edges, precisions, layers; and that it is adopted and measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from barred_images import BUILD, CLASSES, CONTRACT, SIDE
from executorch_students import CALIBRATION, CAST, IMAGES, KEPT, PHONE, Built
from torch import nn

from edgedistill.devices.base import sample
from edgedistill.devices.session import MeasurementProtocol, SessionJob
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.carried import BUILD_KEY, CONTRACT_KEY, LABELS_KEY, SCHEME_KEY
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.program import read_pte
from edgedistill.formats.executorch.quantize import quantize_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat
from edgedistill.networks.program.program import to_program

pytest.importorskip("executorch", reason="the extra executorch is not installed")


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.MIXED])
def test_metadata_comes_back(built: Built, precision: Precision) -> None:
    model = built.models[precision]
    entries = read_pte(model.path).entries
    assert Contract.model_validate_json(entries[CONTRACT_KEY]) == CONTRACT
    assert tuple(json.loads(entries[LABELS_KEY])) == CONTRACT.labels
    assert QuantScheme.model_validate_json(entries[SCHEME_KEY]) == model.scheme
    assert entries[BUILD_KEY] == BUILD
    if precision is Precision.MIXED:
        assert (model.scheme.kept, model.scheme.calibration_images) == (KEPT, len(CALIBRATION))


def test_the_runtime_itself_gives_the_metadata(built: Built) -> None:
    """As an app does: a constant method by the name of the key."""
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(built.models[Precision.FP32].path)
    method = program.load_method(LABELS_KEY)
    assert method is not None
    assert json.loads(method.execute([])[0])[-1] == "prunelle à épines"


def test_the_edge_is_bytes_in_and_floats_out(built: Built) -> None:
    for model in built.models.values():
        assert model.inputs == (TensorSignature(name="image", dtype="uint8", shape=(1, 3, SIDE, SIDE)),)
        assert model.outputs == (TensorSignature(name="logits", dtype="float32", shape=(1, CLASSES)),)
        assert read_pte(model.path).signature(model.path) == (model.inputs, model.outputs)


def test_precisions_are_what_was_asked_for(built: Built) -> None:
    parts = {
        precision: [part.xnnpack for part in read_pte(model.path).forward.delegates]  # type: ignore[union-attr]
        for precision, model in built.models.items()
    }
    kinds = {precision: {kind for part in found for kind in part.datatypes} for precision, found in parts.items()}  # type: ignore
    assert kinds[Precision.FP32] == {"fp32"}
    assert "fp16" in kinds[Precision.FP16]
    assert {"qint8", "qcint8"} <= kinds[Precision.INT8] and "qdint8" not in kinds[Precision.INT8]
    assert {"qdint8", "qcint8"} <= kinds[Precision.INT8_WEIGHTS]
    weights = {p: sum(part.weight_bytes for part in found) for p, found in parts.items()}  # type: ignore[union-attr]
    assert (
        weights[Precision.INT8] < 0.45 * weights[Precision.FP32]
    )  # scales and biases are a part of so small a network
    assert built.models[Precision.INT8].bytes < built.models[Precision.FP32].bytes


def test_mixed_keeps_exactly_the_named_layers(built: Built) -> None:
    """Four layers have weights: two stay in floating point, two are integers a channel at a time."""
    counts = {}
    for precision in (Precision.INT8, Precision.MIXED):
        parts = read_pte(built.models[precision].path).forward.delegates  # type: ignore[union-attr]
        counts[precision] = sum(part.xnnpack.datatypes["qcint8"] for part in parts)  # type: ignore[union-attr]
    assert counts == {Precision.INT8: 4, Precision.MIXED: 2}
    floats = 4 * (16 * 32 * 9 + 32 * CLASSES)
    assert built.models[Precision.MIXED].bytes - built.models[Precision.INT8].bytes > 0.5 * floats


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_the_same_weights_give_the_same_bytes(
    student: nn.Module, built: Built, precision: Precision, tmp_path: Path
) -> None:
    path = tmp_path / "again.pte"
    if precision is Precision.INT8:
        scheme = QuantScheme(precision=precision)
        again = quantize_executorch(student, CALIBRATION, CONTRACT, scheme, path, build_hash=BUILD)
    else:
        again = export_executorch(to_program(student, CONTRACT), CONTRACT, path, precision, build_hash=BUILD)
    assert again.sha256 == built.models[precision].sha256
    assert [p.name for p in tmp_path.iterdir()] == ["again.pte"]


def test_inspection_tells_what_is_inside(built: Built, tmp_path: Path) -> None:
    runtime, artifact = ExecuTorchFormat(), built.artifacts[Precision.FP32]
    inspection = runtime.inspect(artifact)
    facts = inspection.facts
    assert facts["delegates"] == "XnnpackBackend 1"
    assert "conv2d 3" in facts["delegated_operators"] and "fully_connected 1" in facts["delegated_operators"]
    assert (facts["portable_operators"], facts["portable_calls"]) == (f"{CAST} 1", "1")
    assert facts["methods"].split(", ") == ["forward", CONTRACT_KEY, LABELS_KEY, SCHEME_KEY, BUILD_KEY]
    assert [tensor.shown for tensor in inspection.inputs] == [f"image uint8[1, 3, {SIDE}, {SIDE}]"]
    assert sum(inspection.bytes_by_part.values()) == artifact.bytes
    assert inspection.operations["conv2d"] == 3
    assert any(check.startswith("ExecuTorch") and check.endswith("loads it") for check in inspection.checks)
    assert artifact.record["portable_calls"] == "1"


@pytest.mark.parametrize(
    ("precision", "described"),
    [
        (Precision.FP32, {"float32"}),
        (Precision.INT8, {"int8"}),
        (Precision.INT8_WEIGHTS, {"int8 weights, int8 dynamic"}),
    ],
)
def test_layers_tell_what_they_store_and_what_they_compute_in(
    built: Built, precision: Precision, described: set[str]
) -> None:
    layers = ExecuTorchFormat().inspect(built.artifacts[precision]).layers
    assert len({layer.name for layer in layers}) == len(layers) == 4
    assert {layer.described for layer in layers} == described


def test_any_program_can_be_adopted(built: Built) -> None:
    runtime = ExecuTorchFormat()
    for precision, artifact in built.artifacts.items():
        adopted = runtime.adopt(artifact.path, PHONE)
        assert (adopted.sha256, adopted.scheme, adopted.record) == (artifact.sha256, artifact.scheme, artifact.record)
        assert read_pte(artifact.path)._precision() in (precision, Precision.INT8)


def test_a_measuring_session_is_asked_for_this_file(built: Built) -> None:
    asked: list[SessionJob] = []

    class Asked(Exception):
        pass

    def execute(job: SessionJob) -> None:
        assert job.inputs is not None
        asked.append(job)
        assert np.array_equal(np.load(job.inputs), IMAGES[:2])
        raise Asked

    protocol = MeasurementProtocol(target=PHONE, seconds=1, min_runs=7, operators=False, execute=execute, sample=sample)
    with pytest.raises(Asked):
        ExecuTorchFormat().profile(built.artifacts[Precision.FP32], IMAGES[:2], protocol)
    assert (asked[0].loader, asked[0].min_runs, asked[0].threads) == (ExecuTorchFormat.on_device, 7, 1)
