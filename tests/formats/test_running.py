"""Parity and accuracy by running: what is compared, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from factories import make_artifact
from numpy.typing import NDArray

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import Problem, TrialFailure
from edgedistill.base.intervals import compare, pack
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspected, Inspection, Verified
from edgedistill.documents.measurements import Profile
from edgedistill.documents.specs import ComputedBy, Format, Precision, Target
from edgedistill.formats import running as verification
from edgedistill.networks.tasks import CLASSIFICATION

ARTIFACT = make_artifact(Precision.INT8)
COUNT, CLASSES = 600, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 8), dtype=np.uint8)


def true_logits(images: Images) -> Logits:
    """Any fixed function of the image will do."""
    pixels: NDArray[np.float32] = images.reshape(len(images), -1)[:, :CLASSES].astype(np.float32)
    return pixels / 64


REFERENCE = true_logits(IMAGES)
LABELS = REFERENCE.argmax(axis=1)


class Fake:
    """A runtime that answers with a function of the batch."""

    format = Format.ONNX
    computed_by = ComputedBy.DEVICE

    def __init__(self, answer: Callable[[Images], Logits], batches: int | None = None) -> None:
        self.answer = answer
        self.batches = batches

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        raise NotImplementedError

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        raise NotImplementedError

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        raise NotImplementedError

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        for number, batch in enumerate(batches):
            if number != self.batches:
                yield self.answer(batch)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        return Inspection(checks=("signature read back",), facts={})


class Absent(Fake):
    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        raise NotRunnableError("needs a Mac")


def check(runtime: Fake) -> Verified:
    found = verification.verify(runtime, ARTIFACT, CLASSIFICATION, REFERENCE, IMAGES, LABELS)
    assert isinstance(found, Verified)
    return found


class Reference(Fake):
    computed_by = ComputedBy.REFERENCE


def test_an_interpreter_computes_the_first_images_and_the_result_says_so() -> None:
    asked: list[int] = []

    def answer(images: Images) -> Logits:
        asked.append(len(images))
        return true_logits(images)

    found = check(Reference(answer))
    assert found.computed_by is ComputedBy.REFERENCE
    assert sum(asked) == found.parity.images == verification.REFERENCE_IMAGES < COUNT


def test_exact_artifact() -> None:
    found = check(Fake(true_logits))
    assert found.parity.max_abs_error == 0.0
    assert found.parity.top1_agreement == 1.0
    assert found.parity.images == COUNT
    assert found.quality_validation == 1.0


def test_two_files_are_compared_image_by_image() -> None:
    """One that answers the first 60 images wrong, one that answers others wrong: as accurate, and not the same."""

    def wrong(which: range) -> Fake:
        places = {IMAGES[image].tobytes() for image in which}

        def answer(images: Images) -> Logits:
            turned = np.array([image.tobytes() in places for image in images])
            return np.where(turned[:, None], -true_logits(images), true_logits(images))

        return Fake(answer)

    one, other = check(wrong(range(60))), check(wrong(range(40, 100)))
    assert one.quality_validation == other.quality_validation < 1
    assert compare(one.right, other.right) == (40, 40)


def test_wrong_artifact_is_seen() -> None:
    found = check(Fake(lambda images: np.roll(true_logits(images), 1, axis=1)))
    assert found.parity.max_abs_error > 1
    assert found.parity.top1_agreement < 0.3
    assert found.quality_validation == found.parity.top1_agreement


def test_quality_is_against_labels_and_agreement_against_the_program() -> None:
    labels = (LABELS + (np.arange(COUNT) < 60)) % CLASSES
    found = verification.verify(Fake(true_logits), ARTIFACT, CLASSIFICATION, REFERENCE, IMAGES, labels)
    assert isinstance(found, Verified)
    assert found.parity.top1_agreement == 1.0
    assert found.quality_validation == pytest.approx(0.9)
    assert found.right == pack([image >= 60 for image in range(COUNT)]), "which were right is kept"


def test_one_deviating_logit_of_the_last_batch_is_the_largest_error() -> None:
    def answer(images: Images) -> Logits:
        logits = true_logits(images).copy()
        if len(images) < verification.BATCH_IMAGES:
            logits[-1, 0] -= 7
        return logits

    assert check(Fake(answer)).parity.max_abs_error == pytest.approx(7, abs=1e-5)


def test_not_runnable_is_inspected_with_the_reason() -> None:
    found = verification.verify(Absent(true_logits), ARTIFACT, CLASSIFICATION, REFERENCE, IMAGES, LABELS)
    assert found == Inspected(reason="needs a Mac", checks=("signature read back",))
    with pytest.raises(NotRunnableError):
        verification.test_quality(Absent(true_logits), ARTIFACT, CLASSIFICATION, IMAGES, LABELS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_fail(value: float) -> None:
    def answer(images: Images) -> Logits:
        logits = true_logits(images).copy()
        logits[3, 1] = value
        return logits

    with pytest.raises(TrialFailure, match=r"model\.onnx \(onnx, int8\) .*not finite, first for image 3"):
        check(Fake(answer))
    with pytest.raises(TrialFailure, match="not finite"):
        verification.test_quality(Fake(answer), ARTIFACT, CLASSIFICATION, IMAGES, LABELS)


@pytest.mark.parametrize(
    "answer",
    [
        lambda images: true_logits(images)[:, :-1],
        lambda images: true_logits(images)[:-1],
        lambda images: true_logits(images).ravel(),
        lambda images: true_logits(images)[:, :, None],
    ],
    ids=["classes", "rows", "flat", "extra axis"],
)
def test_wrong_shapes_fail(answer: Callable[[Images], Logits]) -> None:
    with pytest.raises(TrialFailure, match=r"model\.onnx .*shape"):
        check(Fake(answer))


def test_missing_batches_fail() -> None:
    with pytest.raises(TrialFailure, match="for 512 of 600 images"):
        check(Fake(true_logits, batches=2))


def test_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError):
        verification.verify(Fake(true_logits), ARTIFACT, CLASSIFICATION, REFERENCE[:-1], IMAGES, LABELS)
    with pytest.raises(ValueError):
        verification.verify(Fake(true_logits), ARTIFACT, CLASSIFICATION, REFERENCE * np.nan, IMAGES, LABELS)
    with pytest.raises(ValueError):
        verification.test_quality(Fake(true_logits), ARTIFACT, CLASSIFICATION, IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError):
        verification.test_quality(Fake(true_logits), ARTIFACT, CLASSIFICATION, IMAGES, LABELS[:-1])
    with pytest.raises(ValueError):
        verification.test_logits(Fake(true_logits), ARTIFACT, IMAGES[:0])


def test_quality_on_the_test_split() -> None:
    labels = (LABELS + (np.arange(COUNT) % 4 == 0)) % CLASSES
    assert verification.test_quality(Fake(true_logits), ARTIFACT, CLASSIFICATION, IMAGES, labels) == pytest.approx(0.75)
    assert np.array_equal(verification.test_logits(Fake(true_logits), ARTIFACT, IMAGES), REFERENCE)
