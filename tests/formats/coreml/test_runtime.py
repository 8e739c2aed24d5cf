"""Core ML packages: converted, read back and checked, at every precision. Predictions need a Mac."""

from __future__ import annotations

import copy
import json
import math
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from barred_images import CLASSES, CONTRACT, SIDE, barred_images, labelled_images, taught
from factories import make_environment, make_session
from PIL import Image
from torch import nn

from edgedistill.base.errors import EdgedistillError, InputError, UnsupportedError
from edgedistill.base.store import file_sha256
from edgedistill.devices.base import sample
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError, SessionJob, SessionReport
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel
from edgedistill.documents.specs import ComputedBy, Contract, Format, Precision, QuantScheme, Target
from edgedistill.formats.carried import BUILD_KEY, CONTRACT_KEY, LABELS_KEY
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.coreml.package import read_package
from edgedistill.formats.coreml.quantize import coreml_quantizer, quantize_coreml
from edgedistill.formats.coreml.runtime import CoreMLFormat
from edgedistill.networks.build import Normalised
from edgedistill.networks.program.program import reference_logits, to_program
from edgedistill.networks.rounding.pt2e import fake_quantize

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

IPHONE = Target(
    name="iphone",
    title="iPhone",
    runtime=Format.COREML,
    formats=(Format.COREML,),
    precisions=tuple(Precision),
    transport="none",
    how_to_measure="attach it to a Mac",
)
INT8 = QuantScheme(precision=Precision.INT8, calibration_images=48)


def structured_images(count: int, seed: int) -> np.ndarray:
    """Smooth colour fields: white noise would exercise neither the ranges nor the spatial structure of photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def student() -> nn.Module:
    """A small residual net, trained a little, so that its batch norms have statistics of their own and its logits mean
    something."""
    torch.manual_seed(0)
    module = Normalised(timm.create_model("test_resnet", num_classes=CLASSES), CONTRACT.mean, CONTRACT.std)
    return taught(module, 24, 2e-3).eval()


CALIBRATION = barred_images(48, seed=4)


@dataclass(frozen=True)
class Built:
    models: dict[Precision, ExportedModel]
    artifacts: dict[Precision, CompiledArtifact]
    fake: nn.Module


@pytest.fixture(scope="module")
def built(student: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("coreml")
    models = {
        precision: export_coreml(
            to_program(student, CONTRACT), CONTRACT, folder / f"{precision}.mlpackage", precision, build_hash="b" * 64
        )
        for precision in (Precision.FP32, Precision.FP16)
    }
    models[Precision.INT8], fake = quantize_coreml(
        student, CALIBRATION, CONTRACT, INT8, folder / "int8.mlpackage", build_hash="b" * 64
    )
    runtime = CoreMLFormat()
    (folder / "compiled").mkdir()
    artifacts = {p: runtime.compile(model, IPHONE, folder / "compiled") for p, model in models.items()}
    return Built(models, artifacts, fake)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8])
def test_a_package_reloads_with_signature_metadata_and_checks(built: Built, precision: Precision) -> None:
    artifact = built.artifacts[precision]
    package = read_package(artifact.path)
    image, logits = package.spec.description.input[0], package.spec.description.output[-1]
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", SIDE, SIDE)
    assert image.type.imageType.ColorSpace.Name(image.type.imageType.colorSpace) == "RGB"
    assert (logits.name, list(logits.type.multiArrayType.shape)) == ("logits", [1, CLASSES])
    assert Contract.model_validate_json(package.metadata[CONTRACT_KEY]) == CONTRACT
    assert tuple(json.loads(package.metadata[LABELS_KEY])) == CONTRACT.labels
    assert package.metadata[BUILD_KEY] == "b" * 64
    assert not package.spec.description.metadata.author

    inspection = CoreMLFormat().inspect(artifact)
    assert any("one input, image RGB image[32, 32]" in check for check in inspection.checks)
    assert inspection.bytes_by_part["weights"] == package.weights_bytes > 0
    assert inspection.operations["conv"] == 15
    wanted = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.INT8: "int8"}[precision]
    assert {layer.described for layer in inspection.layers} == {wanted}
    assert artifact.record["precision"] == precision
    assert artifact.sha256 == built.models[precision].sha256


def test_precisions_halve_the_weights_and_the_arithmetic_is_what_was_asked_for(built: Built) -> None:
    sizes = {p: read_package(a.path).weights_bytes for p, a in built.artifacts.items()}
    assert sizes[Precision.FP16] == pytest.approx(sizes[Precision.FP32] / 2, rel=0.02)
    assert sizes[Precision.INT8] == pytest.approx(sizes[Precision.FP32] / 4, rel=0.03)
    operations = {p: read_package(a.path).operations for p, a in built.artifacts.items()}
    assert operations[Precision.INT8]["quantize"] >= 16
    assert operations[Precision.INT8]["constexpr_affine_dequantize"] == 16  # 15 convolutions and the classifier
    assert not operations[Precision.FP16]["quantize"] and not operations[Precision.FP32]["quantize"]


def _layers(path: Path) -> list[np.ndarray]:
    return [op.inputs["weight"].val for op in read_package(path).main if op.op_type in ("conv", "linear")]


@pytest.mark.parametrize(("precision", "rtol"), [(Precision.FP32, 0.0), (Precision.FP16, 2.0**-11)])
def test_stored_weights_are_those_of_the_program(
    student: nn.Module, built: Built, precision: Precision, rtol: float
) -> None:
    state = to_program(student, CONTRACT).state_dict
    stored = _layers(built.artifacts[precision].path)
    wanted = [value.detach().numpy() for value in state.values() if value.ndim in (2, 4) and value.shape[0] != 1]
    assert len(stored) == len(wanted) == 16
    # A convolution's place in the program and in the state dictionary differ (shortcuts), so match by the nearest.
    for weight in stored:
        candidates = [w for w in wanted if w.shape == weight.shape]
        errors = [float(np.max(np.abs(weight - w) - rtol * np.abs(w))) for w in candidates]
        assert min(errors) <= 1e-7


def test_the_shared_program_bears_fp16_with_subnormals_flushed(student: nn.Module) -> None:
    """The arithmetic of an fp16 package, emulated in torch for hardware that takes subnormal weights for zero: neither
    inputs of 0..255 nor the division by std, folded into small weights, may cost 1% of the logits' spread."""
    program = to_program(copy.deepcopy(student), CONTRACT).module(check_guards=False).half()
    images, _ = labelled_images(16, seed=7)
    with torch.no_grad():
        for value in (*program.parameters(), *program.buffers()):
            value[value.abs() < 2.0**-14] = 0
        wanted = student(images)
        got = torch.cat([program(image[None].half()) for image in images]).float()
    assert float((got - wanted).abs().max()) < 0.01 * float(wanted.std())


def test_quantising_leaves_the_student_alone(student: nn.Module) -> None:
    before = copy.deepcopy(student.state_dict())
    fake_quantize(student, CALIBRATION[:8], coreml_quantizer())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not student.training


def test_int8_weights_are_within_half_a_step_of_the_folded_ones(student: nn.Module, built: Built) -> None:
    floats = _layers(built.artifacts[Precision.FP32].path)
    integers = [
        op for op in read_package(built.artifacts[Precision.INT8].path).main if op.op_type in ("conv", "linear")
    ]
    # The first one is left out: only the float program has the division by std folded into it.
    for op, wanted in list(zip(integers, floats, strict=True))[1:]:
        constexpr = op.inputs["weight"].op.inputs
        codes, scale = constexpr["quantized_data"].val, np.float64(constexpr["scale"].val)
        assert codes.dtype == np.int8 and not np.any(constexpr["zero_point"].val)
        assert scale.shape == (wanted.shape[0],)  # a scale a channel
        scale = scale.reshape(-1, *[1] * (wanted.ndim - 1))
        # Half a step, and the rounding of the scale to fp16 at the largest code.
        assert np.all(np.abs(codes * scale - wanted) <= scale * (0.5 + 127 * 2.0**-11 + 1e-3))
        assert scale.min() >= 2.0**-14  # no subnormals


def test_the_fake_quantised_program_follows_the_float_student(student: nn.Module, built: Built) -> None:
    images, labels = labelled_images(128, seed=6)
    with torch.no_grad():
        wanted, got = student(images), built.fake(images)
    assert not torch.equal(wanted, got)
    assert (wanted.argmax(1) == labels).float().mean() > 0.9  # else agreement would mean nothing
    assert (wanted.argmax(1) == got.argmax(1)).float().mean() >= 0.97
    signal_to_noise_db = 10 * math.log10(float(wanted.var() / (wanted - got).square().mean()))
    assert signal_to_noise_db > 20


def test_activation_scales_cover_the_calibration_range(built: Built) -> None:
    """Scales in the package are those of the torch program, to fp16; no zero point stands anywhere."""
    quantize = [op for op in read_package(built.artifacts[Precision.INT8].path).main if op.op_type == "quantize"]
    scales = sorted(float(op.inputs["scale"].val) for op in quantize)
    program = sorted(
        {
            float(node.args[1])
            for node in built.fake.graph.nodes
            if "quantize_per_tensor" in str(node.target) and "dequantize" not in str(node.target)
        }
    )
    assert all(min(abs(scale - other) / other for other in program) < 2.0**-10 for scale in scales)
    assert all("zero_point" not in op.inputs or not np.any(op.inputs["zero_point"].val) for op in quantize)
    assert {op.inputs["output_dtype"].val for op in quantize} == {"int8", "uint8"}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_the_same_weights_give_the_same_bytes(
    student: nn.Module, built: Built, precision: Precision, tmp_path: Path
) -> None:
    path = tmp_path / "again.mlpackage"
    if precision is Precision.INT8:
        again, _ = quantize_coreml(student, CALIBRATION, CONTRACT, INT8, path, build_hash="b" * 64)
    else:
        again = export_coreml(to_program(student, CONTRACT), CONTRACT, path, precision, build_hash="b" * 64)
    first, second = (read_package(one.path).spec for one in (built.models[precision], again))
    assert str(first) == str(second)
    assert again.sha256 == built.models[precision].sha256
    assert [p.name for p in tmp_path.iterdir()] == ["again.mlpackage"]  # no temporary left


def test_opening_a_package_leaves_its_bytes_alone(built: Built) -> None:
    import coremltools

    model = built.models[Precision.FP16]
    read_package(model.path)
    assert file_sha256(model.path) == model.sha256
    # coremltools rewrites the manifest of what it opens; an app's developer may do so before a check of the hash.
    coremltools.models.MLModel(str(model.path), skip_model_load=True)
    assert file_sha256(model.path) == model.sha256


def test_rewriting_a_package_replaces_the_old_one(student: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.mlpackage"
    path.mkdir()
    (path / "stale").write_text("x")
    program = to_program(student, CONTRACT)
    export_coreml(program, CONTRACT, path, Precision.FP16, build_hash="c")
    assert sorted(p.name for p in path.iterdir()) == ["Data", "Manifest.json"]


DATA = "Data/com.apple.CoreML"


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "Manifest.json").unlink(),
        lambda p: (p / "Manifest.json").write_text('{"half'),
        lambda p: (p / DATA / "model.mlmodel").unlink(),
        lambda p: (p / DATA / "model.mlmodel").write_bytes((p / DATA / "model.mlmodel").read_bytes()[:1000]),
        lambda p: (p / DATA / "weights/weight.bin").write_bytes(b""),
        lambda p: (p / DATA / "weights/weight.bin").write_bytes(b"\0" * 1000),
        lambda p: (p / DATA / "weights/weight.bin").unlink(),
        lambda p: shutil.rmtree(p / DATA / "weights"),
    ],
    ids=[
        "no manifest",
        "half manifest",
        "no model",
        "half model",
        "empty weights",
        "short weights",
        "no file",
        "no folder",
    ],
)
def test_a_damaged_package_is_an_error_with_its_cause(built: Built, damage, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mlpackage"
    artifact = built.artifacts[Precision.INT8]
    shutil.copytree(artifact.path, damaged)
    damage(damaged)
    with pytest.raises(EdgedistillError, match=r"damaged\.mlpackage is damaged: \S"):
        CoreMLFormat().inspect(artifact.model_copy(update={"path": damaged}))


def test_a_flipped_weight_and_a_foreign_contract_are_both_reported(built: Built, tmp_path: Path) -> None:
    artifact = built.artifacts[Precision.FP16]
    damaged = tmp_path / "altered.mlpackage"
    shutil.copytree(artifact.path, damaged)
    weights = damaged / DATA / "weights" / "weight.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    record = {**artifact.record, "contract_sha256": "0"}
    with pytest.raises(EdgedistillError) as caught:
        CoreMLFormat().inspect(artifact.model_copy(update={"path": damaged, "record": record}))
    assert [problem.what.split(" ", 2)[1] for problem in caught.value.problems] == ["hash", "contract"]


def test_a_float_package_does_not_pass_for_int8_nor_fp16_for_fp32(built: Built) -> None:
    for found, claimed, word in (
        (Precision.FP16, Precision.INT8, "int8 weights"),
        (Precision.INT8, Precision.FP16, "quantize"),
        (Precision.FP16, Precision.FP32, "not fp32"),
    ):
        artifact = built.artifacts[found].model_copy(update={"scheme": QuantScheme(precision=claimed)})
        with pytest.raises(EdgedistillError, match=word):
            CoreMLFormat().inspect(artifact)


def test_missing_paths_are_input_errors(built: Built, tmp_path: Path) -> None:
    (tmp_path / "file.mlpackage").write_text("x")
    for name in ("absent.mlpackage", "file.mlpackage"):
        with pytest.raises(InputError, match=r"mlpackage is"):
            read_package(tmp_path / name)


def test_what_the_runtime_refuses(built: Built, tmp_path: Path) -> None:
    runtime, model = CoreMLFormat(), built.models[Precision.FP32]
    assert runtime.unsupported(model, IPHONE) == ()
    phone = IPHONE.model_copy(update={"name": "pixel", "formats": (Format.ONNX,), "runtime": Format.ONNX})
    onnx = model.model_copy(update={"format": Format.ONNX})
    assert len(runtime.unsupported(onnx, phone)) == 2
    with pytest.raises(UnsupportedError, match="pixel"):
        runtime.compile(model, phone, tmp_path)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_off_a_mac_the_reference_interpreter_computes_the_package(student: nn.Module, built: Built) -> None:
    runtime, images = CoreMLFormat(), structured_images(3, seed=1)
    assert runtime.computed_by is ComputedBy.REFERENCE
    (got,) = runtime.run(built.artifacts[Precision.FP32], [images])
    wanted = reference_logits(student, images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-3 * float(np.abs(wanted).max()))


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_off_a_mac_nothing_is_measured(built: Built) -> None:
    def never():
        raise AssertionError("a session was run")

    protocol = MeasurementProtocol(
        target=IPHONE,
        seconds=1,
        min_runs=1,
        operators=False,
        execute=lambda job: never(),
        sample=lambda models, job: never(),
    )
    with pytest.raises(NotRunnableError, match="iPhone") as caught:
        CoreMLFormat().profile(built.artifacts[Precision.FP32], None, protocol)
    assert caught.value.fix == "attach it to a Mac"


class CoreMLStandIn:
    """Answers as Core ML would on a Mac, through the same calls: logits are the means of the picture's colours."""

    load_duration_in_nano_seconds = 3_000_000
    last_predict_duration_in_nano_seconds = 250_000

    def predict(self, feeds: list[dict[str, Image.Image]], state: None = None) -> list[dict[str, np.ndarray]]:
        return [{"logits": np.asarray(feed["image"], np.float64).mean((0, 1))[None]} for feed in feeds]


def test_a_batch_is_handed_over_as_pictures(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoreMLFormat, "computed_by", ComputedBy.DEVICE)
    monkeypatch.setattr("edgedistill.formats.coreml.runtime._load", lambda artifact: CoreMLStandIn())
    batches = [structured_images(3, seed=1), structured_images(2, seed=2)]
    got = list(CoreMLFormat().run(built.artifacts[Precision.FP32], batches))
    for logits, batch in zip(got, batches, strict=True):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, batch.mean((2, 3)), rtol=1e-6)


def test_sessions_are_the_agents(built: Built) -> None:
    """On a Mac elsewhere; what the agent does there is in tests/devices/test_mac.py."""
    asked: list[SessionJob] = []

    def execute(job: SessionJob) -> SessionReport:
        asked.append(job)
        return SessionReport(session=make_session([1] * 70), environment=make_environment(), op_timings=())

    protocol = MeasurementProtocol(
        target=IPHONE.model_copy(update={"transport": "ssh", "title": "Mac"}),
        seconds=0.1,
        min_runs=70,
        operators=False,
        execute=execute,
        sample=sample,
        anchor=built.artifacts[Precision.FP32],
    )
    artifact = built.artifacts[Precision.FP16]
    profile = CoreMLFormat().profile(artifact, structured_images(3, seed=1), protocol)
    assert (profile.artifact_sha256, profile.anchor_sha256) == (artifact.sha256, protocol.anchor.sha256)
    (job,) = asked
    assert (job.model, job.input_name, job.loader) == (artifact.path, "image", CoreMLFormat.on_device)
    if sys.platform != "darwin":
        here = replace(protocol, target=IPHONE.model_copy(update={"transport": "local"}))
        with pytest.raises(NotRunnableError, match="Core ML runs on macOS"):
            CoreMLFormat().profile(artifact, None, here)


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
def test_predictions_on_a_mac_follow_the_student(student: nn.Module, built: Built) -> None:
    images = structured_images(8, seed=3)
    with torch.no_grad():
        wanted = student(torch.from_numpy(images).float()).numpy()
    (got,) = CoreMLFormat().run(built.artifacts[Precision.FP32], [images])
    np.testing.assert_allclose(got, wanted, atol=0.02 * np.abs(wanted).max())
