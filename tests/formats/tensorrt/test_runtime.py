"""Engines built ahead of time, what is refused and how, and what an engine that cannot run here is said to be."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgedistill.base.errors import MissingDependencyError, UnsupportedError
from edgedistill.base.store import file_sha256
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.formats.format import IntegerStyle
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.onnx.fp16 import to_fp16
from edgedistill.formats.onnx.int8 import to_int8
from edgedistill.formats.onnx.metadata import signatures
from edgedistill.formats.tensorrt import vendor as tensorrt_vendor
from edgedistill.formats.tensorrt.graph import linear_as_convolution
from edgedistill.formats.tensorrt.runtime import TensorRTFormat, local_capability, trtexec_command
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import to_program

needs_builder = pytest.mark.skipif(
    not (find_spec("tensorrt_rtx") or find_spec("tensorrt")), reason="neither tensorrt nor tensorrt_rtx is installed"
)
ahead_of_time = pytest.mark.skipif(
    not find_spec("tensorrt_rtx") or local_capability() is not None,
    reason="building ahead of time needs tensorrt_rtx, and a machine without a GPU of its own",
)
CONTRACT = Contract(resolution=32, mean=(128.0,) * 3, std=(64.0,) * 3, labels=tuple("abcde"))
HOST = Target(
    name="host",
    title="this machine",
    runtime=Format.ONNX,
    formats=(Format.ONNX, Format.TENSORRT),
    precisions=tuple(Precision),
    transport="local",
    compute_capabilities=(75, 80, 86, 89, 120),
)
JETSON = HOST.model_copy(
    update={"name": "jetson", "machine": "aarch64", "transport": "ssh", "compute_capabilities": (87,)}
)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.point, self.head = nn.Conv2d(16, 16, 1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem((x - 128) / 64).relu()
        x = x + self.point(self.depthwise(x).relu())
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[Precision, ExportedModel]:
    folder = tmp_path_factory.mktemp("onnx")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        program = to_program(Student().eval(), CONTRACT)
    full = export_onnx(program, CONTRACT, folder / "model.onnx", build_hash="")
    int8 = QuantScheme(precision=Precision.INT8)
    return {
        Precision.FP32: full,
        Precision.FP16: to_fp16(full, folder),
        Precision.INT8: to_int8(full, probe_images(CONTRACT, 8), int8, folder, IntegerStyle.TENSORRT),
    }


@ahead_of_time
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8])
def test_engine_for_every_capability(models, precision, tmp_path):
    runtime, model = TensorRTFormat(), models[precision]
    assert runtime.unsupported(model, HOST) == ()
    artifact = runtime.compile(model, HOST, tmp_path)
    record = artifact.record
    assert record["capabilities"] == "75, 80, 86, 89, 120" and "capabilities_left_out" not in record
    network = artifact.handed_over
    assert network is not None
    assert [tensor.shown for tensor in network.inputs] == ["image uint8[1, 3, 32, 32]"]
    assert [tensor.shown for tensor in network.outputs] == ["logits float32[1, 5]"]
    assert record["onnx_sha256"] == model.sha256
    assert artifact.sha256 == file_sha256(artifact.path) and artifact.bytes > 1000
    assert artifact.toolchain["tensorrt_rtx"] in record["builder"]
    types = dict(item.split() for item in record["layers_by_output_type"].split(", "))
    kinds = network.operations
    assert kinds["convolution"] >= 3
    if precision is Precision.FP16:
        assert int(types["float16"]) > int(types["float32"])
    if precision is Precision.INT8:
        assert kinds["quantize"] == 4 and kinds["dequantize"] == 8  # 4 heavy layers: an input and a weight each
        assert int(types["int8"]) >= 4
    arithmetic = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.INT8: "int8"}[precision]
    assert [layer.described for layer in network.layers] == [arithmetic] * 4


@ahead_of_time
def test_inspection_says_what_it_cannot_say(models, tmp_path):
    runtime = TensorRTFormat()
    artifact = runtime.compile(models[Precision.FP16], HOST, tmp_path)
    inspection = runtime.inspect(artifact)
    assert inspection.checks[0].endswith("unchanged since it was built")
    assert any("not loaded: the engine needs an NVIDIA GPU" in check for check in inspection.checks)
    assert any("those of the network that its builder was given" in check for check in inspection.checks)
    assert inspection.layers and inspection.facts["header"]
    artifact.path.write_bytes(artifact.path.read_bytes()[:-1])
    assert "NOT the file" in runtime.inspect(artifact).checks[0]


@ahead_of_time
def test_running_without_a_gpu_names_the_gpu(models, tmp_path):
    runtime = TensorRTFormat()
    target = HOST.model_copy(update={"compute_capabilities": (89,)})
    artifact = runtime.compile(models[Precision.FP16], target, tmp_path)
    with pytest.raises(NotRunnableError, match="compute capability 89; this machine has none"):
        runtime.run(artifact, [probe_images(CONTRACT)])


@ahead_of_time
def test_capabilities_that_the_builder_lacks(models, tmp_path):
    target = HOST.model_copy(update={"compute_capabilities": (61, 89)})
    with pytest.raises(UnsupportedError, match=r"not for 61 .*trtexec --onnx=model\.onnx"):
        TensorRTFormat().compile(models[Precision.FP32], target, tmp_path)
    without = HOST.model_copy(update={"compute_capabilities": ()})
    with pytest.raises(UnsupportedError, match="names no compute_capabilities"):
        TensorRTFormat().compile(models[Precision.FP32], without, tmp_path)
    assert not list(tmp_path.iterdir())


@ahead_of_time
def test_a_capability_that_refuses_is_left_out_and_recorded(tmp_path):
    """Attention's product of two activations has no convolution to stand in for it, and Turing no fp32 kernel."""

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = nn.functional.adaptive_avg_pool2d(x, 4).flatten(2)
            mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
            return nn.functional.pad(mixed.mean(-1), (0, 2)) / 255

    model = export_onnx(to_program(Attention().eval(), CONTRACT), CONTRACT, tmp_path / "m.onnx", build_hash="")
    target = HOST.model_copy(update={"compute_capabilities": (75, 89)})
    artifact = TensorRTFormat().compile(model, target, tmp_path)
    assert artifact.record["capabilities"] == "89"
    assert artifact.record["capabilities_left_out"].startswith("75: ")
    assert any("left out: 75" in check for check in TensorRTFormat().inspect(artifact).checks)
    turing = HOST.model_copy(update={"compute_capabilities": (75,)})
    with pytest.raises(UnsupportedError, match="Turing"):
        TensorRTFormat().compile(model, turing, tmp_path)


@needs_builder
def test_parser_errors_name_the_node(tmp_path):
    node = helper.make_node("Imaginary", ["image"], ["logits"], name="node_7", domain="nowhere")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    proto = helper.make_model(helper.make_graph([node], "g", [image], [logits]), opset_imports=opsets, ir_version=10)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    model = ExportedModel(
        path=path,
        format=Format.ONNX,
        scheme=QuantScheme(precision=Precision.FP32),
        inputs=signatures(list(proto.graph.input)),
        outputs=signatures(list(proto.graph.output)),
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
    )
    problems = TensorRTFormat().unsupported(model, HOST)
    assert problems and "Imaginary" in str(problems[0])
    with pytest.raises(UnsupportedError, match="Imaginary"):
        TensorRTFormat().compile(model, HOST, tmp_path)


def test_jetson_gets_the_command_and_no_engine(models, tmp_path):
    runtime, model = TensorRTFormat(), models[Precision.INT8]
    command = trtexec_command(model.path.name, model.scheme)
    assert command.startswith(f"trtexec --onnx={model.path.name} --saveEngine=") and "--stronglyTyped" in command
    (problem,) = runtime.unsupported(model, JETSON)
    assert command in problem.fix
    with pytest.raises(UnsupportedError) as caught:
        runtime.compile(model, JETSON, tmp_path)
    assert command in caught.value.fix and not list(tmp_path.iterdir())


def test_trtexec_command_of_a_shipped_file(models):
    full = models[Precision.FP32]
    command = trtexec_command("student.onnx", full.scheme)
    assert command == "trtexec --onnx=student.onnx --saveEngine=student.fp32.engine --stronglyTyped --skipInference"


def test_without_a_builder_the_install_line_is_given(models, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_vendor.importlib.util, "find_spec", lambda name: None)
    tensorrt_vendor.named_vendor.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedistill\[tensorrt\]'"):
        TensorRTFormat().compile(models[Precision.FP32], HOST, tmp_path)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_linear_as_convolution_computes_the_same(models, precision):
    proto = onnx.load(models[precision].path)
    images = probe_images(CONTRACT, 4)

    def logits() -> np.ndarray:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])

    before = logits()
    assert linear_as_convolution(proto) == 1
    assert "Gemm" not in {node.op_type for node in proto.graph.node}
    onnx.checker.check_model(proto, full_check=True)
    assert np.allclose(logits(), before, atol=1e-5)


def test_two_products_with_one_weight_stay_as_they_are(models):
    """As a convolution's it would have four dimensions, and the other product takes two."""
    proto = onnx.load(models[Precision.INT8].path)
    (product,) = (node for node in proto.graph.node if node.op_type == "Gemm")
    proto.graph.node.add().CopyFrom(product)
    proto.graph.node[-1].output[0], proto.graph.node[-1].name = "second", "second"
    assert linear_as_convolution(proto) == 0


@pytest.mark.skipif(local_capability() is None or not find_spec("tensorrt_rtx"), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8])
def test_engine_runs_on_the_gpu(models, precision, tmp_path):
    runtime = TensorRTFormat()
    artifact = runtime.compile(models[precision], HOST, tmp_path)
    images = probe_images(CONTRACT, 5)
    (logits,) = runtime.run(artifact, [images])
    session = ort.InferenceSession(models[Precision.FP32].path, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    assert np.allclose(logits, expected, atol=0.1 * np.abs(expected).max())
