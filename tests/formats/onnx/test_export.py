"""The ONNX file computes what the torch module computes, carries its contract, and is the same file twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import timm
import torch
from onnx_contract import read_contract
from torch import nn

from edgedistill.base.errors import InputError, TrialFailure, UnsupportedError
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.formats.onnx import metadata
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.networks.program.passes import apply_passes
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import reference_logits, to_program

CONTRACT = Contract(resolution=32, mean=(120.0, 110.0, 100.0), std=(60.0, 58.0, 56.0), labels=("cat", "chien", "Bär"))


class Normalised(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(CONTRACT.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(CONTRACT.std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body((image - self.mean) / self.std)


def lived_in(body: nn.Module) -> Normalised:
    """In eval mode, with batch norm statistics of real activations and affine parameters far from 1 and 0."""
    module = Normalised(body)
    generator = torch.Generator().manual_seed(1)
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            inner.momentum = None
            inner.weight.data.uniform_(0.5, 1.5, generator=generator)
            inner.bias.data.normal_(0, 0.3, generator=generator)
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(probe_images(CONTRACT, 32)).float())
    return module.eval()


def timm_module(name: str) -> Normalised:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return lived_in(timm.create_model(name, num_classes=len(CONTRACT.labels)))


def run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


@pytest.fixture(scope="module", params=["resnet10t", "mobilenetv4_conv_small_035"])
def exported(request, tmp_path_factory):
    module = timm_module(request.param)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return module, export_onnx(to_program(module, CONTRACT), CONTRACT, path, build_hash="b1")


def test_logits_equal_torch(exported):
    module, model = exported
    images = probe_images(CONTRACT, 8)
    expected = reference_logits(module, images, batch=3)
    error = np.abs(run_onnx(model.path, images) - expected).max()
    assert error < 1e-4 * max(1.0, np.abs(expected).max())


def test_signature_is_the_contracts(exported):
    _, model = exported
    assert model.inputs == (TensorSignature(name="image", dtype="uint8", shape=(1, 3, 32, 32)),)
    assert model.outputs == (TensorSignature(name="logits", dtype="float32", shape=(1, 3)),)
    assert (model.format, model.scheme.precision) == (Format.ONNX, Precision.FP32)
    assert model.bytes == model.path.stat().st_size


def test_graph_is_lean(exported):
    _, model = exported
    proto = onnx.load(model.path)
    kinds = [node.op_type for node in proto.graph.node]
    assert not {"BatchNormalization", "Div", "Constant", "ReduceMean", "Identity", "Dropout"}.intersection(kinds)
    assert kinds.count("Cast") == 1 and kinds[0] == "Cast"
    assert {t.data_type for t in proto.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in proto.graph.initializer)
    read = {name for node in proto.graph.node for name in node.input}
    assert {t.name for t in proto.graph.initializer} <= read


def test_metadata(exported):
    _, model = exported
    entries = metadata.read_metadata(onnx.load(model.path))
    assert Contract.model_validate_json(entries["edgedistill.contract"]) == CONTRACT
    assert read_contract(model.path) == CONTRACT
    assert json.loads(entries["edgedistill.labels"]) == ["cat", "chien", "Bär"]
    assert entries["edgedistill.build"] == "b1"


def test_no_traces_of_the_machine(exported):
    _, model = exported
    data = model.path.read_bytes()
    assert not [word for word in (b"site-packages", b"stack_trace", b"timm", b"pkg.torch") if word in data]


def test_same_weights_same_bytes(exported, tmp_path):
    module, model = exported
    again = export_onnx(to_program(module, CONTRACT), CONTRACT, tmp_path / "other-name.onnx", build_hash="b1")
    assert again.sha256 == model.sha256


def test_export_says_nothing_and_knows_its_build(capfd, tmp_path):
    program = to_program(lived_in(Small(bias=True)), CONTRACT)
    first = export_onnx(program, CONTRACT, tmp_path / "1.onnx", build_hash="b1")
    second = export_onnx(program, CONTRACT, tmp_path / "2.onnx", build_hash="b2")
    assert first.sha256 != second.sha256
    assert capfd.readouterr() == ("", "")


def test_exporting_leaves_the_module_alone():
    module = lived_in(Small(bias=True))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    to_program(module, CONTRACT)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Small(nn.Module):
    """A convolution with what may be folded around it, its details chosen by the test."""

    def __init__(self, *, bias: bool, groups: int = 1, affine: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=bias, groups=groups)
        self.norm = nn.BatchNorm2d(6, affine=affine)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("body", "folded"),
    [
        (Small(bias=False), 2),
        (Small(bias=True), 2),
        (Small(bias=True, groups=3), 1),  # a scale of the input does not fold into a grouped convolution
        (Small(bias=False, affine=False), 1),  # a batch norm without bias has no place for the sum
    ],
)
def test_folding_counts_and_keeps_values(body, folded):
    module = lived_in(body) if body.norm.affine else Normalised(body).eval()
    image = torch.from_numpy(probe_images(CONTRACT)).float()
    program = torch.export.export(module, (image,))
    counts = apply_passes(program)
    assert counts["fold_batch_norm"] + counts["fold_input_scale"] == folded
    assert torch.allclose(program.module(check_guards=False)(image), module(image), atol=1e-5)


class Tapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.conv(x)
        return (self.norm(raw) + raw).mean((2, 3))


def test_a_value_that_is_read_twice_is_not_folded():
    module = lived_in(Tapped())
    image = torch.from_numpy(probe_images(CONTRACT)).float()
    program = torch.export.export(module, (image,))
    counts = apply_passes(program)
    assert (counts["fold_batch_norm"], counts["fold_input_scale"]) == (0, 1)
    assert torch.allclose(program.module(check_guards=False)(image), module(image), atol=1e-5)


def test_one_pixel_zero_padding_survives_the_folded_scale():
    """The border is where a fold of the mean would go wrong: compare an impulse in every corner."""
    module = lived_in(Small(bias=False))
    program = to_program(module, CONTRACT)
    image = torch.zeros(1, 3, 32, 32)
    image[..., 0, 0] = image[..., -1, -1] = 255.0
    assert torch.allclose(program.module(check_guards=False)(image), module(image), atol=1e-5)


class Wrong(nn.Module):
    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("output", output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output + 0 * x.mean()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Wrong(torch.zeros(1, 4)).eval(), r"\(1, 4\)"),
        (Wrong(torch.full((1, 3), torch.nan)).eval(), "not finite"),
        (Small(bias=True).train(), "training mode"),
        (Small(bias=True).double().eval(), "not float32"),
    ],
)
def test_a_module_that_breaks_the_contract_is_a_failed_trial(module, message):
    with pytest.raises(TrialFailure, match=message):
        to_program(module, CONTRACT)


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rand(1, 3) + 0 * x.mean()


def test_a_random_module_is_refused():
    with pytest.raises(TrialFailure, match="differ"):
        to_program(Random().eval(), CONTRACT)


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.mean() > 3 else x.amax((2, 3))


def test_a_branch_on_values_is_refused():
    with pytest.raises(UnsupportedError, match=r"torch\.export cannot trace Branches"):
        to_program(Branches().eval(), CONTRACT)


class NoOnnxForm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) + torch.special.airy_ai(x.mean())


def test_an_operation_without_onnx_form_is_named(tmp_path):
    with pytest.raises(UnsupportedError, match="airy_ai"):
        export_onnx(to_program(NoOnnxForm().eval(), CONTRACT), CONTRACT, tmp_path / "m.onnx", build_hash="")
    assert not list(tmp_path.iterdir())


def test_models_that_one_file_cannot_hold_are_refused(tmp_path, monkeypatch):
    module = lived_in(Small(bias=True))
    monkeypatch.setattr("edgedistill.formats.onnx.export.PROTOBUF_LIMIT_BYTES", 100)
    with pytest.raises(UnsupportedError, match="2 GiB"):
        export_onnx(to_program(module, CONTRACT), CONTRACT, tmp_path / "m.onnx", build_hash="")


def test_unreadable_files(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file at all")
    with pytest.raises(InputError, match="broken"):
        read_contract(broken)
    with pytest.raises(InputError, match="absent"):
        read_contract(tmp_path / "absent.onnx")


def test_probe_images_are_fixed_and_spread():
    images = probe_images(CONTRACT, 4)
    assert images.shape == (4, 3, 32, 32) and images.dtype == np.uint8
    assert np.array_equal(images, probe_images(CONTRACT, 4))
    assert images.std() > 40 and images.min() < 20 and images.max() > 235
