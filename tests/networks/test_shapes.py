"""Counting with a memory of shapes against counting without, over all families and over calls that could fool it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.build import Normalised
from edgedistill.networks.counting import structure_of
from edgedistill.networks.families.family import Family, StudentPlan
from edgedistill.networks.families.registry import FAMILIES
from edgedistill.networks.shapes import Shapes, run, storage_of
from edgedistill.networks.structure import Structure
from edgedistill.networks.tracing import record

ATEN = torch.ops.aten


def plain(family: Family, plan: StudentPlan) -> Structure:
    """Figures as they come with torch's own means: all initialisation done, every call run."""
    with torch.device("meta"):
        network = Normalised(family.assemble(plan, 10, True), (0.0,) * 3, (1.0,) * 3).eval()
    return structure_of(network, plan.resolution)


def fast(family: Family, plan: StudentPlan, shapes: Shapes) -> Structure:
    network = family.skeleton(plan, 10)
    with torch.device("meta"):
        module = Normalised(network, (0.0,) * 3, (1.0,) * 3).eval()
    return structure_of(module, plan.resolution, shapes)


def specs(family: Family) -> list[StudentSpec]:
    sizes = [(family.widths[0], family.depths[0], 28), (family.widths[-2], family.depths[1], 96)]
    return [
        StudentSpec(family=family.name, width=width, depth=depth, resolution=side, kernel=kernel, expansion=expansion)
        for (width, depth, side), kernel, expansion in product(
            sizes, (None, *family.kernels[-1:]), (None, *family.expansions[:1])
        )
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_figures_of_every_family_are_those_of_the_plain_count(backwards: bool) -> None:
    """One memory for all, as in a space: what one network leaves in it serves the next, in whichever order they come."""
    shapes = Shapes()
    plans = [(family, family.plan(spec)) for family in FAMILIES.values() for spec in specs(family)]
    for family, plan in reversed(plans) if backwards else plans:
        expected = plain(family, plan)
        assert fast(family, plan, shapes) == expected, plan
        assert fast(family, plan, shapes) == expected, f"the second time: {plan}"


class Awkward(nn.Module):
    """Writes in place, splits, pads, ties weights, and computes a weight of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.tied = nn.Conv2d(8, 8, 1, bias=False)
        self.table = nn.Parameter(torch.empty(16, 8))
        self.norm = nn.BatchNorm2d(8)
        self.register_buffer("places", torch.zeros(4, dtype=torch.long))

    def forward(self, image: Tensor) -> Tensor:
        maps = self.conv(image)
        kept = maps.clone()
        maps.mul_(2).clamp_(0, 6)
        left, right = (self.norm(self.tied(self.tied(maps))) + kept).chunk(2, 1)
        maps = torch.cat([left + 1, right + 1.0, left * True], 1)
        maps = nn.functional.pad(maps, (0, 1, 0, 1)).permute(0, 2, 3, 1).reshape(1, -1, 12)
        bias = self.table[self.places].sum(0)
        logits: Tensor = torch.softmax(maps[..., :8] @ self.table.t() + bias.sum(), -1).mean(1)
        return logits


def test_calls_come_out_the_same() -> None:
    shapes = Shapes()
    with torch.device("meta"):
        module = Awkward().eval()
    for side in (4, 8, 4, 8):
        image = torch.zeros(1, 3, side, side, device="meta")
        calls = record(module, image)
        assert record(module, image, shapes) == calls
        assert {"mul_", "clamp_", "cat", "mm", "_softmax"} <= {call.name for call in calls}


def test_other_devices_run_as_they_are() -> None:
    module = Awkward().eval()
    with torch.no_grad():
        module.table.zero_()
    image = torch.ones(1, 3, 4, 4)
    shapes = Shapes()
    assert record(module, image, shapes) == record(module, image) == record(module, image, shapes)
    made = [shapes.run(ATEN.add.Tensor, (image, image), {}) for _ in range(2)]
    assert all(torch.equal(sum_, image * 2) for sum_ in made)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("call", "others"),
    [
        # Numbers that are equal and promote differently.
        ((ATEN.mul.Tensor, (meta(3, dtype=torch.int64), 1), {}), [(ATEN.mul.Tensor, (meta(3, dtype=torch.int64), 1.0), {})]),
        # One shape in another order in memory.
        (
            (ATEN.relu.default, (meta(2, 3, 4, 4),), {}),
            [(ATEN.relu.default, (meta(2, 3, 4, 4).to(memory_format=torch.channels_last),), {})],
        ),
        # One shape of another type, and a type given by name.
        (
            (ATEN.add.Tensor, (meta(3), meta(3)), {}),
            [
                (ATEN.add.Tensor, (meta(3, dtype=torch.float64), meta(3)), {}),
                (ATEN.add.Tensor, (meta(3), meta(3)), {"alpha": 2}),
            ],
        ),
        (
            (ATEN._to_copy.default, (meta(3),), {"dtype": torch.float16}),
            [(ATEN._to_copy.default, (meta(3),), {"dtype": torch.int8}), (ATEN._to_copy.default, (meta(3),), {})],
        ),
        # Lists: what is in them, and where it ends.
        (
            (ATEN.cat.default, ([meta(2, 2), meta(2, 2)], 0), {}),
            [(ATEN.cat.default, ([meta(2, 2), meta(2, 2)], 1), {}), (ATEN.cat.default, ([meta(2, 2)], 0), {})],
        ),
        ((ATEN.native_layer_norm.default, (meta(2, 4), [4], None, None, 1e-5), {}), []),
    ],
)  # fmt: skip
def test_what_is_remembered_is_what_torch_gives(call: Any, others: list[Any]) -> None:
    shapes = Shapes()
    for func, args, kwargs in (call, *others) * 2:
        expected, found = run(func, args, kwargs), shapes.run(func, args, kwargs)
        assert isinstance(found, tuple) == isinstance(expected, tuple)
        several = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
        for pair in several:
            one, other = ((t.shape, t.stride(), t.dtype, t.device) for t in pair)
            assert one == other


def test_a_view_is_one_and_writing_gives_what_was_written_into() -> None:
    shapes, tensor = Shapes(), meta(4, 4)
    for _ in range(2):
        assert shapes.run(ATEN.relu_.default, (tensor,), {}) is tensor
        for view, rest in ((ATEN.t.default, ()), (ATEN.detach.default, ()), (ATEN._unsafe_view.default, ([16],))):
            assert storage_of(shapes.run(view, (tensor, *rest), {})) == storage_of(tensor), view
        assert storage_of(shapes.run(ATEN.relu.default, (tensor,), {})) != storage_of(tensor)


def test_a_write_that_changes_the_shape_is_done_every_time() -> None:
    shapes = Shapes()
    for _ in range(2):
        tensor = meta(2, 3)
        shapes.run(ATEN.t_.default, (tensor,), {})
        assert tensor.shape == (3, 2)
        shapes.run(ATEN.resize_.default, (tensor, [7]), {})
        assert tensor.shape == (7,)
