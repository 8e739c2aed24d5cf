"""Tasks: scores in 0..1, by image, and the same wherever a network is judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedistill.documents.specs import Contract
from edgedistill.networks.tasks import CLASSIFICATION, TASKS, task_of

CONTRACT = Contract(resolution=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), labels=("a", "b", "c"))

LOGITS = arrays(np.float32, (7, 3), elements=st.floats(-50, 50, width=32))
LABELS = arrays(np.int64, 7, elements=st.integers(0, 2))


def test_a_contract_names_a_task_that_there_is() -> None:
    assert task_of(CONTRACT) is CLASSIFICATION is TASKS[CONTRACT.task]
    assert (CLASSIFICATION.metric, CLASSIFICATION.head_width(3)) == ("accuracy", 3)


@given(LOGITS, LABELS)
def test_a_score_is_the_share_of_right_answers(logits: np.ndarray, labels: np.ndarray) -> None:
    right = CLASSIFICATION.right(logits, labels)
    assert right.tolist() == [int(np.argmax(row)) == label for row, label in zip(logits, labels.tolist(), strict=True)]
    assert CLASSIFICATION.score(logits, labels) == pytest.approx(sum(right) / 7)


@given(LOGITS, LABELS, st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_offset_of_logits_change_no_score(
    logits: np.ndarray, labels: np.ndarray, scale: float, offset: float
) -> None:
    exact = np.round(logits).astype(np.float64)
    assert CLASSIFICATION.score(exact * scale + offset, labels) == CLASSIFICATION.score(exact, labels)


@pytest.mark.parametrize(("outputs", "images"), [(0, 0), (2, 3)])
def test_a_score_of_nothing_or_of_other_images_is_refused(outputs: int, images: int) -> None:
    with pytest.raises(ValueError, match=f"{outputs} outputs for {images} images"):
        CLASSIFICATION.score(np.zeros((outputs, 3), np.float32), np.zeros(images, np.int64))
