"""ONNX Runtime: what it accepts, runs, measures and tells about a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.base.arrays import Images
from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.store import file_sha256, size_bytes
from edgedistill.devices.base import sample
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.devices.stats import measured_latency
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, TensorSignature, Verified
from edgedistill.documents.specs import Format, Precision, QuantScheme, Target
from edgedistill.formats.carried import SCHEME_KEY
from edgedistill.formats.onnx.runtime import OnnxFormat
from edgedistill.formats.running import verify
from edgedistill.networks.tasks import CLASSIFICATION

SIDE, CLASSES = 8, 4
TARGET = Target(
    name="host",
    title="Host",
    runtime=Format.ONNX,
    formats=(Format.ONNX,),
    precisions=(Precision.FP32,),
    transport="local",
)
IMAGES: Images = np.random.default_rng(1).integers(0, 256, (13, 3, SIDE, SIDE), dtype=np.uint8)


def graph_of(
    batch: int | str = 1, operator: str = "Gemm", dtype: Any = np.float32, sign: float = 1.0, domain: str = ""
) -> Any:
    """uint8 [batch, 3, 8, 8] -> Cast, Flatten, `operator` with a weight -> [batch, 4]."""
    weight = (sign * np.random.default_rng(0).normal(0, 0.01, (3 * SIDE * SIDE, CLASSES))).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["cast"], to=kind),
            helper.make_node("Flatten", ["cast"], ["flat"]),
            helper.make_node(operator, ["flat", "weight"], ["product"], domain=domain),
            helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="test")
    helper.set_model_props(model, {"edgedistill.contract": "{}"})
    return model


def exported(path: Path, graph: Any, classes: int = CLASSES, batch: int = 1) -> ExportedModel:
    onnx.save(graph, path)
    return ExportedModel(
        path=path,
        format=Format.ONNX,
        scheme=QuantScheme(precision=Precision.FP32),
        inputs=(TensorSignature(name="image", dtype="uint8", shape=(batch, 3, SIDE, SIDE)),),
        outputs=(TensorSignature(name="logits", dtype="float32", shape=(batch, classes)),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def expected(images: Images, sign: float = 1.0) -> Any:
    weight = (sign * np.random.default_rng(0).normal(0, 0.01, (3 * SIDE * SIDE, CLASSES))).astype(np.float32)
    return images.reshape(len(images), -1).astype(np.float32) @ weight


@pytest.fixture
def runtime() -> OnnxFormat:
    return OnnxFormat()


@pytest.fixture
def artifact(runtime: OnnxFormat, tmp_path: Path) -> CompiledArtifact:
    return runtime.compile(exported(tmp_path / "model.onnx", graph_of()), TARGET, tmp_path / "out")


@pytest.mark.parametrize("sizes", [[1], [13], [5, 8], [0, 13]])
def test_run_equals_the_plain_loop(runtime: OnnxFormat, artifact: CompiledArtifact, sizes: list[int]) -> None:
    import onnxruntime

    plain = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    batches = [part for part in np.split(IMAGES, np.cumsum(sizes)[:-1]) if len(part)]
    for batch, logits in zip(batches, runtime.run(artifact, batches), strict=True):
        one_by_one = np.concatenate([plain.run(None, {"image": image[None]})[0] for image in batch])
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, one_by_one)
        np.testing.assert_allclose(logits, expected(batch), rtol=1e-4, atol=1e-3)


def test_run_of_an_open_batch(runtime: OnnxFormat, tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    onnx.save(graph_of("batch"), path)
    (logits,) = runtime.run(runtime.adopt(path, TARGET), [IMAGES])
    np.testing.assert_allclose(logits, expected(IMAGES), rtol=1e-4, atol=1e-3)


def test_run_of_another_fixed_batch_refuses_what_does_not_divide(runtime: OnnxFormat, tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    onnx.save(graph_of(2), path)
    artifact = runtime.adopt(path, TARGET)
    (logits,) = runtime.run(artifact, [IMAGES[:6]])
    np.testing.assert_allclose(logits, expected(IMAGES[:6]), rtol=1e-4, atol=1e-3)
    with pytest.raises(UnsupportedError, match="2 images at a time; a batch has 13"):
        list(runtime.run(artifact, [IMAGES]))


def test_a_deliberately_wrong_model_is_flagged(runtime: OnnxFormat, tmp_path: Path) -> None:
    reference = expected(IMAGES).astype(np.float32)
    labels = reference.argmax(axis=1)
    found = []
    for name, sign in (("right", 1.0), ("wrong", -1.0)):
        model = exported(tmp_path / f"{name}.onnx", graph_of(sign=sign))
        result = verify(
            runtime, runtime.compile(model, TARGET, tmp_path / name), CLASSIFICATION, reference, IMAGES, labels
        )
        assert isinstance(result, Verified)
        found.append(result)
    right, wrong = found
    assert right.parity.max_abs_error < 1e-3
    assert (right.parity.top1_agreement, right.quality_validation) == (1.0, 1.0)
    assert wrong.parity.max_abs_error > 1
    assert wrong.parity.top1_agreement < 0.5


def test_signature_other_than_stated(runtime: OnnxFormat, tmp_path: Path) -> None:
    model = exported(tmp_path / "model.onnx", graph_of(), classes=9)
    with pytest.raises(UnsupportedError, match=r"outputs: the file has logits float32\[1, 4\]; stated were .*\[1, 9\]"):
        runtime.compile(model, TARGET, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_operator_without_a_kernel_is_named(runtime: OnnxFormat, tmp_path: Path) -> None:
    model = exported(tmp_path / "model.onnx", graph_of(operator="Bespoke", domain="com.example"))
    (problem,) = runtime.unsupported(model, TARGET)
    assert "com.example.Bespoke" in problem.where
    assert "no CPU kernel" in problem.what
    with pytest.raises(UnsupportedError, match=r"Bespoke"):
        runtime.compile(model, TARGET, tmp_path / "out")


def test_operators_that_are_expanded_need_no_kernel(runtime: OnnxFormat, tmp_path: Path) -> None:
    graph = graph_of()
    graph.graph.node[2].output[0] = "raw"
    graph.graph.node.insert(3, helper.make_node("HardSwish", ["raw"], ["product"]))
    assert runtime.unsupported(exported(tmp_path / "model.onnx", graph), TARGET) == ()


def test_the_second_name_of_onnx_own_operators_is_known(runtime: OnnxFormat, tmp_path: Path) -> None:
    """A file may import them as `ai.onnx`: the same opset, and the same kernels."""
    graph = graph_of()
    graph.opset_import[0].domain = "ai.onnx"
    graph.graph.node[2].domain = "ai.onnx"
    assert runtime.unsupported(exported(tmp_path / "model.onnx", graph), TARGET) == ()


def test_weights_in_a_second_file(runtime: OnnxFormat, tmp_path: Path) -> None:
    model = exported(tmp_path / "model.onnx", graph_of())
    onnx.save_model(graph_of(), model.path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(UnsupportedError, match="second file"):
        runtime.compile(model, TARGET, tmp_path / "out")


def test_the_value_of_a_constant_in_a_second_file(runtime: OnnxFormat, tmp_path: Path) -> None:
    graph = graph_of()
    weight = graph.graph.initializer.pop()
    graph.graph.node.insert(0, helper.make_node("Constant", [], ["weight"], value=weight))
    model = exported(tmp_path / "model.onnx", graph)
    settings = {"all_tensors_to_one_file": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(graph, model.path, save_as_external_data=True, convert_attribute=True, **settings)
    with pytest.raises(UnsupportedError, match="second file"):
        runtime.compile(model, TARGET, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09"])
def test_files_that_are_no_models(runtime: OnnxFormat, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.onnx"):
        runtime.adopt(path, TARGET)


def test_truncated_and_missing_files(runtime: OnnxFormat, tmp_path: Path) -> None:
    model = exported(tmp_path / "model.onnx", graph_of())
    model.path.write_bytes(model.path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a valid ONNX model"):
        runtime.adopt(model.path, TARGET)
    with pytest.raises(UnsupportedError, match=r"model\.onnx"):
        runtime.compile(model, TARGET, tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        runtime.adopt(tmp_path / "absent.onnx", TARGET)
    with pytest.raises(InputError, match="is a folder"):
        runtime.adopt(tmp_path, TARGET)


def test_precision_of_any_file(runtime: OnnxFormat, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(graph_of(), path)
    assert runtime.adopt(path, TARGET).scheme.precision is Precision.FP32
    onnx.save(graph_of(dtype=np.float16), path)
    assert runtime.adopt(path, TARGET).scheme.precision is Precision.FP16
    graph = graph_of()
    graph.graph.node[2].input[1] = "dequantised"
    weight = np.zeros((3 * SIDE * SIDE, CLASSES), np.int8)
    graph.graph.initializer.extend(
        [numpy_helper.from_array(weight, "q"), numpy_helper.from_array(np.float32(0.1), "scale")]
    )
    graph.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "scale"], ["dequantised"]))
    onnx.save(graph, path)
    assert runtime.adopt(path, TARGET).scheme.precision is Precision.INT8_WEIGHTS
    flat, scale, zero = graph.graph.node[3].input[0], "scale", "zero"
    graph.graph.initializer.append(numpy_helper.from_array(np.int8(0), zero))
    graph.graph.node[3].input[0] = "rounded"
    pair = [
        helper.make_node("QuantizeLinear", [flat, scale, zero], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", scale, zero], ["rounded"]),
    ]
    for node in reversed(pair):
        graph.graph.node.insert(3, node)
    onnx.save(graph, path)
    assert runtime.adopt(path, TARGET).scheme.precision is Precision.INT8
    graph.metadata_props.add(key=SCHEME_KEY, value=QuantScheme(precision=Precision.FP32).model_dump_json())
    onnx.save(graph, path)
    with pytest.raises(InputError, match="its metadata says fp32, its tensors are int8"):
        runtime.adopt(path, TARGET)


def test_inspect(runtime: OnnxFormat, artifact: CompiledArtifact) -> None:
    inspection = runtime.inspect(artifact)
    assert inspection.checks[0] == "onnx.checker accepts the file"
    assert "loads it" in inspection.checks[1]
    assert inspection.operations == {"Cast": 2, "Flatten": 1, "Gemm": 1}
    assert [tensor.shown for tensor in inspection.inputs] == ["image uint8[1, 3, 8, 8]"]
    assert [tensor.shown for tensor in inspection.outputs] == ["logits float32[1, 4]"]
    assert sum(inspection.bytes_by_part.values()) == artifact.bytes
    assert inspection.facts["opsets"] == "ai.onnx 18"
    assert inspection.facts["metadata"] == "edgedistill.contract"


@pytest.mark.parametrize("inputs", [IMAGES, None], ids=["given", "made up"])
def test_profile_on_this_machine(
    runtime: OnnxFormat, artifact: CompiledArtifact, tmp_path: Path, inputs: Images | None
) -> None:
    protocol = MeasurementProtocol(
        target=TARGET,
        seconds=0.2,
        min_runs=100,
        operators=True,
        execute=LocalDevice(lock_file=tmp_path / "measuring.lock").run,
        sample=sample,
    )
    profile = runtime.profile(artifact, inputs, protocol)
    assert profile.artifact_sha256 == artifact.sha256
    assert profile.precision is Precision.FP32
    assert len(profile.sessions[0].samples_ns) >= 100
    assert {timing.op_type for timing in profile.op_timings} >= {"Gemm"}
    latency = measured_latency(profile)
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms
    assert (latency.samples, latency.sessions) == (len(profile.sessions[0].samples_ns), 1)
