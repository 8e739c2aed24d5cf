"""fp16 and int8 ONNX files: what they compute, what is executed, what they carry."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx_contract import read_contract
from torch import nn

from edgedistill.base.errors import InputError, TrialFailure, UnsupportedError
from edgedistill.documents.specs import Calibration, Contract, Format, Precision, QuantScheme
from edgedistill.formats import format_for
from edgedistill.formats.format import IntegerStyle
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.onnx.fp16 import to_fp16
from edgedistill.formats.onnx.int8 import to_int8
from edgedistill.formats.onnx.layers import layer_names
from edgedistill.formats.onnx.metadata import read_metadata
from edgedistill.formats.onnx.sensitivity import rank_layers
from edgedistill.formats.onnx.weights import rounded, to_int8_weights
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import reference_logits, to_program
from edgedistill.networks.tasks import CLASSIFICATION

SIDE = 16
CONTRACT = Contract(resolution=SIDE, mean=(128.0,) * 3, std=(64.0,) * 3, labels=tuple("abcd"))
INT8 = QuantScheme(precision=Precision.INT8, calibration_images=64)


def block(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Student(nn.Module):
    """Stem, a depthwise separable step, a residual, pooling, a linear head: the operators of every family."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise, self.point = block(3, 16, 2), block(16, 16, groups=16), nn.Conv2d(16, 24, 1)
        self.residual, self.head = block(24, 24), nn.Linear(24, 4)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 128.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.point(self.depthwise(self.stem((x - self.mean) / 64.0)))
        x = x + self.residual(x)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def labelled_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes of four kinds (across, down, both, checks) under noise, their kind as label."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    rows, columns = np.mgrid[:SIDE, :SIDE] // 2 % 2
    kinds = np.stack([rows, columns, np.maximum(rows, columns), rows ^ columns]) * 1.0
    shift = generator.uniform(30, 120, (count, 3, 1, 1))
    images = shift + 90 * kinds[labels][:, None] + generator.normal(0, 25, (count, 3, SIDE, SIDE))
    return np.clip(images, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    images, labels = labelled_images(512, seed=0)
    x, y = torch.from_numpy(images).float(), torch.from_numpy(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Student()
        optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
        for _ in range(3):
            for part in torch.randperm(512).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x[part]), y[part]).backward()
                optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def full(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp32")
    return export_onnx(to_program(trained, CONTRACT), CONTRACT, folder / "model.onnx", build_hash="b1")


def run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


def executed_operators(path: Path, folder: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime runs, after its fusions."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_fp16(trained, full, tmp_path):
    half = to_fp16(full, tmp_path)
    assert half.path == tmp_path / "model.fp16.onnx" and half.scheme.precision is Precision.FP16
    assert (half.inputs, half.outputs) == (full.inputs, full.outputs)
    weights = onnx.load(half.path).graph.initializer
    assert {t.data_type for t in weights} <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    images, _ = labelled_images(64, seed=1)
    expected = reference_logits(trained, images)
    assert np.abs(run_onnx(half.path, images) - expected).max() < 0.01 * np.abs(expected).max()
    assert to_fp16(full, tmp_path / "again").sha256 == half.sha256


def test_fp16_refuses_weights_out_of_range(trained, tmp_path):
    module = Student()
    module.load_state_dict(trained.state_dict())
    with torch.no_grad():
        module.head.bias[0] = 1e6
    huge = export_onnx(to_program(module.eval(), CONTRACT), CONTRACT, tmp_path / "huge.onnx", build_hash="")
    with pytest.raises(TrialFailure, match=r"head\.bias.*65504"):
        to_fp16(huge, tmp_path)


@pytest.mark.parametrize("style", IntegerStyle)
def test_int8_agrees_with_fp32(trained, full, tmp_path, style):
    calibration, _ = labelled_images(64, seed=2)
    images, labels = labelled_images(256, seed=3)
    expected = reference_logits(trained, images)
    assert (expected.argmax(1) == labels).mean() > 0.9, "the test's own student has learnt nothing"
    small = to_int8(full, calibration, INT8, tmp_path, style)
    logits = run_onnx(small.path, images)
    assert (logits.argmax(1) == expected.argmax(1)).mean() >= 0.98
    assert small.scheme == INT8
    assert (small.inputs, small.outputs) == (full.inputs, full.outputs)


def test_int8_runs_on_integer_kernels(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    small = to_int8(full, calibration, INT8, tmp_path, IntegerStyle.X86)
    executed = executed_operators(small.path, tmp_path)
    convolutions = Counter(n.op_type for n in onnx.load(full.path).graph.node)["Conv"]
    assert executed["QLinearConv"] == convolutions == 4
    assert executed["QGemm"] == executed["QLinearAdd"] == executed["QLinearGlobalAveragePool"] == 1
    assert not {"Conv", "Gemm", "FusedConv", "Add"}.intersection(executed)
    assert (executed["QuantizeLinear"], executed["DequantizeLinear"]) == (1, 1)  # once in, once out


def test_weights_have_a_scale_a_channel(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    for per_channel, sizes in ((True, {16, 24, 4}), (False, {1})):
        scheme = INT8.model_copy(update={"per_channel": per_channel})
        graph = onnx.load(to_int8(full, calibration, scheme, tmp_path, IntegerStyle.X86).path).graph
        tensors = {t.name: t for t in graph.initializer}
        scales = {
            int(np.prod(tensors[node.input[1]].dims))
            for node in graph.node
            if node.op_type == "DequantizeLinear"
            and node.input[0] in tensors
            and tensors[node.input[0]].data_type == onnx.TensorProto.INT8
        }
        assert scales == sizes


def test_tensorrt_style_is_symmetric_and_leaves_outputs_alone(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    small = to_int8(full, calibration, INT8, tmp_path, IntegerStyle.TENSORRT)
    graph = onnx.load(small.path).graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert pairs and all(tensors[n.input[2]].dtype == np.int8 and not tensors[n.input[2]].any() for n in pairs)
    assert not [t for t in tensors.values() if t.dtype == np.int32], "a quantised bias: TensorRT cannot read it"
    makers = {name: node.op_type for node in graph.node for name in node.output}
    activations = [makers[node.input[0]] for node in graph.node if node.op_type == "Relu"]
    assert len(activations) == 3 and set(activations) == {"Conv"}, "a pair keeps an activation from its convolution"


def test_image_edge_stays_in_float(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    graph = onnx.load(to_int8(full, calibration, INT8, tmp_path, IntegerStyle.X86).path).graph
    by_output = {name: node for node in graph.node for name in node.output}
    subtract = next(node for node in graph.node if node.op_type == "Sub")
    assert by_output[subtract.input[0]].op_type == "Cast"


def test_int8_is_deterministic_silent_and_keeps_metadata(full, tmp_path, capfd):
    calibration, _ = labelled_images(16, seed=2)
    with warnings.catch_warnings(record=True) as caught:
        first = to_int8(full, calibration, INT8, tmp_path / "1", IntegerStyle.X86)
        second = to_int8(full, calibration, INT8, tmp_path / "2", IntegerStyle.X86)
    assert capfd.readouterr() == ("", "") and not caught
    assert first.sha256 == second.sha256
    assert first.scheme.calibration_images == 16, "the images that were used, not those asked for"
    assert read_contract(first.path) == CONTRACT
    entries, before = (read_metadata(onnx.load(model.path)) for model in (first, full))
    assert {k: v for k, v in entries.items() if "scheme" not in k} == {
        k: v for k, v in before.items() if "scheme" not in k
    }
    assert first.bytes < full.bytes and [p.name for p in (tmp_path / "1").iterdir()] == ["model.int8.onnx"]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 3, SIDE, SIDE), np.uint8),
        np.zeros((4, 3, SIDE, SIDE), np.float32),
        np.zeros((4, 3, 2 * SIDE, 2 * SIDE), np.uint8),
    ],
)
def test_calibration_images_that_do_not_fit(full, tmp_path, images):
    with pytest.raises(InputError, match="calibration images"):
        to_int8(full, images, INT8, tmp_path, IntegerStyle.X86)


def test_style_of_a_machine():
    onnx, engines = format_for(Format.ONNX), format_for(Format.TENSORRT)
    assert onnx.style("aarch64") is onnx.style("arm64") is IntegerStyle.ARM
    assert onnx.style("x86_64") is onnx.style("AMD64") is IntegerStyle.X86
    assert engines.style("aarch64") is engines.style("x86_64") is IntegerStyle.TENSORRT


def test_probe_images_calibrate_too(full, tmp_path):
    """Any uint8 images of the right size do: candidates with random weights are quantised before there is a student."""
    assert to_int8(full, probe_images(CONTRACT, 2), INT8, tmp_path, IntegerStyle.X86).bytes > 0


LAYERS = {"stem.0", "depthwise.0", "point", "residual.0", "head"}


def weights_in_float(path: Path) -> set[str]:
    """Layers of an int8 file whose operator reads a float weight."""
    graph = onnx.load(path).graph
    floats = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    heavy = [node for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
    return {node.input[1].rpartition(".")[0] for node in heavy if node.input[1] in floats}


def test_layers_have_the_names_that_they_have_in_torch(full):
    assert set(layer_names(onnx.load(full.path).graph).values()) == LAYERS


@pytest.mark.parametrize("style", IntegerStyle)
@pytest.mark.parametrize("kept", [{"point"}, {"stem.0", "head"}, LAYERS])
def test_kept_layers_stay_in_float(full, tmp_path, style, kept):
    calibration, _ = labelled_images(8, seed=2)
    scheme = QuantScheme(precision=Precision.MIXED, kept=tuple(kept))
    mixed = to_int8(full, calibration, scheme, tmp_path, style)
    assert mixed.scheme.kept == scheme.kept and "mixed" in mixed.path.name
    assert weights_in_float(mixed.path) == kept
    images, _ = labelled_images(4, seed=3)
    difference = np.abs(run_onnx(mixed.path, images) - run_onnx(full.path, images)).max()
    assert (difference < 1e-5) == (kept == LAYERS)


def test_what_reads_kept_layers_alone_stays_in_float_with_them(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    scheme = QuantScheme(precision=Precision.MIXED, kept=("stem.0",))
    graph = onnx.load(to_int8(full, calibration, scheme, tmp_path).path).graph
    makers = {name: node for node in graph.node for name in node.output}
    relu = next(node for node in graph.node if node.op_type == "Relu")
    assert makers[relu.input[0]].op_type == "Conv", "nothing is rounded between the kept layer and its ReLU"


def test_a_kept_layer_that_is_not_there(full, tmp_path):
    calibration, _ = labelled_images(8, seed=2)
    scheme = QuantScheme(precision=Precision.MIXED, kept=("pont",))
    with pytest.raises(InputError, match=r"(?s)pont.*did you mean point"):
        to_int8(full, calibration, scheme, tmp_path)


@pytest.mark.parametrize("method", Calibration)
def test_every_calibration_gives_a_file(trained, full, tmp_path, method, capfd):
    calibration, _ = labelled_images(40, seed=2)
    scheme = INT8.model_copy(update={"calibration": method})
    small = to_int8(full, calibration, scheme, tmp_path)
    images, _ = labelled_images(64, seed=3)
    expected = reference_logits(trained, images)
    assert (run_onnx(small.path, images).argmax(1) == expected.argmax(1)).mean() > 0.95
    assert small.scheme.calibration is method
    assert to_int8(full, calibration, scheme, tmp_path / "again").sha256 == small.sha256
    assert capfd.readouterr() == ("", "")


def test_outliers_do_not_decide_a_percentile_or_entropy_range(full, tmp_path):
    calibration, _ = labelled_images(64, seed=2)
    calibration[0] = np.random.default_rng(0).choice([0, 255], calibration[0].shape)
    scales = {}
    for method in Calibration:
        scheme = INT8.model_copy(update={"calibration": method})
        graph = onnx.load(to_int8(full, calibration, scheme, tmp_path).path).graph
        scales[method] = sum(
            float(onnx.numpy_helper.to_array(t))
            for t in graph.initializer
            if t.name.endswith("_scale") and not t.dims and "weight" not in t.name
        )
    assert scales[Calibration.PERCENTILE] <= scales[Calibration.MINMAX]
    assert scales[Calibration.ENTROPY] < scales[Calibration.MINMAX]


def test_a_fragile_layer_ranks_first(trained, tmp_path):
    module = Student()
    module.load_state_dict(trained.state_dict())
    with torch.no_grad():
        # Two channels become a thousand times larger and count a thousand times less: rounded, the others vanish.
        for tensor in (module.point.weight, module.point.bias):
            tensor[:2] *= 1000
        module.residual[0].weight[:, :2] /= 1000
        module.head.weight[:, :2] /= 1000
    fragile = export_onnx(to_program(module.eval(), CONTRACT), CONTRACT, tmp_path / "m.onnx", build_hash="")
    calibration, _ = labelled_images(64, seed=2)
    ranks = rank_layers(fragile, calibration, INT8, IntegerStyle.X86, CLASSIFICATION)
    assert {damage.layer for damage in ranks} == LAYERS
    assert ranks[0].layer in {"point", "residual.0", "head"}
    assert ranks[0].distance > 10 * next(d.distance for d in ranks if d.layer == "stem.0")


def test_weights_alone(trained, full, tmp_path):
    small = to_int8_weights(full, QuantScheme(precision=Precision.INT8_WEIGHTS), tmp_path)
    assert small.bytes < 0.6 * full.bytes
    images, _ = labelled_images(64, seed=3)
    expected = reference_logits(trained, images)
    assert np.abs(run_onnx(small.path, images) - expected).max() < 0.05 * np.abs(expected).max()
    assert read_contract(small.path) == CONTRACT
    with pytest.raises(UnsupportedError, match="int4-weights"):
        to_int8_weights(full, QuantScheme(precision=Precision.INT4_WEIGHTS), tmp_path)


@pytest.mark.parametrize("axis", [0, 1])
def test_rounded_weights(axis):
    weight = np.random.default_rng(0).normal(size=(6, 5, 3, 3)).astype(np.float32)
    weight[2] = 0
    codes, scales = rounded(weight, axis)
    shape = [-1 if a == axis else 1 for a in range(4)]
    assert np.abs(codes * scales.reshape(shape) - weight).max() <= scales.max() / 2 + 1e-7
    assert codes.min() >= -127 and len(scales) == weight.shape[axis]
