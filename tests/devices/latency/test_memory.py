"""The model of bytes on laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
from structures import structures

from edgedistill.devices.latency.law import PROMISED
from edgedistill.devices.latency.memory import BytesModel
from edgedistill.networks.structure import Structure

RUNTIME, WEIGHTS, ACTIVATIONS, OPERATION = 40e6, 1.1, 2.5, 300


def measured(structure: Structure) -> int:
    operations = sum(total.count for total in structure.totals)
    return round(
        RUNTIME + WEIGHTS * structure.weights_bytes + ACTIVATIONS * structure.activation_bytes + OPERATION * operations
    )


def rows(count: int, seed: int, noise: float = 0.0) -> list[tuple[Structure, int]]:
    rng = np.random.default_rng(seed)
    return [(x, round(measured(x) * np.exp(rng.normal(0, noise)))) for x in structures(count, seed)]


def test_a_linear_law_of_weights_and_activations_is_recovered() -> None:
    model = BytesModel.fit(rows(20, 1))
    for x in structures(30, 2):
        assert model.predict(x).value == pytest.approx(measured(x), rel=0.02)


def test_the_interval_covers_as_it_says_and_is_calibrated_from_twenty_rows_on() -> None:
    hits = []
    for seed in range(20):
        model = BytesModel.fit(rows(25, seed, noise=0.1))
        assert model.calibrated
        for structure, size in rows(20, seed + 100, noise=0.1):
            estimate, low, high = model.predict(structure)
            hits.append(low <= size <= high)
            assert 0 < low <= estimate <= high
    assert PROMISED <= np.mean(hits) < 1
    assert not BytesModel.fit(rows(19, 1)).calibrated


def test_the_probability_rises_with_the_limit() -> None:
    model = BytesModel.fit(rows(25, 4, noise=0.1))
    x = structures(1, 5)[0]
    limits = [0, 1, measured(x) // 2, model.predict(x).value, measured(x) * 2]
    chances = [model.probability_within(x, limit) for limit in limits]
    assert chances == sorted(chances)
    assert chances[0] == 0 and chances[3] == pytest.approx(0.5, abs=0.01) and chances[-1] > 0.99


@pytest.mark.parametrize("taken", [[10, 20], [10, 20, 0]])
def test_too_few_or_no_bytes_are_refused(taken: list[int]) -> None:
    with pytest.raises(ValueError, match=r"needs 3|positive"):
        BytesModel.fit(list(zip(structures(len(taken), 1), taken, strict=True)))
