"""LiteRT files: converted, quantised, read back, refused where they must be, and run by LiteRT itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from barred_images import BUILD, CLASSES, CONTRACT, SIDE, barred_images, labelled_images, taught
from torch import Tensor, nn

from edgedistill.base.errors import EdgedistillError, InputError, TrialFailure, UnsupportedError
from edgedistill.base.store import file_sha256
from edgedistill.devices.base import sample
from edgedistill.devices.session import MeasurementProtocol, SessionJob
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, TensorSignature
from edgedistill.documents.specs import Calibration, Contract, Format, Precision, QuantScheme, StudentSpec, Target
from edgedistill.formats.carried import BUILD_KEY, CONTRACT_KEY, LABELS_KEY, SCHEME_KEY
from edgedistill.formats.litert.content import Content
from edgedistill.formats.precisions import precision_of
from edgedistill.networks.build import Normalised, build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.program import reference_logits, to_program

pytest.importorskip("litert_torch", reason="the extra litert is not installed")

from edgedistill.formats.litert import export as exporter
from edgedistill.formats.litert import quantize as quantiser
from edgedistill.formats.litert.export import export_litert, to_content
from edgedistill.formats.litert.file import read_file
from edgedistill.formats.litert.quantize import quantize_litert, scope
from edgedistill.formats.litert.runtime import LiteRTFormat

PHONE = Target(
    name="pixel",
    title="Pixel",
    runtime=Format.LITERT,
    formats=(Format.LITERT,),
    precisions=tuple(Precision),
    transport="local",
)
KEPT = ("network.conv1.0", "network.layer3.0.conv2", "network.fc")


IMAGES, LABELS = (values.to(torch.uint8).numpy() for values in labelled_images(96, seed=6))
CALIBRATION = barred_images(32, seed=4)


def with_statistics(network: nn.Module) -> nn.Module:
    """`network` in eval mode, its batch norms with statistics that are not the identity's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                assert values is not None
                values.uniform_(low, high)
    return network.eval()


@pytest.fixture(scope="module")
def student() -> nn.Module:
    """A small residual net, trained a little, so that its logits mean something."""
    torch.manual_seed(0)
    module = Normalised(timm.create_model("test_resnet", num_classes=CLASSES), CONTRACT.mean, CONTRACT.std)
    return deploy(taught(module, 24, 2e-3))


@dataclass(frozen=True)
class Built:
    models: dict[Precision, ExportedModel]
    artifacts: dict[Precision, CompiledArtifact]

    def logits(self, precision: Precision) -> np.ndarray:
        return np.concatenate(list(LiteRTFormat().run(self.artifacts[precision], [IMAGES[:50], IMAGES[50:]])))


@pytest.fixture(scope="module")
def converted(student: nn.Module) -> bytes:
    """The flatbuffer that every precision begins with."""
    return to_content(to_program(student, CONTRACT), CONTRACT).serialise()


@pytest.fixture(scope="module")
def built(student: nn.Module, converted: bytes, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The student in every precision."""
    folder = tmp_path_factory.mktemp("litert")
    program = to_program(student, CONTRACT)
    models: dict[Precision, ExportedModel] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (exporter, quantiser):
            # It takes seconds, and is the same for all.
            patch.setattr(module, "to_content", lambda program, contract: Content.parse(converted))
        for precision in Precision:
            path = folder / f"{precision}.tflite"
            if precision in (Precision.FP32, Precision.FP16):
                models[precision] = export_litert(program, CONTRACT, path, precision, build_hash=BUILD)
            else:
                scheme = QuantScheme(precision=precision, kept=KEPT if precision is Precision.MIXED else ())
                models[precision] = quantize_litert(student, CALIBRATION, CONTRACT, scheme, path, build_hash=BUILD)
    artifacts = {p: LiteRTFormat().compile(model, PHONE, folder / "compiled") for p, model in models.items()}
    return Built(models, artifacts)


# -- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["mobilenetv4", "mobileone", "resnet"])
def test_a_student_of_each_family_computes_what_torch_does(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    spec = StudentSpec(family=family, width=0.25, depth=0.25, resolution=SIDE)
    module = deploy(with_statistics(build_student(spec, CONTRACT)))
    program = to_program(module, CONTRACT)
    model = export_litert(program, CONTRACT, tmp_path / "model.tflite", Precision.FP32, build_hash=BUILD)
    (logits,) = LiteRTFormat().run(LiteRTFormat().compile(model, PHONE, tmp_path / "c"), [IMAGES[:6]])
    wanted = reference_logits(module, IMAGES[:6])
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    operators = read_file(model.path).operators
    assert operators["TRANSPOSE"] == 0, "the layout of the file is the kernels' own"
    assert operators["CAST"] == 1


def test_a_network_of_timm_computes_what_torch_does(tmp_path: Path) -> None:
    """With what students have not: depthwise layers under SiLU, squeeze and excitation."""
    torch.manual_seed(2)
    network = with_statistics(timm.create_model("test_efficientnet", num_classes=CLASSES))
    module = deploy(Normalised(network, CONTRACT.mean, CONTRACT.std))
    program = to_program(module, CONTRACT)
    model = export_litert(program, CONTRACT, tmp_path / "m.tflite", Precision.FP32, build_hash=BUILD)
    (logits,) = LiteRTFormat().run(LiteRTFormat().compile(model, PHONE, tmp_path / "c"), [IMAGES[:3]])
    wanted = reference_logits(module, IMAGES[:3])
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("precision", "agreement", "decibel"),
    [
        (Precision.FP32, 1.0, 100),
        (Precision.FP16, 1.0, 50),
        (Precision.INT8, 0.96, 22),
        (Precision.MIXED, 0.96, 22),
        (Precision.INT8_WEIGHTS, 0.98, 30),
        (Precision.INT4_WEIGHTS, 0.7, 8),
    ],
)
def test_every_precision_follows_the_student(
    student: nn.Module, built: Built, precision: Precision, agreement: float, decibel: float
) -> None:
    wanted, logits = reference_logits(student, IMAGES), built.logits(precision)
    assert logits.dtype == np.float32 and logits.shape == wanted.shape
    assert (wanted.argmax(1) == LABELS).mean() > 0.9, "else agreement would mean nothing"
    assert (logits.argmax(1) == wanted.argmax(1)).mean() >= agreement
    assert 10 * np.log10(wanted.var() / np.square(logits - wanted).mean()) > decibel


def test_sizes_are_those_that_the_precisions_stand_for(built: Built) -> None:
    constants = {p: read_file(model.path).constant_bytes for p, model in built.models.items()}
    full = constants[Precision.FP32]
    assert constants[Precision.FP16] == pytest.approx(full / 2, rel=0.02)
    assert constants[Precision.INT8] == pytest.approx(full / 4, rel=0.05)
    assert constants[Precision.INT8_WEIGHTS] == pytest.approx(full / 4, rel=0.05)
    assert constants[Precision.INT4_WEIGHTS] == pytest.approx(full / 8, rel=0.1)
    assert constants[Precision.INT8] < constants[Precision.MIXED] < full
    for model in built.models.values():
        assert model.bytes == model.path.stat().st_size and model.sha256 == file_sha256(model.path)


def test_mixed_keeps_the_named_layers_in_floating_point_and_no_other(student: nn.Module, built: Built) -> None:
    layers = {layer.name: layer for layer in read_file(built.models[Precision.MIXED].path).layers()}
    weighted = {name for name, module in student.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert set(layers) == weighted
    assert {name for name, layer in layers.items() if layer.arithmetic != "int8"} == set(KEPT)
    assert {layers[name].described for name in KEPT} == {"float32"}
    assert {layer.described for layer in read_file(built.models[Precision.INT8].path).layers()} == {"int8"}


class WithNorm(nn.Module):
    """A block of a transformer without its attention: a normalisation between two layers, added to what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.inner = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.conv(image / 255).flatten(2).transpose(1, 2)
        tokens = tokens + nn.functional.gelu(self.inner(self.norm(tokens)))
        return self.head(tokens.mean(1))


def test_normalisations_and_what_has_no_integer_kernel_stay_in_floating_point(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module, scheme = WithNorm().eval(), QuantScheme(precision=Precision.INT8)
    model = quantize_litert(module, CALIBRATION, CONTRACT, scheme, tmp_path / "m.tflite", build_hash=BUILD)
    file = read_file(model.path)
    kinds: dict[str, list[str]] = {}
    for operator in file.main.operators:
        kinds.setdefault(operator.name, []).append(file.main.tensors[operator.outputs[0]].kind)
    assert {layer.described for layer in file.layers()} == {"int8"}
    for name in ("RSQRT", "SQUARED_DIFFERENCE", "SUB", "MUL", "GELU"):
        assert set(kinds[name]) == {"FLOAT32"}, name
    assert "INT8" in kinds["ADD"], "the sum around the block"
    record = LiteRTFormat().compile(model, PHONE, tmp_path / "c").record
    assert record["other_operators"] == "CAST 1"


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("network.1.conv;", True),
        ("network.1.conv:2;", True),
        ("network.1.conv1;", False),
        ("network.1.conv.0;", False),
        ("network.11conv;", False),
        ("a.network.1.conv;", False),
    ],
)
def test_a_layers_scope_is_not_that_of_one_whose_name_begins_alike(output: str, found: bool) -> None:
    assert bool(re.search(scope("network.1.conv"), output)) is found


# -- what is in a file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", list(Precision))
def test_a_file_takes_uint8_nhwc_and_carries_its_contract(built: Built, precision: Precision) -> None:
    model = built.models[precision]
    assert model.inputs == (TensorSignature(name="image", dtype="uint8", shape=(1, SIDE, SIDE, 3)),)
    assert model.outputs == (TensorSignature(name="logits", dtype="float32", shape=(1, CLASSES)),)
    file = read_file(model.path)
    assert file.signature() == (model.inputs, model.outputs)
    assert precision_of(tuple(file.layers())) is precision
    entries = read_file(model.path).entries
    assert Contract.model_validate_json(entries[CONTRACT_KEY]) == CONTRACT
    assert '"prunelle à épines"' in entries[LABELS_KEY]
    assert entries[BUILD_KEY] == BUILD
    assert QuantScheme.model_validate_json(entries[SCHEME_KEY]) == model.scheme
    calibrated = precision in (Precision.INT8, Precision.MIXED)
    assert model.scheme.calibration_images == (len(CALIBRATION) if calibrated else 0)


def test_litert_itself_finds_input_and_output_by_the_contracts_names(built: Built) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for model in built.models.values():
        interpreter = Interpreter(str(model.path))
        logits = interpreter.get_signature_runner()(image=IMAGES[:1].transpose(0, 2, 3, 1))["logits"]
        assert logits.shape == (1, CLASSES)
        assert interpreter.get_input_details()[0]["name"] == "image"
        assert interpreter.get_output_details()[0]["name"] == "logits"


def test_constants_lie_where_kernels_may_read_them_at_once(built: Built) -> None:
    """The schema asks for buffers at multiples of 16 bytes."""
    for model in built.models.values():
        data = model.path.read_bytes()
        contents = [bytes(b.data) for b in Content.parse(data).model.buffers if b.data is not None]
        assert {data.index(content) % 16 for content in contents if len(content) >= 64} == {0}


def test_equal_weights_and_images_give_equal_bytes(student: nn.Module, built: Built, tmp_path: Path) -> None:
    """All anew: the converter, the calibration, the file."""
    path, scheme = tmp_path / "again.tflite", QuantScheme(precision=Precision.INT8)
    again = quantize_litert(student, CALIBRATION, CONTRACT, scheme, path, build_hash=BUILD)
    assert again.sha256 == built.models[Precision.INT8].sha256
    assert [p.name for p in tmp_path.iterdir()] == ["again.tflite"]  # no temporary left


def test_inspect_tells_what_the_file_holds_and_what_computes_it(built: Built) -> None:
    seen = LiteRTFormat().inspect(built.artifacts[Precision.INT8])
    facts = seen.facts
    assert [tensor.shown for tensor in (*seen.inputs, *seen.outputs)] == [
        "image uint8[1, 32, 32, 3]",
        "logits float32[1, 5]",
    ]
    assert {layer.name: layer.described for layer in seen.layers}["network.conv1.0"] == "int8"
    full = LiteRTFormat().inspect(built.artifacts[Precision.FP32]).facts
    assert facts["other_operators"] == full["other_operators"], "int8 leaves XNNPACK no less than fp32 does"
    assert "CONV_2D" in facts["xnnpack_operators"] and "QUANTIZE" in facts["xnnpack_operators"]
    assert sum(seen.bytes_by_part.values()) == built.models[Precision.INT8].bytes
    assert set(seen.bytes_by_part) == {"weights", "metadata", "graph"}


@pytest.mark.parametrize(
    ("precision", "described"),
    [
        (Precision.FP16, {"float16 weights, float32"}),
        (Precision.INT8_WEIGHTS, {"int8 weights, float32"}),
        (Precision.INT4_WEIGHTS, {"int4 weights, int8 dynamic"}),
    ],
)
def test_layers_tell_what_they_store_and_what_they_compute_in(
    built: Built, precision: Precision, described: set[str]
) -> None:
    assert {layer.described for layer in read_file(built.models[precision].path).layers()} == described


# -- what is refused --------------------------------------------------------------------------------------------


class WithBessel(nn.Module):
    """An operation that LiteRT has no form for, behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 3)

    def forward(self, image: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.conv(image)).mean((2, 3))


def test_an_operation_without_a_form_in_litert_is_named(tmp_path: Path) -> None:
    program = to_program(WithBessel().eval(), CONTRACT)
    with pytest.raises(UnsupportedError, match="bessel_j0") as caught:
        export_litert(program, CONTRACT, tmp_path / "m.tflite", Precision.FP32, build_hash=BUILD)
    assert "leave litert out" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_weight_outside_float16_is_named(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, CLASSES, SIDE), nn.Flatten()).eval()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = 1e5
    with pytest.raises(TrialFailure, match=r"0\.weight: holds 1e\+05, float16 ends at 65504"):
        export_litert(to_program(module, CONTRACT), CONTRACT, tmp_path / "m.tflite", Precision.FP16, build_hash=BUILD)


@pytest.mark.parametrize(
    ("scheme", "images", "error", "message"),
    [
        ({"calibration": Calibration.ENTROPY}, CALIBRATION, UnsupportedError, "not by entropy"),
        ({}, CALIBRATION.astype(np.float32), InputError, "takes uint8"),
        ({}, CALIBRATION[:0], InputError, "calibration images"),
        ({"precision": Precision.FP16}, CALIBRATION, UnsupportedError, "use export_litert"),
        ({"kept": ("network.layer3.0.conv9",)}, CALIBRATION, InputError, r"did you mean network\.layer3"),
    ],
)
def test_what_the_quantiser_refuses(
    student: nn.Module,
    converted: bytes,
    scheme: dict[str, Any],
    images: np.ndarray,
    error: type[EdgedistillError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantiser, "to_content", lambda program, contract: Content.parse(converted))
    wanted = QuantScheme.model_validate({"precision": Precision.INT8, **scheme})
    with pytest.raises(error, match=message):
        quantize_litert(student, images, CONTRACT, wanted, tmp_path / "m.tflite", build_hash=BUILD)
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_litert_and_another_format_are_refused(built: Built, tmp_path: Path) -> None:
    model = built.models[Precision.FP32]
    iphone = PHONE.model_copy(update={"name": "iphone", "formats": (Format.COREML,), "runtime": Format.COREML})
    problems = LiteRTFormat().unsupported(model.model_copy(update={"format": Format.ONNX}), iphone)
    assert [problem.what for problem in problems] == ["is onnx, not litert", "does not take litert"]
    with pytest.raises(UnsupportedError, match="iphone"):
        LiteRTFormat().compile(model, iphone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_another_signature_than_stated_is_refused(built: Built, tmp_path: Path) -> None:
    stated = (TensorSignature(name="pixels", dtype="uint8", shape=(1, SIDE, SIDE, 3)),)
    model = built.models[Precision.FP32].model_copy(update={"inputs": stated})
    with pytest.raises(UnsupportedError, match=r"stated were pixels uint8\[1, 32, 32, 3\]"):
        LiteRTFormat().compile(model, PHONE, tmp_path)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_file_without_our_metadata_is_adopted_as_its_tensors_say(
    built: Built, precision: Precision, tmp_path: Path
) -> None:
    content = Content.parse(built.models[precision].path.read_bytes())
    content.model.metadata = []
    path = tmp_path / "foreign.tflite"
    path.write_bytes(content.serialise())
    assert LiteRTFormat().adopt(path, PHONE).scheme == QuantScheme(precision=precision)
    assert read_file(path).entries == {}


# -- measuring --------------------------------------------------------------------------------------------------


def test_the_agent_is_handed_images_in_the_files_own_layout(built: Built) -> None:
    jobs: list[tuple[SessionJob, np.ndarray | None]] = []

    class Asked(Exception):
        pass

    def execute(job: SessionJob):
        jobs.append((job, None if job.inputs is None else np.load(job.inputs)))
        raise Asked

    protocol = MeasurementProtocol(
        target=PHONE,
        seconds=1,
        min_runs=5,
        operators=False,
        execute=execute,
        sample=sample,
        anchor=built.artifacts[Precision.FP32],
    )
    artifact = built.artifacts[Precision.INT8]
    for inputs in (IMAGES[:3], None):
        with pytest.raises(Asked):
            LiteRTFormat().profile(artifact, inputs, protocol)
    (job, images), (bare, nothing) = jobs
    assert job.loader == LiteRTFormat.on_device and job.input_name == "image" and job.model == artifact.path
    assert job.anchor == bare.anchor == built.artifacts[Precision.FP32].path
    assert images is not None and images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[:3].transpose(0, 2, 3, 1))
    assert nothing is None and bare.input_name == ""
