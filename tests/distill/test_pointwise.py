"""Strided 1x1 convolutions of few channels: training survives them (uxlfoundation/oneDNN#6035) and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from edgedistill.data.datasets import Dataset
from edgedistill.distill.batches import DrawnViews, ViewBatches
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.loop import Stretch, train
from edgedistill.distill.pointwise import safe_convolutions
from edgedistill.distill.recipes.losses import bound
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.recipes import labels_alone
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.networks.build import Normalised, build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import family
from edgedistill.networks.program.program import to_program
from edgedistill.networks.rounding.graph import to_graph
from edgedistill.testing.families import SCHEDULE

CPU = torch.device("cpu")
# Those whose smallest student has such a convolution at 96 px, and a model of timm that has one of 13 channels.
CONCERNED = ("mobileone", "repvgg", "fastvit", "resnet", "timm:gernet_s")
TRAINS = """
import sys, pathlib, torch
from edgedistill.networks.families.registry import family
from edgedistill.testing import FamilyConformance

torch.set_num_threads(1)
for name in sys.argv[2:]:
    suite = FamilyConformance()
    suite.family = lambda: family(name)
    folder = pathlib.Path(sys.argv[1], name)
    folder.mkdir()
    suite.test_it_trains_at(96, 32, folder)
"""


class Strided(TorchDispatchMode):
    """Notes the strided 1x1 convolutions of few channels that torch itself is asked for: [out, in, stride]."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            weight, stride, padding, groups = args[1], args[3], args[4], args[8]
            few = weight.shape[1] < 16 and weight.shape[2:] == (1, 1)
            if few and groups == 1 and not any(padding) and set(stride) != {1}:
                self.found.append((*weight.shape[:2], tuple(stride)))
        return func(*args, **(kwargs or {}))


def test_training_survives_at_96_px(tmp_path: Path) -> None:
    """In a process of its own, which is what the bug ends."""
    child = [sys.executable, "-c", TRAINS, str(tmp_path), *CONCERNED[:4]]
    done = subprocess.run(child, capture_output=True, text=True)
    assert done.returncode == 0, f"training ended with {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("channels", [3, 8, 15])
@pytest.mark.parametrize(("stride", "side", "bias"), [(2, 96, True), (2, 97, False), (4, 96, True), ((2, 1), 64, True)])
def test_outputs_and_gradients_are_those_of_the_plain_layout(channels: int, stride: Any, side: int, bias: bool) -> None:
    convolution = nn.Conv2d(channels, 24, 1, stride, bias=bias)
    image = torch.randn(4, channels, side, side)
    plain = _results(convolution, image)
    convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with safe_convolutions(CPU), Strided() as strided:
        sliced = _results(convolution, image.to(memory_format=torch.channels_last))
    assert not strided.found
    assert sliced[0].is_contiguous(memory_format=torch.channels_last)
    for got, wanted in zip(sliced, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def _results(convolution: nn.Conv2d, image: Tensor) -> list[Tensor]:
    """The output, and the gradients of image, weight and bias of a loss that weighs each place otherwise."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_(True)
    convolution.zero_grad()
    output = convolution(image)
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    gradients = [image.grad, *(p.grad for p in convolution.parameters())]
    return [output.detach(), *(g for g in gradients if g is not None)]


def test_every_way_to_call_it_is_seen(contract: Contract) -> None:
    weight, image = torch.randn(8, 3, 1, 1), torch.randn(2, 3, 8, 8)
    module = nn.Sequential(nn.Conv2d(3, 8, 1, 2, padding="valid"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    graph = to_graph(Normalised(module, contract.mean, contract.std).eval(), contract)
    calls: dict[str, Callable[[], Tensor]] = {
        "module": lambda: module(image),
        "function": lambda: F.conv2d(input=image, weight=weight, stride=(2, 2)),
        "operation": lambda: torch.ops.aten.conv2d.default(image, weight, None, [2, 2]),
        "graph": lambda: graph(image),
    }
    for how, call in calls.items():
        with Strided() as plain:
            call()
        with Strided() as safe, safe_convolutions(CPU):
            call()
        assert (plain.found, safe.found) == ([(8, 3, (2, 2))], []), how


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(16, 8, 1, 2),
        nn.Conv2d(8, 8, 1, 2, groups=8),
        nn.Conv2d(3, 8, 1, 2, padding=1),
        nn.Conv2d(3, 8, 1, padding="same"),
        nn.Conv2d(3, 8, 2, 2),
        nn.Conv2d(3, 8, (1, 3), 2),
    ],
    ids=str,
)
def test_others_are_computed_as_ever(convolution: nn.Conv2d) -> None:
    image = torch.randn(2, convolution.in_channels, 8, 8)
    with safe_convolutions(CPU):
        safe = convolution(image)
    assert torch.equal(safe, convolution(image))


@pytest.mark.parametrize("name", CONCERNED)
def test_no_student_hands_it_to_onednn(name: str, contract: Contract) -> None:
    chosen, side = family(name), 96
    spec = StudentSpec(family=name, width=chosen.widths[0], depth=chosen.depths[0], resolution=side)
    module = build_student(spec, contract.model_copy(update={"resolution": side})).train()
    image = torch.rand(2, 3, side, side) * 255
    with torch.no_grad():
        with Strided() as plain:
            module(image)
        with Strided() as safe, safe_convolutions(CPU):
            module(image)
    assert plain.found and not safe.found


def test_on_a_gpu_nothing_is_changed() -> None:
    assert isinstance(safe_convolutions(torch.device("cuda")), nullcontext)


def test_what_is_exported_keeps_the_stride(digits: Dataset, contract: Contract, tmp_path: Path) -> None:
    contract = contract.model_copy(update={"resolution": 24})
    spec = StudentSpec(family="resnet", width=0.125, depth=0.5, resolution=24)
    views = DrawnViews(len(digits.splits.train), AugmentationConfig())
    fresh = build_student(spec, contract).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = train(
        Pupil(build_student(spec, contract), bound([labels_alone()]), 10),
        ViewBatches(digits, contract, views, batch_size=160, seed=0),
        SCHEDULE,
        Hardware(CPU, None, 0),
        Stretch(1, tmp_path),
    ).pupil.network
    assert trained.state_dict().keys() == fresh.state_dict().keys()
    wanted, got = (_operations(module, contract, tmp_path / "model.onnx") for module in (fresh, trained))
    assert got == wanted
    assert ("Conv", ((1, 1), (2, 2))) in got
    assert "Slice" not in {kind for kind, _ in got}


def _operations(module: nn.Module, contract: Contract, path: Path) -> list[tuple[str, Any]]:
    """The kinds of the exported program's nodes, in order; of convolutions, with kernel and strides."""
    export_onnx(to_program(deploy(module), contract), contract, path, build_hash="")
    nodes = []
    for node in onnx.load(path).graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        sizes = tuple(tuple(attributes[name]) for name in ("kernel_shape", "strides") if node.op_type == "Conv")
        nodes.append((node.op_type, sizes))
    return nodes
