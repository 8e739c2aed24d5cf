"""Losses of vectors: what they leave alone, and when they are zero."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F

from edgedistill.distill.recipes import vectors
from edgedistill.distill.recipes.features import cosine
from edgedistill.distill.recipes.losses import bound
from edgedistill.documents.recipes import DEFAULT_EMBEDDING, RECIPES, TermConfig
from edgedistill.testing.losses import LossConformance

IMAGES, WIDTH = 12, 7
Loss = Callable[[Tensor, Tensor], Tensor]


def similarity_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """To the teacher's vectors of the batch, at a temperature at which no softmax is sure."""
    return vectors.similarity_kl(student, teacher, teacher, temperature=0.5)


OF_DIRECTIONS: list[Loss] = [
    cosine,
    vectors.normalised_mse,
    vectors.contrastive,
    vectors.relation_kl,
    vectors.pairwise_similarity,
    vectors.relative_similarity,
    similarity_kl,
]
RELATIONAL: list[Loss] = [vectors.relation_kl, vectors.pairwise_similarity, vectors.relative_similarity]
ZERO_AT_THE_TEACHER: list[Loss] = [
    cosine,
    vectors.normalised_mse,
    vectors.relation_kl,
    vectors.pairwise_similarity,
    similarity_kl,
]


def rows(seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(IMAGES, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int) -> Tensor:
    return torch.linalg.qr(rows(seed, IMAGES)[:WIDTH, :WIDTH])[0]


@pytest.mark.parametrize("loss", OF_DIRECTIONS, ids=lambda loss: loss.__name__)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_lengths_mean_nothing(loss: Loss, seed: int, scale: float) -> None:
    student, teacher = rows(seed), rows(seed + 1)
    scales = scale * torch.rand(IMAGES, 1, dtype=torch.float64) + 0.01
    torch.testing.assert_close(loss(student * scales, teacher / scales), loss(student, teacher))


@pytest.mark.parametrize("loss", OF_DIRECTIONS, ids=lambda loss: loss.__name__)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_rotation_of_all_vectors_means_nothing(loss: Loss, seed: int) -> None:
    student, teacher, turned = rows(seed), rows(seed + 1), rotation(seed + 2)
    torch.testing.assert_close(loss(student @ turned, teacher @ turned), loss(student, teacher))


@pytest.mark.parametrize("loss", RELATIONAL, ids=lambda loss: loss.__name__)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_relations_are_unchanged_by_a_rotation_of_one_side_and_need_no_equal_widths(loss: Loss, seed: int) -> None:
    student, teacher = rows(seed), rows(seed + 1)
    torch.testing.assert_close(loss(student @ rotation(seed + 2), teacher), loss(student, teacher))
    wider = F.pad(student, (0, 3))
    torch.testing.assert_close(loss(wider, teacher), loss(student, teacher))


@pytest.mark.parametrize("loss", ZERO_AT_THE_TEACHER, ids=lambda loss: loss.__name__)
def test_the_teacher_itself_loses_nothing_and_others_do(loss: Loss) -> None:
    teacher = rows(3)
    assert float(loss(2 * teacher, teacher)) == pytest.approx(0, abs=1e-9)
    assert float(loss(rows(4), teacher)) > 1e-3


def test_order_with_a_margin_loses_nothing() -> None:
    """Of cosines that are further apart than the margin the order alone counts."""
    teacher = rows(3)
    assert float(vectors.relative_similarity(teacher, teacher, margin=0.0)) == 0
    assert float(vectors.relative_similarity(rows(4), teacher, margin=0.0)) > 1e-3
    assert float(vectors.relative_similarity(teacher, teacher, margin=0.1)) > 0


def test_each_against_its_formula_in_plain_loops() -> None:
    student, teacher = F.normalize(rows(5), dim=1), F.normalize(rows(6), dim=1)
    square = sum((student[i] - teacher[i]).square().sum() for i in range(IMAGES)) / (IMAGES * WIDTH)
    torch.testing.assert_close(vectors.normalised_mse(student, teacher), square)
    entropy, kl, lacking, pairs = 0.0, 0.0, 0.0, 0
    for i in range(IMAGES):
        logits = torch.stack([student[i] @ teacher[j] for j in range(IMAGES)]) / 0.07
        entropy = entropy - logits.log_softmax(0)[i] / IMAGES
        others = [j for j in range(IMAGES) if j != i]
        ours, theirs = (torch.stack([side[i] @ side[j] for j in others]) for side in (student, teacher))
        p = (theirs / 0.07).softmax(0)
        kl = kl + (p * (p.log() - (ours / 0.07).log_softmax(0))).sum() / IMAGES
        for near in range(len(others)):
            for far in range(len(others)):
                if theirs[near] > theirs[far]:
                    lacking, pairs = lacking + max(0.0, float(0.015 + ours[far] - ours[near])), pairs + 1
    torch.testing.assert_close(vectors.contrastive(student, teacher), entropy)
    torch.testing.assert_close(vectors.relation_kl(student, teacher), kl)
    assert float(vectors.relative_similarity(student, teacher)) == pytest.approx(lacking / pairs)
    every = range(IMAGES)
    squares = sum((student[i] @ student[j] - teacher[i] @ teacher[j]).square() for i in every for j in every)
    torch.testing.assert_close(vectors.pairwise_similarity(student, teacher), squares / IMAGES**2)


@pytest.mark.parametrize("pairs", [1, 5 * (IMAGES - 1) ** 2])
def test_a_batch_in_parts_is_the_whole_batch(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = rows(5).requires_grad_(), rows(6)
    whole = vectors.relative_similarity(student, teacher)
    (slope,) = torch.autograd.grad(whole, student)
    monkeypatch.setattr(vectors, "_PAIRS", pairs)
    parts = vectors.relative_similarity(student, teacher)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, student)[0], slope)


def test_images_beside_class_vectors_in_plain_loops() -> None:
    student, teacher, classes = (
        F.normalize(rows(5), dim=1),
        F.normalize(rows(6), dim=1),
        F.normalize(rows(7), dim=1)[:4],
    )
    halves = []
    for from_images in (True, False):
        kl, asked, shown = 0.0, IMAGES if from_images else 4, 4 if from_images else IMAGES
        for i in range(asked):
            pairs = [(i, j) if from_images else (j, i) for j in range(shown)]
            ours, theirs = (
                torch.stack([side[image] @ classes[label] for image, label in pairs]) / 0.5
                for side in (student, teacher)
            )
            p = theirs.softmax(0)
            kl = kl + (p * (p.log() - ours.log_softmax(0))).sum() / asked
        halves.append(kl)
    found = vectors.similarity_kl(student, teacher, classes, temperature=0.5)
    torch.testing.assert_close(found, (halves[0] + halves[1]) / 2)


def test_class_vectors_take_the_place_of_the_batch() -> None:
    recipe = bound(RECIPES["mobile_clip"].terms)
    student, teacher, classes = (F.normalize(rows(seed), dim=1).float() for seed in (7, 8, 9))
    labels = torch.zeros(IMAGES, 3)
    with_classes = recipe.terms[0].of(student, labels, teacher, classes[:3])
    expected = vectors.similarity_kl(student, teacher, classes[:3])
    torch.testing.assert_close(with_classes, expected)
    assert float(recipe.terms[0].of(student, labels, teacher)) != pytest.approx(float(expected))


def test_recipes_for_embeddings_are_asked_of_the_embedding_alone() -> None:
    named = [recipe for recipe in RECIPES.values() if recipe.task == "embedding"]
    assert DEFAULT_EMBEDDING in {recipe.name for recipe in named}
    for recipe in named:
        made = bound(recipe.terms)
        assert (made.taps, made.output) == (("embedding",), "embedding")


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ({"loss": "cross_entropy"}, "a loss of logits"),
        ({"loss": "cosine", "aligner": "linear"}, "for features"),
        ({"loss": "cosine", "head": "own"}, "for features"),
    ],
)
def test_what_has_no_meaning_for_vectors_is_refused(term: dict[str, str], words: str) -> None:
    from edgedistill.base.errors import InputError

    with pytest.raises(InputError) as caught:
        bound([TermConfig.model_validate({"tap": "embedding", **term})])
    assert words in str(caught.value.problems)


class TestNormalisedMse(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.normalised_mse


class TestContrastive(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.contrastive


class TestRelationKl(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.relation_kl


class TestPairwiseSimilarity(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.pairwise_similarity


class TestRelativeSimilarity(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.relative_similarity


class TestSimilarityKl(LossConformance):
    def function(self) -> Callable[..., Tensor]:
        return vectors.similarity_kl
