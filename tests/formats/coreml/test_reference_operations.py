"""Single operations of the reference interpreter beside torch and numpy, through packages written and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedistill.base.errors import EdgedistillError
from edgedistill.formats.coreml.reference.interpreter import run

ct = pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
mb = pytest.importorskip("coremltools.converters.mil.mil").Builder
mil_types = ct.converters.mil.mil.types

Builder = Callable[..., Any]


def computed(folder: Path, build: Builder, target: str = "iOS17", /, **inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of a program in fp32, saved as a package and interpreted; `build` names its arguments as the inputs."""
    types = {np.dtype(np.int32): mil_types.int32}
    specs = [mb.TensorSpec(shape=value.shape, dtype=types.get(value.dtype)) for value in inputs.values()]
    opset = getattr(ct.target, target)

    program = mb.program(input_specs=specs, opset_version=opset)(build)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(folder / "m.mlpackage"))
    outputs = run(folder / "m.mlpackage", inputs)
    return [outputs[feature.name] for feature in model.get_spec().description.output]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_rnn_and_lstm_give_states_in_the_order_of_their_steps(direction: str, tmp_path: Path) -> None:
    x, h, c = values(5, 2, 3), values(2, 4, seed=1), values(2, 4, seed=2)
    rnn, lstm = torch.nn.RNN(3, 4), torch.nn.LSTM(3, 4)
    walked = torch.from_numpy(x).flip(0) if direction == "reverse" else torch.from_numpy(x)

    def build(x: Any, h: Any, c: Any) -> Any:
        common = {"x": x, "direction": direction, "output_sequence": True}
        weights = [parameter.detach().numpy() for parameter in rnn.parameters()]
        plain = mb.rnn(initial_h=h, weight_ih=weights[0], weight_hh=weights[1], bias=weights[2] + weights[3], **common)
        # torch's gates are input, forget, cell, output.
        ordered = [
            np.concatenate([np.split(w.detach().numpy(), 4)[i] for i in (0, 1, 3, 2)]) for w in lstm.parameters()
        ]
        gated = mb.lstm(
            initial_h=h,
            initial_c=c,
            weight_ih=ordered[0],
            weight_hh=ordered[1],
            bias=ordered[2] + ordered[3],
            **common,
        )
        return plain[0], gated[0], gated[2]

    got = computed(tmp_path, build, x=x, h=h, c=c)
    with torch.no_grad():
        plain, _ = rnn(walked, torch.from_numpy(h)[None])
        gated, (_, cell) = lstm(walked, (torch.from_numpy(h)[None], torch.from_numpy(c)[None]))
    for actual, wanted in zip(got, (plain, gated, cell[0]), strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), atol=1e-5)


def test_a_gru_that_resets_after_the_product_is_that_of_torch(tmp_path: Path) -> None:
    x, h, gru = values(5, 2, 3), values(2, 4, seed=1), torch.nn.GRU(3, 4)
    # torch's gates are reset, update, new.
    ordered = [np.concatenate([np.split(w.detach().numpy(), 3)[i] for i in (0, 2, 1)]) for w in gru.parameters()]

    def build(x: Any, h: Any) -> Any:
        return mb.gru(
            x=x,
            initial_h=h,
            weight_ih=ordered[0],
            weight_hh=ordered[1],
            input_bias=ordered[2],
            bias=ordered[3],
            reset_after=True,
            output_sequence=True,
        )[0]

    (got,) = computed(tmp_path, build, "iOS18", x=x, h=h)
    with torch.no_grad():
        wanted, _ = gru(torch.from_numpy(x), torch.from_numpy(h)[None])
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)


def test_a_box_with_its_end_before_its_start_is_walked_backwards(tmp_path: Path) -> None:
    x = values(1, 2, 6, 5)
    boxes = np.array([[4, 3, 1, 0]], np.float32)

    def build(x: Any) -> Any:
        return mb.crop_resize(
            x=x, boxes=boxes, target_height=4, target_width=4, sampling_mode="ALIGN_CORNERS", pad_value=9.0
        )

    (got,) = computed(tmp_path, build, x=x)
    np.testing.assert_allclose(got, x[:, :, 4:0:-1, 3::-1], atol=1e-6)


def test_resizing_to_the_nearest_pixel_rounds_where_the_sample_lies(tmp_path: Path) -> None:
    x = values(1, 1, 2, 7)

    def build(x: Any) -> Any:
        return mb.resize(x=x, shape=[5, 3], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR")

    (got,) = computed(tmp_path, build, x=x)
    np.testing.assert_array_equal(got, x[:, :, [0, 0, 1, 1, 1]][..., [0, 2, 5]])


def test_sequences_are_reversed_over_their_lengths(tmp_path: Path) -> None:
    x = values(4, 3, 2)
    (got,) = computed(
        tmp_path,
        lambda x, lengths: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=0, batch_axis=1),
        x=x,
        lengths=np.array([4, 1, 3], np.int32),
    )
    wanted = x.copy()
    wanted[:, 0], wanted[:3, 2] = x[::-1, 0], x[:3, 2][::-1]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("axis", "shape"), [(0, (1, 24)), (1, (2, 12)), (-1, (6, 4)), (3, (24, 1))])
def test_flattening_to_two_dimensions(axis: int, shape: tuple[int, int], tmp_path: Path) -> None:
    x = values(2, 3, 4)
    (got,) = computed(tmp_path, lambda x: mb.flatten2d(x=x, axis=axis), x=x)
    np.testing.assert_array_equal(got, x.reshape(shape))


def test_random_tensors_follow_their_distributions_and_their_seed(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        shape = np.array([100, 100], np.int32)
        return (
            mb.random_normal(shape=shape, mean=3.0, stddev=2.0, seed=1),
            mb.random_uniform(shape=shape, low=-1.0, high=3.0, seed=1),
            mb.random_bernoulli(shape=shape, prob=0.25, seed=1),
            mb.random_categorical(x=x, mode="probs", size=10_000, seed=1),
        )

    shares = np.array([[0.1, 0.6, 0.3]], np.float32)
    normal, uniform, bernoulli, drawn = computed(tmp_path, build, x=shares)
    assert abs(normal.mean() - 3) < 0.1 and abs(normal.std() - 2) < 0.1
    assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 0.1
    assert set(np.unique(bernoulli)) == {0, 1} and abs(bernoulli.mean() - 0.25) < 0.02
    np.testing.assert_allclose(np.bincount(drawn.astype(int)[0]) / 10_000, shares[0], atol=0.02)
    again = run(tmp_path / "m.mlpackage", {"x": shares})
    assert any(np.array_equal(normal, value) for value in again.values())


def test_a_sparse_weight_that_is_quantised_as_well(tmp_path: Path) -> None:
    """The inner operation gives two outputs, the mask and the values."""
    kept = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], np.uint8)
    quantised = np.array([10, -20, 30, 40], np.int8)
    scale = np.array([[0.5], [0.25]], np.float32)

    def build(x: Any) -> Any:
        bits = kept.astype(mil_types.np_uint1_dtype)
        mask, nonzero = mb.constexpr_sparse_blockwise_shift_scale(data_mask=bits, nonzero_data=quantised, scale=scale)
        return mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=nonzero, mask=mask))

    x = values(2, 4)
    dense = np.zeros((2, 4), np.float32)
    dense[kept == 1] = quantised
    (got,) = computed(tmp_path, build, "iOS18", x=x)
    np.testing.assert_allclose(got, x + dense * scale, atol=1e-6)
    np.testing.assert_allclose(run(tmp_path / "m.mlpackage", {"x": x + 1}).popitem()[1], got + 1, atol=1e-5)


@pytest.mark.parametrize("index", [-4, 3])
def test_indices_outside_are_refused_where_the_program_asks_for_that(index: int, tmp_path: Path) -> None:
    def build(x: Any, indices: Any) -> Any:
        return mb.gather(x=x, indices=indices, axis=0, validate_indices=True)

    x = values(3, 2)
    (got,) = computed(tmp_path, build, x=x, indices=np.array([2, 0], np.int32))
    np.testing.assert_array_equal(got, x[[2, 0]])
    with pytest.raises(EdgedistillError, match=r"the gather \S+ cannot be computed: indices outside 0\.\.2"):
        run(tmp_path / "m.mlpackage", {"x": x, "indices": np.array([0, index], np.int32)})
