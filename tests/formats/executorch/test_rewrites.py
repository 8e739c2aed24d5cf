"""Operations rewritten for XNNPACK compute what they did, and are those that it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgedistill.formats.executorch.passes import compute_in_half, own_copy, take_uint8
from edgedistill.formats.executorch.rewrites import rewrite_for_xnnpack

functional = nn.functional


class Lone(nn.Module):
    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operation = operation
        self.weight = nn.Parameter(torch.linspace(-1, 1, 8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x * self.weight)


def exported(operation: Callable[[Tensor], Tensor], *shape: int) -> tuple[torch.export.ExportedProgram, Tensor]:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 3
    return torch.export.export(Lone(operation).eval(), (x,), strict=False), x


def operations(program: torch.export.ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def attention(x: Tensor, **options: object) -> Tensor:
    q, k, v = x.reshape(2, 6, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
    return functional.scaled_dot_product_attention(q, k, v, **options)  # type: ignore[arg-type]


KERNEL = torch.linspace(-1, 2, 18).reshape(2, 3, 3)
MASK = torch.linspace(-2, 2, 36).reshape(1, 1, 6, 6)


@pytest.mark.parametrize(
    ("operation", "shape", "rewrite", "gone"),
    [
        (functional.hardsigmoid, (1, 4, 8), "hard_sigmoid", "hardsigmoid"),
        (lambda x: attention(x), (2, 6, 3, 8), "attention", "scaled_dot_product"),
        (lambda x: attention(x, scale=0.25), (2, 6, 3, 8), "attention", "scaled_dot_product"),
        (lambda x: attention(x, attn_mask=MASK), (2, 6, 3, 8), "attention", "scaled_dot_product"),
        (lambda x: x.softmax(-1), (1, 3, 5, 8), "softmax_of_rows", ""),
        (lambda x: x.softmax(1), (1, 3, 5, 8), "softmax_of_rows", ""),
        (lambda x: x.softmax(1), (1, 3, 8), "softmax_of_rows", ""),
        (lambda x: (x**2 + 1) ** 0.5 + (x**2.0 + 1) ** -0.5, (1, 3, 8), "power", "pow"),
        (lambda x: functional.normalize(x, dim=-1), (1, 3, 5, 8), "length", "norm"),
        (lambda x: functional.normalize(x, dim=1), (1, 3, 5, 8), "broadcast", "expand"),
        (lambda x: x @ x.transpose(-1, -2), (1, 3, 5, 8), "matrix_product", "matmul"),
        (lambda x: x.unbind(1)[-1] + x.unbind(1)[0], (1, 3, 5, 8), "taken_piece", "unbind"),
        (lambda x: x.split([1, 2], 1)[1] * 2, (1, 3, 5, 8), "taken_piece", "split"),
        (lambda x: x.chunk(2, -1)[1] * 2, (1, 3, 5, 8), "taken_piece", "chunk"),
        (lambda x: x[:, -1] * 2, (1, 3, 5, 8), "selected", "select"),
        (lambda x: x.squeeze(0) * 2, (1, 3, 5, 8), "squeezed", "squeeze"),
        (lambda x: x.expand(1, 3, 5, 8) * 2, (1, 3, 5, 8), "needless_copy", "expand"),
        (lambda x: x[:, :9] * 2, (1, 3, 5, 8), "needless_copy", "slice"),
        (lambda x: x * x.sum(-1, True).expand(1, 3, 5, 8), (1, 3, 5, 8), "broadcast", "expand"),
        (lambda x: x + torch.arange(8).cumsum(0).float().sqrt(), (1, 3, 8), "fold_constants", "arange"),
        (lambda x: functional.conv1d(x, functional.normalize(KERNEL)), (1, 3, 8), "fold_constants", "norm"),
        (lambda x: x.mean((2, 3)) * 2, (1, 3, 8, 8), "mean_without_dimensions", ""),
        (lambda x: functional.avg_pool2d(x, 2, 2, 0, True, False), (1, 3, 8, 8), "pooling_without_ceiling", ""),
        (lambda x: x + 3, (1, 3, 8), "make_scalars_float", ""),
    ],
)
def test_a_rewrite_keeps_the_values(
    operation: Callable[[Tensor], Tensor], shape: tuple[int, ...], rewrite: str, gone: str
) -> None:
    program, x = exported(operation, *shape)
    own = own_copy(program)
    before = operations(program)
    assert rewrite_for_xnnpack(own)[rewrite] >= 1
    own.graph.lint()
    own.graph_module.recompile()
    torch.testing.assert_close(own.module(check_guards=False)(x), program.module(check_guards=False)(x))
    assert not gone or not any(gone in name for name in operations(own))
    assert operations(program) == before  # the shared program is left alone


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: functional.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool)),
        lambda x: x[0].softmax(-1),
        lambda x: x**3 + x.norm(1, dim=1, keepdim=True),
        lambda x: x @ x[0, 0].T,
        lambda x: x.expand(4, 3, 5, 8) + 0.5,
        lambda x: x.sum(-1, True).expand(1, 3, 5, 8) * x[:, :1],
        lambda x: functional.avg_pool2d(x, 2, 2, 0, True),
        lambda x: functional.avg_pool2d(x, 2, 2, 1, False),
        lambda x: x.mean((1, 2)),
    ],
)
def test_what_a_rewrite_does_not_cover_is_left_alone(operation: Callable[[Tensor], Tensor]) -> None:
    program, x = exported(operation, 1, 3, 5, 8)
    own = own_copy(program)
    counts = rewrite_for_xnnpack(own)
    skipped = (
        "attention",
        "softmax_of_rows",
        "power",
        "length",
        "matrix_product",
        "needless_copy",
        "broadcast",
        "pooling_without_ceiling",
        "mean_without_dimensions",
    )
    assert not any(counts[name] for name in skipped)
    own.graph_module.recompile()
    torch.testing.assert_close(own.module(check_guards=False)(x), program.module(check_guards=False)(x))


def test_the_input_becomes_bytes_and_the_arithmetic_half_precision() -> None:
    program, _ = exported(lambda x: functional.relu(x + 3) / 7.0, 1, 3, 8)
    own = own_copy(program)
    rewrite_for_xnnpack(own)
    take_uint8(own, torch.float16)
    compute_in_half(own)
    own.graph.lint()
    lowered = own.run_decompositions({})  # traces it, as ExecuTorch does: a type that does not fit would fail here
    image = torch.randint(0, 256, (1, 3, 8), dtype=torch.uint8)
    got = lowered.module(check_guards=False)(image)
    assert got.dtype == torch.float32
    assert {t.dtype for t in (*lowered.state_dict.values(), *lowered.constants.values())} == {torch.float16}
    wanted = program.module(check_guards=False)(image.float())
    torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)
    assert next(iter(program.state_dict.values())).dtype == torch.float32
