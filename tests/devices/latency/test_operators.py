"""Which share of the operators' time multiplies, and how many multiply-adds an operator did."""

from __future__ import annotations

import pytest

from edgedistill.devices.latency.operators import multiplies, multiply_adds, multiplying_share
from edgedistill.documents.measurements import OpTiming


def timings(**us: float) -> list[OpTiming]:
    return [OpTiming(name=f"node_{name}", op_type=name, median_us=value) for name, value in us.items()]


def test_the_share_is_of_all_operators() -> None:
    assert multiplying_share(timings(Conv=30, Gemm=20, Add=10, ReorderOutput=40)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("multiplying", "names"),
    [
        (
            1,
            "Conv FusedConv NhwcFusedConv QLinearConv ConvInteger ConvTranspose Gemm FusedGemm QGemm MatMul FusedMatMul",
        ),
        (1, "MatMulInteger QLinearMatMul DynamicQuantizeMatMul MatMulNBits Attention MultiHeadAttention MultiplyAdds"),
        (1, "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED BATCH_MATMUL native_call_convolution.out native_call_addmm.out"),
        (0, "Add Sub Mul Div Relu Clip HardSigmoid HardSwish Sigmoid Gelu QuickGelu BiasGelu Erf Softmax QLinearAdd"),
        (
            0,
            "LayerNormalization SkipLayerNormalization GlobalAveragePool MaxPool ReduceMean",
        ),
        (0, "Reshape Transpose Concat Split Slice Gather Squeeze Pad ReorderInput ReorderOutput Upsample Resize"),
        (0, "native_call_native_layer_norm.out native_call_gelu.out native_call_mul.out MEAN"),
    ],
)
def test_names_of_runtimes(multiplying: float, names: str) -> None:
    for name in names.split():
        assert multiplying_share(timings(**{name: 5})) == multiplying, name


@pytest.mark.parametrize(
    "name", ["Convolution (NHWC, F32) IGEMM", "Fully Connected (NC, F32) GEMM", "Batch Matrix Multiply"]
)
def test_names_of_xnnpack(name: str) -> None:
    assert multiplying_share([OpTiming(name="a", op_type=name, median_us=1), *timings(Add=1)]) == 0.5


@pytest.mark.parametrize("name", ["Cast", "QuantizeLinear", "DequantizeLinear", "DEQUANTIZE", "Convert (NC, F32, QS8)"])
def test_where_conversions_take_long_the_share_is_unknown(name: str) -> None:
    """fp16 on a processor that computes in fp32: no network's structure has these operators."""
    assert multiplying_share(timings(**{"Conv": 60, "Add": 31, name: 9})) == pytest.approx(0.6)
    assert multiplying_share(timings(**{"Conv": 60, "Add": 28, name: 12})) is None


def test_an_operator_that_is_not_known_leaves_the_share_unknown() -> None:
    assert multiplying_share(timings(Conv=30, layer=1)) is None
    assert multiplying_share([]) is None
    assert multiplying_share(timings(Conv=0)) is None


@pytest.mark.parametrize(
    ("op_type", "inputs", "output", "expected"),
    [
        ("Conv", [(1, 3, 8, 8), (16, 3, 3, 3), (16,)], (1, 16, 8, 8), 16 * 64 * 27),
        ("FusedConv", [(1, 16, 8, 8), (16, 1, 3, 3), (16,), (1, 16, 4, 4)], (1, 16, 4, 4), 16 * 16 * 9),
        ("QLinearConv", [(1, 8, 8, 4), (), (), (6, 4, 1, 1), (6,), (6,), (), ()], (1, 8, 8, 6), 64 * 6 * 4),
        ("ConvTranspose", [(1, 4, 5, 5), (4, 7, 2, 2)], (1, 7, 10, 10), 4 * 25 * 7 * 4),
        ("Gemm", [(2, 32), (10, 32), (10,)], (2, 10), 640),
        ("QGemm", [(1, 32), (), (), (32, 10), (), ()], (1, 10), 320),
        ("MatMul", [(4, 6, 5), (5, 3)], (4, 6, 3), 4 * 6 * 3 * 5),
        ("FusedMatMul", [(2, 3, 6, 5), (2, 3, 7, 5)], (2, 3, 6, 7), 2 * 3 * 6 * 7 * 5),
        ("QLinearMatMul", [(6, 5), (), (), (5, 3), (), (), (), ()], (6, 3), 90),
        ("Relu", [(1, 16, 8, 8)], (1, 16, 8, 8), 0),
        ("Attention", [(1, 8, 64), (64, 192)], (1, 8, 64), None),
        ("MatMulNBits", [(1, 64), (32, 2, 16), (64,)], (1, 32), None),
    ],
)
def test_multiply_adds_by_shapes(
    op_type: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], expected: int | None
) -> None:
    timing = OpTiming(name="a", op_type=op_type, median_us=1, inputs=tuple(inputs), outputs=(output,))
    assert multiply_adds(timing) == expected


def test_multiply_adds_without_shapes_are_not_known() -> None:
    assert [multiply_adds(timing) for timing in timings(Conv=3, Relu=1)] == [None, 0]


def test_case_blanks_and_underscores_do_not_matter() -> None:
    for name in ("Fully Connected", "FULLY_CONNECTED", "fullyconnected"):
        assert multiplies(name) and multiplying_share(timings(**{name: 5})) == 1
