"""Several teachers as one: their mean, the weights that fit, and which views a teacher is left out of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedistill.distill.stored.encoding import encoding_of, shifted
from edgedistill.distill.stored.mixing import MixedSignal, mixture_weights, softmax
from edgedistill.distill.stored.signals import HEADER, StoredSignal, file_name
from edgedistill.documents.recipes import LOGITS

IMAGES, VIEWS = 40, 2


def stored(folder: Path, logits: NDArray[np.float32]) -> StoredSignal:
    """float32 [views, images, classes] as a stored signal."""
    folder.mkdir()
    views, images, width = logits.shape
    for view in range(views):
        (folder / file_name(view)).write_bytes(encoding_of(LOGITS, width).encode(logits[view]).tobytes())
    (folder / HEADER).write_text(json.dumps({"tap": LOGITS, "images": images, "width": width}))
    return StoredSignal.open(folder)


def drawn(seed: int, width: int = 5, scale: float = 3.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(scale=scale, size=(VIEWS, IMAGES, width)).astype(np.float32)


def mixed(tmp_path: Path, *weights: float, drop: float = 0.0, seed: int = 0, width: int = 5) -> MixedSignal:
    parts = tuple(stored(tmp_path / str(number), drawn(number, width)) for number in range(len(weights)))
    return MixedSignal(parts, weights, drop, seed)


POSITIONS = np.arange(IMAGES, dtype=np.int64)


@pytest.mark.parametrize("width", [5, 300])
def test_it_is_the_weighted_mean_of_probabilities(tmp_path: Path, width: int) -> None:
    signal = mixed(tmp_path, 0.6, 0.3, 0.1, width=width)
    for view in range(VIEWS):
        expected = sum(w * softmax(drawn(number, width)[view]) for number, w in enumerate((0.6, 0.3, 0.1)))
        got = signal.at(view, POSITIONS)
        assert got.dtype == np.float16 and (got.max(axis=1) == 0).all()
        np.testing.assert_allclose(softmax(got), expected, atol=2e-3 if width == 5 else 2e-2)


def test_a_teacher_of_all_the_weight_is_that_teacher(tmp_path: Path) -> None:
    signal = mixed(tmp_path, 1.0, 0.0)
    np.testing.assert_allclose(signal.at(1, POSITIONS), shifted(drawn(0)[1]), atol=2e-2)


def test_rows_do_not_depend_on_which_others_are_asked_for(tmp_path: Path) -> None:
    signal = mixed(tmp_path, 0.5, 0.3, 0.2, drop=0.5)
    whole, some = signal.at(1, POSITIONS), np.array([3, 17, 4])
    np.testing.assert_array_equal(signal.at(1, some), whole[some])


def test_each_teacher_is_left_out_of_its_share_and_one_always_stays(tmp_path: Path) -> None:
    parts = mixed(tmp_path, 0.5, 0.3, 0.2).parts
    signal = MixedSignal(parts, (0.5, 0.3, 0.2), drop=0.4)
    many = np.arange(20_000, dtype=np.int64)
    shares = np.stack([signal._shares(view, many) for view in range(2)])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    # Of all images 0.4 ** 3 would have none, and keep one each.
    expected = 0.4 - 0.4**3 / 3
    np.testing.assert_allclose((shares == 0).mean(axis=(0, 2)), expected, atol=0.01)
    assert (shares[0] != shares[1]).any(axis=0).mean() > 0.5, "another draw for another view"
    other = MixedSignal(parts, (0.5, 0.3, 0.2), drop=0.4, seed=1)
    assert (other._shares(0, many) != shares[0]).any(axis=0).mean() > 0.5
    both = (shares[0, 0] > 0) & (shares[0, 1] > 0) & (shares[0, 2] == 0)
    np.testing.assert_allclose(shares[0][:, both][:2, 0], [0.5 / 0.8, 0.3 / 0.8])


def test_a_teacher_without_weight_that_alone_stays_is_followed(tmp_path: Path) -> None:
    signal = MixedSignal(mixed(tmp_path, 1.0, 0.0).parts, (1.0, 0.0), drop=0.9)
    shares = signal._shares(0, np.arange(1000, dtype=np.int64))
    assert np.isfinite(shares).all() and (shares.sum(axis=0) == 1).all() and (shares[1] == 1).any()


def test_its_key_tells_weights_parts_and_drop(tmp_path: Path) -> None:
    signal = mixed(tmp_path, 0.5, 0.5)
    others = [
        MixedSignal(signal.parts, (0.4, 0.6)),
        MixedSignal(signal.parts[::-1], signal.weights),
        MixedSignal(signal.parts, signal.weights, drop=0.1),
        MixedSignal(signal.parts, signal.weights, seed=1),
    ]
    assert len({signal.key, *(other.key for other in others)}) == 5


def test_the_stated_error_is_the_mean_of_its_parts(tmp_path: Path) -> None:
    """Of classes that are not all kept."""
    width = 5000
    rows = [np.random.default_rng(n).normal(scale=2.0, size=(1, 30, width)).astype(np.float32) for n in range(2)]
    parts = tuple(stored(tmp_path / str(number), row) for number, row in enumerate(rows))
    errors = MixedSignal(parts, (0.7, 0.3)).stated_errors(1)
    alone = [part.stated_errors(1) for part in parts]
    assert errors is not None and alone[0] is not None and alone[1] is not None
    np.testing.assert_allclose(errors, 0.7 * alone[0] + 0.3 * alone[1], rtol=1e-5)
    (tmp_path / "small").mkdir()
    assert mixed(tmp_path / "small", 0.5, 0.5).stated_errors(2) is None, "all of five classes are kept"


# -- weights --------------------------------------------------------------------------------------------------------


def likelihood(weights: tuple[float, ...], said: NDArray[np.float64]) -> float:
    return float(np.log(np.maximum(np.array(weights) @ said, 1e-30)).sum())


@given(st.integers(2, 4), st.integers(1, 30), st.integers(0, 10_000))
def test_no_other_weights_make_the_labels_likelier(count: int, images: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    said = generator.uniform(0.01, 1.0, size=(count, images))
    found = mixture_weights(said)
    assert sum(found) == pytest.approx(1) and min(found) >= 0
    best = likelihood(found, said)
    for _ in range(20):
        other = generator.dirichlet(np.ones(count))
        assert likelihood(tuple(other), said) <= best + 1e-3
    assert likelihood((1 / count,) * count, said) <= best + 1e-9


def test_equal_teachers_share_and_a_guesser_gets_nothing() -> None:
    sure, guess = np.full(100, 0.9), np.full(100, 0.1)
    assert mixture_weights(np.stack([sure, sure])) == pytest.approx((0.5, 0.5))
    assert mixture_weights(np.stack([sure, guess]))[0] > 0.999
    halves = np.concatenate([sure[:50], guess[:50]])
    assert mixture_weights(np.stack([halves, halves[::-1]])) == pytest.approx((0.5, 0.5), abs=1e-4)
    assert mixture_weights(np.zeros((2, 5))) == pytest.approx((0.5, 0.5)), "what is impossible for all tells nothing"
