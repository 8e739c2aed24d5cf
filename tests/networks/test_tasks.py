"""Tasks: scores in 0..1, by image, and the same wherever a network is judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedistill.documents.specs import Contract, VectorContract
from edgedistill.networks.tasks import (
    AMONG,
    CLASSIFICATION,
    Embedding,
    class_vectors,
    cosines,
    largest,
    nearest_classes,
    packed,
    task_of,
    unit,
)

CONTRACT = Contract(resolution=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), labels=("a", "b", "c"))

LOGITS = arrays(np.float32, (7, 3), elements=st.floats(-50, 50, width=32))
LABELS = arrays(np.int64, 7, elements=st.integers(0, 2))


def test_a_contract_names_a_task_that_there_is() -> None:
    assert task_of(CONTRACT) is CLASSIFICATION
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


VECTORS = arrays(np.float64, (9, 4), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))
TRUTH = arrays(np.int64, 9, elements=st.integers(0, 2))


def contract_of(**vector: object) -> Contract:
    labels = ("a", "b", "c") if "class_vectors" in vector else ()
    found = VectorContract.model_validate({"dimension": 4, **vector})
    return CONTRACT.model_copy(
        update={"task": "embedding", "output_name": "embedding", "labels": labels, "vector": found}
    )


def test_an_embedding_is_as_wide_as_its_contract_says() -> None:
    task = task_of(contract_of())
    assert isinstance(task, Embedding)
    assert (task.metric, task.output, task.head_width(3), contract_of().width) == ("recall@1", "embedding", 4, 4)
    assert [task_of(contract_of(score=score)).metric for score in ("retrieval", "knn")] == ["recall@1", "k-NN accuracy"]


@pytest.mark.parametrize(
    "update",
    [
        {"task": "embedding"},
        {"output_name": "embedding"},
        {"vector": {"dimension": 4}},
        {"task": "embedding", "output_name": "embedding", "vector": {"dimension": 4, "score": "zero_shot"}},
    ],
)
def test_a_contract_of_two_tasks_is_refused(update: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"another task's output|a vector for each label"):
        Contract.model_validate({**CONTRACT.model_dump(), **update})


@given(VECTORS, TRUTH)
def test_recall_is_that_of_the_nearest_other_image_in_plain_loops(vectors: np.ndarray, truth: np.ndarray) -> None:
    rows = unit(vectors)
    expected = []
    for i in range(9):
        near = [(-float(rows[i] @ rows[j]), j) for j in range(9) if j != i]
        best = min(value for value, _ in near)
        # Of equal ones any may be first: rounding decides.
        expected.append({int(truth[j]) for value, j in near if value <= best + 1e-6})
    found = nearest_classes(rows, truth, rows, truth, 1, own=True).tolist()
    assert all(answer in allowed for answer, allowed in zip(found, expected, strict=True))


@given(VECTORS, TRUTH, st.floats(0.1, 10))
@pytest.mark.parametrize("score", ["retrieval", "knn"])
def test_scale_of_vectors_changes_no_distance_and_a_lone_class_is_never_found(
    score: str, vectors: np.ndarray, truth: np.ndarray, scale: float
) -> None:
    task = task_of(contract_of(score=score))
    assert task.distance(vectors, vectors * scale) == pytest.approx(
        float((np.abs(vectors).sum(1) == 0).mean()), abs=1e-6
    )
    right = task.right(vectors, truth)
    counts = np.bincount(truth, minlength=3)
    assert not right[counts[truth] == 1].any()


def test_neighbours_vote_by_their_cosine() -> None:
    gallery = unit(np.array([[1.0, 0.0], [0.9, 0.4], [0.9, 0.45], [-1.0, 0.0]]))
    labels, asked = np.array([0, 1, 1, 0]), unit(np.array([[1.0, 0.01]]))
    assert nearest_classes(asked, np.array([0]), gallery, labels, 1).tolist() == [0]
    # The two of class 1 are further, and together weigh less than the one of class 0 at this temperature.
    weights = np.exp((asked @ gallery.T - 1) / 0.07)[0]
    expected = 0 if weights[0] + weights[3] > weights[1] + weights[2] else 1
    assert nearest_classes(asked, np.array([0]), gallery, labels, 20).tolist() == [expected]
    assert nearest_classes(asked, np.array([0]), gallery[:0], labels[:0], 20).tolist() == [-1]


def test_class_vectors_travel_with_the_contract_and_tell_classes_apart() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    contract = contract_of(score="zero_shot", class_vectors=packed(vectors))
    read = class_vectors(Contract.model_validate_json(contract.model_dump_json()))
    assert read is not None
    assert cosines(read, vectors) == pytest.approx(1, abs=1e-5)
    task = task_of(contract)
    truth = np.array([2, 0, 1, 1])
    assert task.right(3 * vectors[truth], truth).all() and task.metric == "zero-shot accuracy"
    assert task.right(vectors[[0, 0]], np.array([1, 0])).tolist() == [False, True]


@given(
    arrays(np.float32, (6, 9), elements=st.integers(-3, 3).map(float)),
    st.integers(1, 9),
)
def test_the_largest_of_a_row_are_those_of_a_stable_sort(values: np.ndarray, count: int) -> None:
    assert largest(values, count).tolist() == np.argsort(-values, axis=1, kind="stable")[:, :count].tolist()


def neighbours_of(rows: np.ndarray, index: int, count: int) -> set[int]:
    """In plain loops."""
    near = [(-float(rows[index] @ rows[j]), j) for j in range(len(rows)) if j != index]
    return {j for _, j in sorted(near)[:count]}


@pytest.mark.parametrize("images", [2, 11, 60])
def test_neighbours_are_found_as_in_plain_loops(images: int) -> None:
    generator = np.random.default_rng(images)
    teacher, student = unit(generator.standard_normal((images, 5))), unit(generator.standard_normal((images, 3)))
    expected = [neighbours_of(teacher, i, 1) <= neighbours_of(student, i, AMONG) for i in range(images)]
    task = task_of(contract_of(score="neighbours"))
    assert task.metric == "neighbour recall@10"
    assert task.right(student, teacher).tolist() == expected
    assert all(expected) is (images <= AMONG + 1), "with so few, all others are among the ten"


def test_neighbours_by_hand() -> None:
    """Thirteen images on a line of angles: by the teacher, the first is nearest to the second. For the student it lies
    beyond all others."""
    angles = np.linspace(0.1, 1.3, 13)
    teacher = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    moved = angles.copy()
    moved[0] = 1.4
    student = np.stack([np.cos(moved), np.sin(moved)], axis=1)
    task = task_of(contract_of(score="neighbours"))
    # The nearest of the first is the second, which is now the last of twelve others. The second has two that are as near:
    # which of them is the teacher's, rounding decides, and the first is the last of twelve for it too.
    right = task.right(student, teacher)
    assert not right[0] and right[2:].all()
    assert task.score(teacher, teacher) == 1


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_neighbours_of_the_teacher_itself_rotated_and_scaled_are_all_found(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    teacher = generator.standard_normal((40, 6))
    rotation, _ = np.linalg.qr(generator.standard_normal((6, 6)))
    task = task_of(contract_of(score="neighbours"))
    assert task.score(teacher @ rotation * scale, teacher) == 1
    student = teacher + generator.standard_normal((40, 6))
    # Rounding may change places of neighbours that are as near; by far not of one image in ten.
    assert task.score(student @ rotation * scale, teacher) == pytest.approx(task.score(student, teacher), abs=0.1)


def test_vectors_at_random_find_as_many_neighbours_as_guessing_says() -> None:
    generator = np.random.default_rng(0)
    teacher, student = generator.standard_normal((2, 2000, 16))  # more than a chunk
    task = task_of(contract_of(score="neighbours"))
    guessed, _ = task.guessing(teacher)
    assert guessed == pytest.approx(10 / 1999)
    assert task.score(student, teacher) == pytest.approx(guessed, abs=3 * (guessed / 2000) ** 0.5)
    assert task.guessing(teacher[:9])[0] == 1
    assert task.right(student[:1], teacher[:1]).tolist() == [False]


@pytest.mark.parametrize(("score", "truth"), [("neighbours", np.zeros(3, np.int64)), ("knn", np.zeros((3, 4)))])
def test_a_truth_of_another_score_is_refused(score: str, truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"{score} cannot be told"):
        task_of(contract_of(score=score)).right(np.ones((3, 4)), truth)
