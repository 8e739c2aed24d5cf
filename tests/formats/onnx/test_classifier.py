"""Classifiers from elsewhere as files with a build's own edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_contract import read_contract
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Contract, VectorContract
from edgedistill.formats.onnx.classifier import read_classifier, weights_of, with_edge

LABELS = ("a", "b", "c")
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)


def contract(**changes: Any) -> Contract:
    return Contract(**{"resolution": 16, "mean": MEAN, "std": STD, "labels": LABELS, **changes})


class Net(nn.Module):
    def __init__(self, *, last: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 3)
        self.last, self.softmax = last, softmax

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2) if self.last else image
        logits = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return logits.softmax(1) if self.softmax else logits


def exported(path: Path, *, batch: str = "fixed", names: tuple[str, str] = ("input", "output"), **kind: bool) -> Net:
    """A network as torch's users export theirs."""
    torch.manual_seed(0)
    net = Net(**kind).eval()
    image = torch.rand(1, 16, 16, 3) if net.last else torch.rand(1, 3, 16, 16)
    axes = {names[0]: {0: "batch", 2: "height", 3: "width"} if batch == "any size" else {0: "batch"}}
    torch.onnx.export(
        net,
        (image,),
        path,
        dynamo=False,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes=None if batch == "fixed" else axes,
        opset_version=17,
    )
    return net


def expected(net: Net) -> np.ndarray:
    """Its logits for PIXELS, normalised by hand."""
    x = (torch.from_numpy(PIXELS).float() - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        found = net(x.permute(0, 2, 3, 1) if net.last else x)
        return (found.log() if net.softmax else found).numpy()


def answers(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    assert [tensor.name for tensor in session.get_inputs()] == ["image"]
    return np.concatenate([session.run(["logits"], {"image": PIXELS[i : i + 1]})[0] for i in range(len(PIXELS))])


@pytest.mark.parametrize("batch", ["fixed", "any batch", "any size"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("names", [("input", "output"), ("image", "logits"), ("logits", "image")])
def test_its_logits_come_out_for_bytes(
    tmp_path: Path, batch: str, last: bool, softmax: bool, names: tuple[str, str]
) -> None:
    if last and batch == "any size":
        pytest.skip("sizes that are not fixed say nothing of where the channels lie")
    net = exported(tmp_path / "own.onnx", batch=batch, last=last, softmax=softmax, names=names)
    found = read_classifier(tmp_path / "own.onnx")
    assert (found.side, found.channels_last, found.takes_uint8) == (None if batch == "any size" else 16, last, False)
    made = with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    assert made.inputs[0].shape == (1, 3, 16, 16) and made.outputs[0].shape == (1, 3)
    np.testing.assert_allclose(answers(tmp_path / "made.onnx"), expected(net), rtol=1e-4, atol=1e-4)
    assert read_contract(tmp_path / "made.onnx") == contract()
    assert weights_of(tmp_path / "own.onnx") == sum(p.numel() for p in net.parameters())


def with_metadata(path: Path, **entries: str) -> None:
    model = onnx.load(path)
    helper.set_model_props(model, entries)
    onnx.save(model, path)


def test_classes_that_it_names_are_put_into_the_order_of_the_labels(tmp_path: Path) -> None:
    net = exported(tmp_path / "own.onnx", softmax=True)
    with_metadata(tmp_path / "own.onnx", names="{0: 'c', 1: 'a', 2: 'b'}", task="classify")
    assert read_classifier(tmp_path / "own.onnx").class_names == ("c", "a", "b")
    with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    np.testing.assert_allclose(answers(tmp_path / "made.onnx"), expected(net)[:, [1, 2, 0]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", ["{0: 'x', 1: 'y', 2: 'z'}", "__import__('os')", "{1: 'a'}", "[" * 5000])
def test_names_that_say_nothing_of_the_labels_change_nothing(tmp_path: Path, names: str) -> None:
    net = exported(tmp_path / "own.onnx")
    with_metadata(tmp_path / "own.onnx", names=names)
    with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    np.testing.assert_allclose(answers(tmp_path / "made.onnx"), expected(net), rtol=1e-4, atol=1e-4)


def test_a_file_of_a_build_stays_what_it_is(tmp_path: Path) -> None:
    net = exported(tmp_path / "own.onnx")
    with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    found = read_classifier(tmp_path / "made.onnx")
    assert found.takes_uint8 and found.class_names == LABELS
    other = contract(labels=("b", "a", "c"))
    with_edge(tmp_path / "made.onnx", other, tmp_path / "again.onnx", build_hash="h", probes=PIXELS)
    np.testing.assert_allclose(answers(tmp_path / "again.onnx"), expected(net)[:, [1, 0, 2]], rtol=1e-4, atol=1e-4)


def graph(shape: list[Any], kind: int = TensorProto.FLOAT, outputs: int = 3, value: float = 1.0) -> onnx.ModelProto:
    """The mean of an image times a row of weights."""
    axes = numpy_helper.from_array(np.arange(1, len(shape)), "axes")
    row = numpy_helper.from_array(np.full((1, outputs), value, np.float32), "row")
    nodes = [
        helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["cast", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("MatMul", ["column", "row"], ["output"]),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "classes"])],
        [axes, row, one],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (graph([1, 3, 16, 24]), "not one image"),
        (graph([4, 3, 16, 16]), "not one image"),
        (graph([1, 1, 16, 16]), "not one image"),
        (graph([1, 3, 16]), "not one image"),
        (graph([1, 3, 16, 16], TensorProto.INT64), "takes int64, not float32 or uint8"),
        (graph([1, 3, 16, 16], outputs=5), "gives \\[5\\] numbers for an image, and the data has 3 classes"),
        (graph([1, 3, 16, 16], value=float("nan")), "not finite"),
    ],
)
def test_what_is_no_classifier_of_these_classes_is_an_input_error(
    tmp_path: Path, model: onnx.ModelProto, told: str
) -> None:
    onnx.save(model, tmp_path / "own.onnx")
    with pytest.raises(InputError, match=told):
        with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    assert not (tmp_path / "made.onnx").exists()


def test_a_size_that_it_does_not_take_is_told(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)).eval()
    torch.onnx.export(net, (torch.rand(1, 3, 32, 32),), tmp_path / "own.onnx", dynamo=False)
    with pytest.raises(InputError, match="cannot be run on an image of 3 x 16 x 16") as caught:
        with_edge(tmp_path / "own.onnx", contract(), tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    assert "resolution" in caught.value.fix


@pytest.mark.parametrize("batch", ["fixed", "any batch"])
def test_vectors_come_out_at_length_1(tmp_path: Path, batch: str) -> None:
    net = exported(tmp_path / "own.onnx", batch=batch)
    assert read_classifier(tmp_path / "own.onnx").width == 3
    vector = {"task": "embedding", "output_name": "embedding", "labels": (), "vector": VectorContract(dimension=3)}
    asked = contract(**vector)
    made = with_edge(tmp_path / "own.onnx", asked, tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
    assert (made.outputs[0].name, made.outputs[0].shape) == ("embedding", (1, 3))
    session = onnxruntime.InferenceSession(tmp_path / "made.onnx")
    found = np.concatenate([session.run(None, {"image": PIXELS[i : i + 1]})[0] for i in range(len(PIXELS))])
    logits = expected(net)
    np.testing.assert_allclose(found, logits / np.linalg.norm(logits, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)
    longer = contract(**vector | {"vector": VectorContract(dimension=4)})
    with pytest.raises(InputError, match=r"gives \[3\] numbers for an image, and vectors have 4"):
        with_edge(tmp_path / "own.onnx", longer, tmp_path / "made.onnx", build_hash="h", probes=PIXELS)
