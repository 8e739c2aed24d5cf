"""ExecuTorch programs: lowered, quantised, read back, refused where they must be, and run by ExecuTorch itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from edgedistill.artifacts import CompiledArtifact, ExportedModel, TensorSignature
from edgedistill.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.exporters.carried import BUILD_KEY, CONTRACT_KEY, LABELS_KEY, SCHEME_KEY
from edgedistill.exporters.program import reference_logits, to_program
from edgedistill.runtimes.base import MeasurementProtocol, NotRunnableError, SessionJob
from edgedistill.specs import Calibration, Contract, Delegate, Format, Precision, QuantScheme, StudentSpec, Target
from edgedistill.students.build import Normalised, build_student, deploy

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from edgedistill.exporters.executorch import export_executorch
from edgedistill.quantizers.executorch import executorch_quantizer, quantize_executorch
from edgedistill.quantizers.pt2e import fake_quantize
from edgedistill.quantizers.ranges import entropy_range, percentile_range
from edgedistill.runtimes.executorch import ExecuTorchRuntime
from edgedistill.runtimes.executorch_program import read_entries, read_pte

SIDE, CLASSES = 32, 5
BUILD = "b" * 64
CONTRACT = Contract(
    resolution=SIDE,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    labels=("apple", "pear", "quince", "sloe", "prunelle à épines"),
)
PHONE = Target(
    name="pixel",
    title="Pixel",
    runtime=Format.EXECUTORCH,
    formats=(Format.EXECUTORCH,),
    precisions=tuple(Precision),
    transport="local",
)
CAST = "dim_order_ops::_to_dim_order_copy.out"
KEPT = ("network.middle.0", "network.head")


class Small(nn.Module):
    """A few of the operations that students are made of, small enough to be lowered in a second or two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.branch = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.stem(x))
        logits: Tensor = self.head((x + self.branch(x)).mean((2, 3)))
        return logits


def labelled_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of `CLASSES` kinds (a bright bar at one of as many heights, on structured ground), 0..255, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1) * 127
    for image, label in zip(images, labels, strict=True):
        top = 1 + 6 * int(label)
        image[:, top : top + 4] += 120
    return images.clamp(0, 255).round(), labels


IMAGES = labelled_images(64, seed=6)[0].to(torch.uint8).numpy()
CALIBRATION = labelled_images(32, seed=4)[0].to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def student() -> nn.Module:
    """Trained a little, so that its batch norms have statistics of their own and its logits mean something."""
    torch.manual_seed(0)
    module = Normalised(Small(), CONTRACT.mean, CONTRACT.std)
    images, labels = labelled_images(256, seed=4)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for step in range(64):
        batch = slice(step % 8 * 32, step % 8 * 32 + 32)
        loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval().requires_grad_(False)


@dataclass(frozen=True)
class Built:
    models: dict[Precision, ExportedModel]
    artifacts: dict[Precision, CompiledArtifact]


@pytest.fixture(scope="module")
def built(student: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("executorch")
    program = to_program(student, CONTRACT)
    models = {
        precision: export_executorch(program, CONTRACT, folder / f"{precision}.pte", precision, build_hash=BUILD)
        for precision in (Precision.FP32, Precision.FP16)
    }
    for precision in (Precision.INT8, Precision.MIXED, Precision.INT8_WEIGHTS):
        models[precision] = quantize_executorch(
            student,
            CALIBRATION,
            CONTRACT,
            QuantScheme(precision=precision, kept=KEPT if precision is Precision.MIXED else ()),
            folder / f"{precision}.pte",
            build_hash=BUILD,
        )
    runtime = ExecuTorchRuntime()
    artifacts = {p: runtime.compile(model, PHONE, folder / "compiled") for p, model in models.items()}
    return Built(models, artifacts)


def logits(artifact: CompiledArtifact, images: np.ndarray = IMAGES) -> np.ndarray:
    return np.concatenate(list(ExecuTorchRuntime().run(artifact, [images])))


# -- what the files compute --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "allowed", "agreement"),
    [
        (Precision.FP32, 1e-5, 1.0),
        (Precision.FP16, 1e-2, 1.0),
        (Precision.INT8, 0.2, 0.95),
        (Precision.MIXED, 0.2, 0.95),
        (Precision.INT8_WEIGHTS, 0.2, 0.95),
    ],
)
def test_a_file_follows_the_torch_module(
    student: nn.Module, built: Built, precision: Precision, allowed: float, agreement: float
) -> None:
    wanted, got = reference_logits(student, IMAGES), logits(built.artifacts[precision])
    assert got.dtype == np.float32 and got.shape == (len(IMAGES), CLASSES)
    assert len(set(wanted.argmax(1).tolist())) == CLASSES  # else agreement would mean nothing
    assert np.abs(got - wanted).max() < allowed * np.abs(wanted).max()
    assert (got.argmax(1) == wanted.argmax(1)).mean() >= agreement
    if precision is not Precision.FP32:
        assert np.abs(got - wanted).max() > 0


@pytest.mark.parametrize(
    "spec",
    [
        StudentSpec(family="resnet", width=0.25, depth=0.34, resolution=SIDE),
        StudentSpec(family="mobilenetv4", width=0.35, depth=0.34, resolution=SIDE),
        StudentSpec(family="mobileone", width=0.25, depth=0.2, resolution=SIDE),
    ],
    ids=lambda spec: spec.family,
)
def test_each_family_runs_whole_in_the_delegate(spec: StudentSpec, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = build_student(spec, CONTRACT)
    with torch.no_grad():
        for start in range(0, 32, 16):
            module(torch.from_numpy(CALIBRATION[start : start + 16]).float())  # statistics of its own
    deployed = deploy(module)
    model = export_executorch(
        to_program(deployed, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD
    )
    artifact = ExecuTorchRuntime().compile(model, PHONE, tmp_path / "compiled")
    wanted = reference_logits(deployed, IMAGES[:8])
    np.testing.assert_allclose(logits(artifact, IMAGES[:8]), wanted, atol=1e-5 * np.abs(wanted).max(), rtol=1e-4)
    assert artifact.record["delegates"] == "XnnpackBackend 1"
    assert artifact.record["portable_operators"] == f"{CAST} 1"


def test_a_transformer_leaves_only_its_norms_outside(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIDE, patch_size=8, depth=1, embed_dim=48, num_heads=3, num_classes=CLASSES
    )
    module = Normalised(network, CONTRACT.mean, CONTRACT.std).eval()
    program = to_program(module, CONTRACT)
    artifacts = {}
    for precision in (Precision.FP32, Precision.INT4_WEIGHTS):
        path = tmp_path / f"{precision}.pte"
        model = (
            export_executorch(program, CONTRACT, path, precision, build_hash=BUILD)
            if precision is Precision.FP32
            else quantize_executorch(
                module, CALIBRATION[:0], CONTRACT, QuantScheme(precision=precision), path, build_hash=BUILD
            )
        )
        artifacts[precision] = ExecuTorchRuntime().compile(model, PHONE, tmp_path / "compiled")
    wanted = reference_logits(module, IMAGES[:8])
    full, small = artifacts[Precision.FP32], artifacts[Precision.INT4_WEIGHTS]
    assert np.abs(logits(full, IMAGES[:8]) - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert full.record["portable_operators"] == f"aten::native_layer_norm.out 3, {CAST} 1"
    assert small.bytes < 0.5 * full.bytes
    (part, *_) = [p for p in read_pte(small.path).forward.delegates if "qcint4" in p.xnnpack.datatypes]  # type: ignore
    assert part.xnnpack.nodes["fully_connected"] == 1  # type: ignore[union-attr]


class Talking(nn.Module):
    """A softmax between convolutions, as attention with mixed heads has it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.after((self.before(image / 64)).softmax(-1)).amax((2, 3))
        return logits


def test_a_softmax_between_convolutions_is_over_the_right_dimension(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Talking().eval()
    model = export_executorch(
        to_program(module, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD
    )
    artifact = ExecuTorchRuntime().compile(model, PHONE, tmp_path / "compiled")
    assert artifact.record["delegates"] == "XnnpackBackend 1"
    np.testing.assert_allclose(logits(artifact, IMAGES[:4]), reference_logits(module, IMAGES[:4]), atol=1e-5)


# -- what the files hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.MIXED])
def test_metadata_comes_back(built: Built, precision: Precision) -> None:
    model = built.models[precision]
    entries = read_entries(model.path)
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
    runtime, artifact = ExecuTorchRuntime(), built.artifacts[Precision.FP32]
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
    layers = ExecuTorchRuntime().inspect(built.artifacts[precision]).layers
    assert len({layer.name for layer in layers}) == len(layers) == 4
    assert {layer.described for layer in layers} == described


def test_any_program_can_be_adopted(built: Built) -> None:
    runtime = ExecuTorchRuntime()
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

    protocol = MeasurementProtocol(
        target=PHONE, sessions=1, pause_s=0, max_samples=7, max_seconds=1, operators=False, execute=execute
    )
    with pytest.raises(Asked):
        ExecuTorchRuntime().profile(built.artifacts[Precision.FP32], IMAGES[:2], protocol)
    assert (asked[0].format, asked[0].max_samples, asked[0].threads) == (Format.EXECUTORCH, 7, 1)


# -- what is refused ---------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.i0(image / 255).mean((2, 3)).repeat(1, 2)[:, :CLASSES]


def test_an_operation_without_a_form_is_named(tmp_path: Path) -> None:
    program = to_program(Odd().eval(), CONTRACT)
    with pytest.raises(UnsupportedError, match=r"aten\.i0") as caught:
        export_executorch(program, CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_a_kernel_is_named(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.runtimes import executorch as module

    class Bare:
        def _get_operator_names(self) -> list[str]:
            return ["aten::add.out"]

    monkeypatch.setattr(module, "_runtime", Bare)
    (problem,) = ExecuTorchRuntime().unsupported(built.models[Precision.FP32], PHONE)
    assert CAST in problem.where and "no kernel" in problem.what


def test_what_the_runtime_refuses(built: Built, tmp_path: Path) -> None:
    runtime, model = ExecuTorchRuntime(), built.models[Precision.FP32]
    assert runtime.unsupported(model, PHONE) == ()
    board = PHONE.model_copy(update={"name": "board", "formats": (Format.ONNX,)})
    assert len(runtime.unsupported(model.model_copy(update={"format": Format.ONNX}), board)) == 2
    stated = model.model_copy(update={"outputs": model.inputs})
    with pytest.raises(UnsupportedError, match="cannot be used") as caught:
        runtime.compile(stated, PHONE, tmp_path)
    assert "stated were image uint8" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_refused(built: Built) -> None:
    with pytest.raises(InputError, match="resize them"):
        logits(built.artifacts[Precision.FP32], np.zeros((1, 3, 16, 16), np.uint8))


def test_schemes_are_refused_where_they_would_change_little(student: nn.Module, tmp_path: Path) -> None:
    def quantize(precision: Precision, images: np.ndarray = CALIBRATION[:4], kept: tuple[str, ...] = ()) -> None:
        scheme = QuantScheme(precision=precision, kept=kept)
        quantize_executorch(student, images, CONTRACT, scheme, tmp_path / "m.pte", build_hash=BUILD)

    with pytest.raises(UnsupportedError, match=r"linear layers alone, which hold \d"):
        quantize(Precision.INT4_WEIGHTS)
    with pytest.raises(InputError, match="got none"):
        quantize(Precision.INT8, CALIBRATION[:0])
    with pytest.raises(InputError, match="the model takes uint8"):
        quantize(Precision.INT8, CALIBRATION[:, :, :16])
    with pytest.raises(InputError, match=r"network\.tail") as caught:
        quantize(Precision.MIXED, kept=("network.tail",))
    assert "network.stem.0" in caught.value.fix
    with pytest.raises(UnsupportedError, match="fp32 and fp16 only"):
        export_executorch(to_program(student, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.INT8, build_hash=BUILD)
    assert list(tmp_path.iterdir()) == []


def test_without_executorch_the_line_that_installs_it_is_given(
    student: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    def absent(name: str, package: str | None = None) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    program = to_program(student, CONTRACT)
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError) as caught:
        export_executorch(program, CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD)
    assert caught.value.fix == 'pip install "edgedistill[executorch]"'


def test_the_core_ml_delegate_makes_files_that_run_elsewhere(student: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
    model = export_executorch(
        to_program(student, CONTRACT),
        CONTRACT,
        tmp_path / "m.pte",
        Precision.FP16,
        build_hash=BUILD,
        delegate=Delegate.COREML,
    )
    runtime = ExecuTorchRuntime()
    artifact = runtime.compile(model, PHONE, tmp_path / "compiled")
    assert artifact.record["delegates"] == "CoreMLBackend 1"
    assert artifact.record["portable_operators"] == f"{CAST} 1"
    try:
        got = logits(artifact)
    except NotRunnableError as error:
        assert "CoreMLBackend" in error.message
        assert any("CoreMLBackend" in check for check in runtime.inspect(artifact).checks)
    else:
        assert (got.argmax(1) == reference_logits(student, IMAGES).argmax(1)).mean() > 0.95


class WithInverse(nn.Module):
    """An operation that coremltools has no form for, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(torch.acosh(1 + self.first(x).square())).mean((2, 3)))
        return logits


def test_what_falls_back_to_the_cpu_is_an_error_on_an_accelerator_unless_it_is_allowed(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
    torch.manual_seed(0)
    module = Normalised(WithInverse(), CONTRACT.mean, CONTRACT.std).eval().requires_grad_(False)
    phone = PHONE.model_copy(update={"delegate": Delegate.COREML, "accelerator": "Neural Engine"})
    model = export_executorch(
        to_program(module, CONTRACT),
        CONTRACT,
        tmp_path / "m.pte",
        Precision.FP16,
        build_hash=BUILD,
        delegate=phone.delegate,
    )
    runtime = ExecuTorchRuntime()
    problems = runtime.unsupported(model, phone)
    problem = next(problem for problem in problems if "acosh" in problem.where)
    assert "Neural Engine" in problem.what and "allow_fallbacks" in problem.fix
    with pytest.raises(UnsupportedError) as caught:
        runtime.compile(model, phone, tmp_path / "refused")
    assert tuple(caught.value.problems) == problems
    allowed = phone.model_copy(update={"allow_fallbacks": True})
    artifact = runtime.compile(model, allowed, tmp_path / "allowed")
    assert artifact.fallbacks is not None and sum((artifact.fallbacks.elsewhere or {}).values()) >= 1
    assert "acosh" in artifact.fallbacks.sentence and "CoreMLBackend" in artifact.fallbacks.sentence


@pytest.mark.parametrize(
    ("precision", "sdk", "soc", "error", "told"),
    [
        (Precision.FP16, "", "SM8550", MissingDependencyError, "QNN_SDK_ROOT is not set"),
        (Precision.FP16, "/opt/qnn", "SM1", InputError, "'SM1' is no chip"),
        (Precision.FP32, "/opt/qnn", "SM8550", UnsupportedError, "given fp16 here, not fp32"),
    ],
)
def test_qualcomms_delegate_says_what_it_lacks(
    student: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    sdk: str,
    soc: str,
    error: type[Exception],
    told: str,
) -> None:
    monkeypatch.setenv("QNN_SDK_ROOT", sdk)
    program = to_program(student, CONTRACT)
    with pytest.raises(error, match=told):
        export_executorch(
            program, CONTRACT, tmp_path / "m.pte", precision, build_hash=BUILD, delegate=Delegate.QNN, soc=soc
        )
    assert not (tmp_path / "m.pte").exists()


# -- ranges of activations ---------------------------------------------------------------------------------------------


def test_ranges_leave_outliers_out_and_nothing_else() -> None:
    values = np.random.default_rng(0).normal(size=400_000)
    values[:2] = (-40, 60)
    histogram, _ = np.histogram(values, 2048, (values.min(), values.max()))
    for search in (percentile_range, entropy_range):
        low, high = search(histogram.astype(float), values.min(), values.max())
        assert -8 < low < -4 and 4 < high < 8, search.__name__
    positive = np.maximum(values[2:], 0)  # half of it a heap of zeros, which costs nothing to round
    histogram, _ = np.histogram(positive, 2048, (0, positive.max()))
    for search in (percentile_range, entropy_range):
        low, high = search(histogram.astype(float), 0.0, positive.max())
        assert low == 0 and high > 0.8 * positive.max(), search.__name__


def test_calibrations_choose_their_scales(student: nn.Module) -> None:
    """All follow the student; none has larger scales than the smallest and largest value give, and entropy clips."""
    wanted, scales = reference_logits(student, IMAGES), {}
    for calibration in Calibration:
        scheme = QuantScheme(precision=Precision.INT8, calibration=calibration)
        program = fake_quantize(student, CALIBRATION, executorch_quantizer(scheme))
        scales[calibration] = np.array(
            [
                node.args[1]
                for node in program.graph.nodes
                if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"
            ],
            np.float64,
        )
        with torch.no_grad():
            got = program(torch.from_numpy(IMAGES).float()).numpy()
        assert (got.argmax(1) == wanted.argmax(1)).mean() >= 0.9
    widest = scales[Calibration.MINMAX]
    assert len(widest) >= 5
    assert all(np.all(found <= widest * 1.001) for found in scales.values())
    assert np.min(scales[Calibration.ENTROPY] / widest) < 0.99
