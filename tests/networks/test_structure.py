"""Static figures against an independent count and against arithmetic by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.build import Normalised
from edgedistill.networks.counting import _peak, structure_of, trace
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import DEFAULT, FAMILIES
from edgedistill.networks.structure import OperationKind, Structure

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def counted_by_torch(module: nn.Module, resolution: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, resolution, resolution))
    return int(counter.get_total_flops() // 2)


def counts(structure: Structure) -> dict[OperationKind, int]:
    return {total.kind: total.count for total in structure.totals}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("width", "depth", "resolution"), [(0.25, 0.5, 8), (0.5, 1.0, 28), (0.3, 1.4, 64)])
def test_multiply_adds_agree_with_torch_and_skeletons_with_students(
    name: str, width: float, depth: float, resolution: int
) -> None:
    family = FAMILIES[name]
    spec = StudentSpec(family=name, width=width, depth=depth, resolution=resolution)
    deployed = deploy(Normalised(family.build(spec, 10), ZERO, ONE))
    structure = structure_of(deployed, resolution)
    assert structure.multiply_adds == counted_by_torch(deployed, resolution)
    assert structure.parameters == sum(p.numel() for p in deployed.parameters())
    with torch.device("meta"):
        skeleton = Normalised(family.skeleton(family.plan(spec), 10), ZERO, ONE).eval()
    assert structure_of(skeleton, resolution) == structure


@pytest.mark.parametrize("model", ["resnet18", "efficientnet_b0", "vit_tiny_patch16_224", "convnext_atto"])
def test_teachers_count_as_torch_counts_them(model: str) -> None:
    side = 224 if model.startswith("vit") else 64
    teacher = timm.create_model(model, num_classes=10).eval()
    structure = structure_of(teacher, side)
    # torch's counter leaves out attention where the CPU runs it as one kernel.
    attention = sum(t.multiply_adds for t in structure.totals if t.kind is OperationKind.MATMUL)
    assert counted_by_torch(teacher, side) == structure.multiply_adds - attention
    assert structure.parameters == pytest.approx(sum(p.numel() for p in teacher.parameters()), rel=0.01)


def at_full_size(name: str) -> Structure:
    family = FAMILIES[name]
    plan = family.plan(StudentSpec(family=name, width=1, depth=1, resolution=224))
    return structure_of(family.skeleton(plan, 1000), 224)


def test_the_published_size_of_mobilenetv4_conv_small_and_resnet18() -> None:
    """3.8 M parameters and 0.19 G multiply-adds, 11.7 M and 1.8 G, each with 1000 classes at 224 px."""
    structure = at_full_size("mobilenetv4")
    assert structure.parameters == pytest.approx(3.77e6, rel=0.02)
    assert structure.multiply_adds == pytest.approx(0.19e9, rel=0.03)
    structure = at_full_size("resnet")
    assert structure.parameters == pytest.approx(11.7e6, rel=0.01)
    assert structure.multiply_adds == pytest.approx(1.8e9, rel=0.05)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.classify = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        kept = torch.relu(self.first(image))
        mixed = torch.relu(self.norm(self.second(kept)) + kept)
        logits: Tensor = self.classify(mixed.mean((2, 3)))
        return logits


def test_norm_addition_and_activation_fuse_and_bytes_are_those_by_hand() -> None:
    operations, peak = trace(Block().eval(), 4)
    assert [operation.kind.value for operation in operations] == ["conv", "depthwise", "pool", "gemm"]
    conv, depthwise, pool, gemm = operations
    image, wide = 3 * 16 * 4, 8 * 16 * 4
    assert (conv.read_bytes, conv.written_bytes, conv.weights_bytes) == (image, wide, (8 * 27 + 8) * 4)
    # The residual is read beside the input; the folded norm leaves a bias.
    assert (depthwise.read_bytes, depthwise.written_bytes, depthwise.weights_bytes) == (2 * wide, wide, (72 + 8) * 4)
    assert (pool.read_bytes, pool.written_bytes) == (wide, 32)
    assert (gemm.multiply_adds, gemm.weights_bytes) == (40, 45 * 4)
    assert peak == 2 * wide


@pytest.mark.parametrize("name", [*DEFAULT, "mobilenetv3", "efficientnet_lite", "repvgg", "fastvit", "convnext"])
def test_the_fused_graph_is_the_one_that_onnxruntime_executes(name: str, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    family = FAMILIES[name]
    spec = StudentSpec(family=name, width=family.widths[0], depth=family.depths[0], resolution=8)
    deployed = deploy(Normalised(family.build(spec, 10), ZERO, ONE))
    exported, executed = tmp_path / "exported.onnx", tmp_path / "executed.onnx"
    torch.onnx.export(deployed, (torch.zeros(1, 3, 8, 8),), exported, dynamo=True, verbose=False)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(executed)
    runtime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    nodes = Counter(node.op_type for node in onnx.load(executed).graph.node)
    found = counts(structure_of(deployed, 8))
    assert nodes["Conv"] + nodes["FusedConv"] == sum(count for kind, count in found.items() if kind.convolves)
    assert nodes["Gemm"] == found[OperationKind.GEMM]
    assert not {"BatchNormalization", "Relu", "Add"} & set(nodes)


@given(data=st.data(), count=st.integers(1, 12))
def test_the_peak_is_the_largest_sum_of_what_is_alive(data: st.DataObject, count: int) -> None:
    sizes = data.draw(st.lists(st.integers(0, 9), min_size=count + 1, max_size=count + 1))
    kept = sorted(data.draw(st.sets(st.integers(1, count), min_size=1)))
    readers = {value: [n for n in kept if n > value and data.draw(st.booleans())] for value in (0, *kept)}
    last_read = {value: max(found) for value, found in readers.items() if found}

    def alive(value: int, number: int) -> bool:
        return value == number or value < number <= last_read.get(value, 0)

    expected = max(sum(sizes[v] for v in (0, *kept) if alive(v, number)) for number in kept)
    assert _peak(kept, last_read, sizes) == expected


def test_a_result_with_two_readers_does_not_fuse() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, image: Tensor) -> Tensor:
            value = self.conv(image)
            return torch.relu(value) * value

    kinds = [operation.kind for operation in trace(Twice().eval(), 4)[0]]
    assert kinds == [OperationKind.POINTWISE, OperationKind.ELEMENTWISE, OperationKind.ELEMENTWISE]


def test_kinds_of_layers() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.ConvTranspose2d(16, 4, 2, stride=2),
        nn.MaxPool2d(2),
        nn.GELU(),
        nn.GroupNorm(1, 4),
        nn.ReLU(),
    ).eval()
    operations, _ = trace(module, 16)
    assert [o.kind.value for o in operations] == [
        "conv", "pointwise", "grouped", "depthwise", "conv", "pool", "transcendental", "normalisation",
        "elementwise",
    ]  # fmt: skip
    assert sum(o.multiply_adds for o in operations) == counted_by_torch(module, 16)


def test_attention_counts_its_products() -> None:
    structure = structure_of(timm.create_model("vit_tiny_patch16_224", num_classes=10).eval(), 224)
    tokens, width = 197, 192
    matmul = next(t for t in structure.totals if t.kind is OperationKind.MATMUL)
    assert matmul.multiply_adds == 12 * 2 * tokens * tokens * width
    assert counts(structure)[OperationKind.GEMM] == 12 * 4 + 1


def test_tied_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, image: Tensor) -> Tensor:
            out: Tensor = self.conv(self.conv(image))
            return out

    assert structure_of(Tied().eval(), 4).parameters == 9


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="deploy it first"):
        structure_of(Block().train(), 4)
