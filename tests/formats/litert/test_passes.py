"""What LiteRT's converter cannot do is done or taken away before it, to the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgedistill.formats.litert.passes import drop_expands, keep_nearest, plain_pooling


def exported(module: nn.Module, example: Tensor) -> GraphModule:
    program = torch.export.export(module.eval(), (example,), strict=False)
    graph = program.module(check_guards=False)
    assert isinstance(graph, GraphModule)
    return graph


class Expands(nn.Module):
    """Once in front of arithmetic with a whole tensor, once with another expansion, once with a concatenation."""

    def forward(self, image: Tensor) -> Tensor:
        context = image.sum(-1, keepdim=True)
        gated = image.relu() * context.expand_as(image)
        outer = context.expand(1, 3, 8, 8) + image.sum(-2, keepdim=True).expand(1, 3, 8, 8)
        return torch.cat([gated, outer, context.expand(1, 3, 8, 8)], 1)


def test_an_expansion_goes_where_arithmetic_broadcasts_and_stays_elsewhere() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 8)
    graph = exported(Expands(), image)
    # Of the two that meet in one sum, the second is needed once the first is gone.
    assert drop_expands(graph) == 2
    graph.graph.lint()
    torch.testing.assert_close(graph(image), Expands()(image), rtol=0, atol=0)


class Resizes(nn.Module):
    """To `sizes` by nearest neighbours, behind a layer."""

    def __init__(self, **how: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.how = how

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(image), mode="nearest", **self.how)


@pytest.mark.parametrize(
    ("how", "changed"),
    [
        ({"size": (16, 24)}, 0),
        ({"size": (11, 8)}, 1),
        ({"size": (5, 5)}, 1),
        ({"scale_factor": 2.01}, 1),
    ],
)
def test_nearest_neighbours_by_a_broken_factor_are_read_as_torch_does(how: dict[str, object], changed: int) -> None:
    """Through the converter: its own form for them is wrong there."""
    litert_torch = pytest.importorskip("litert_torch", reason="the extra litert is not installed")
    torch.manual_seed(0)
    image, module = torch.randn(1, 3, 8, 8), Resizes(**how)
    graph = exported(module, image)
    assert keep_nearest(graph) == changed
    with torch.no_grad():
        wanted = module(image)
        torch.testing.assert_close(graph(image), wanted, rtol=0, atol=0)
    graph.train = lambda mode=True: graph  # type: ignore[method-assign]
    got = litert_torch.convert(graph, (image,))(image.numpy())
    torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("pool", "changed"),
    [
        (nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), 1),
        (nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), 0),  # 8 is no whole number of windows
        (nn.AvgPool2d(3, 1, 1, ceil_mode=True, count_include_pad=False), 1),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), 0),
        (nn.AvgPool2d(2), 0),
    ],
)
def test_pooling_loses_what_makes_no_difference(pool: nn.Module, changed: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 8)
    graph = exported(pool, image)
    assert plain_pooling(graph) == changed
    torch.testing.assert_close(graph(image), pool(image), rtol=0, atol=0)
