"""What a file answers to the test split: its confusions, its most confident mistakes, and their pictures."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from factories import make_predictions
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from edgedistill.base.arrays import Images, Logits
from edgedistill.data.datasets import Dataset
from edgedistill.data.folder import FolderImages
from edgedistill.data.sources import GreyImages
from edgedistill.data.splits import Splits
from edgedistill.data.synthetic import SyntheticImages
from edgedistill.documents.results import MOST_MISTAKES, Confused
from edgedistill.networks.tasks import CLASSIFICATION
from edgedistill.pipeline.mistakes import MOST_BYTES, SIDE, AnswersOnTest, image_name, predictions_on_test, webp


def drawn(seed: int, count: int, classes: int) -> tuple[Logits, Any]:
    """Logits and labels of images."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (count, classes)).astype(np.float32), rng.integers(0, classes, count)


def bench_of(count: int, classes: int, side: int = 8, **changes: Any) -> Any:
    """A bench with images of a test split that comes after ten other images."""
    every = np.arange(10 + count)
    values: dict[str, Any] = {
        "name": "digits",
        "classes": tuple(f"class {number}" for number in range(classes)),
        "labels": every % classes,
        "images": GreyImages(np.zeros((len(every), side, side), np.uint8)),
        "splits": Splits(every[:5], every[5:10], every[10:], 0),
        "fingerprint": "",
    }
    pixels = np.random.default_rng(1).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return SimpleNamespace(
        dataset=Dataset(**values | changes), data=SimpleNamespace(path=None), images=lambda *_: pixels
    )


def told(logits: Logits, labels: Any, out: Path) -> Any:
    bench = bench_of(*logits.shape)
    contract: Any = None
    return predictions_on_test(bench, contract, "a", AnswersOnTest.of(logits, labels), out)


# -- answers ------------------------------------------------------------------------------------------------------


def test_the_probability_is_the_softmax_of_the_logits() -> None:
    logits = np.log(np.array([[1, 3, 4], [5, 1, 2]], np.float32))
    (first, second) = AnswersOnTest.of(logits, np.array([1, 2])).mistakes
    assert (first.position, second.position) == (1, 0)
    assert (first.probability, first.probability_of_label) == pytest.approx((5 / 8, 2 / 8))
    assert (second.probability, second.probability_of_label) == pytest.approx((4 / 8, 3 / 8))


def test_it_is_at_the_temperature_and_none_of_these_is_below_the_threshold() -> None:
    logits = 2 * np.log(np.array([[1, 3], [9, 1], [1, 1.5], [2, 1]], np.float32))
    answers = AnswersOnTest.of(logits, np.array([0, 0, 1, 1]), temperature=2.0, none_below=0.7)
    assert [(m.position, m.probability) for m in answers.mistakes] == [
        (0, pytest.approx(3 / 4)),
        (3, pytest.approx(2 / 3)),
    ]
    found = answers.confidence
    assert (found.temperature, found.none_below) == (2.0, 0.7)
    assert (found.right_kept, found.wrong_caught) == (0.5, 0.5)
    assert sum(bin.images for bin in found.bins) == 4
    # Each in a part of its own: 0.9 and 0.6 are right, 3/4 and 2/3 are wrong.
    assert found.calibration_error == pytest.approx((0.1 + 0.4 + 3 / 4 + 2 / 3) / 4)
    assert found.raw_calibration_error != found.calibration_error
    assert AnswersOnTest.of(logits, np.array([0, 0, 1, 1])).confidence.right_kept is None


def test_large_logits_do_not_overflow() -> None:
    (wrong,) = AnswersOnTest.of(np.array([[-1e30, 1e30]], np.float32), np.array([0])).mistakes
    assert (wrong.probability, wrong.probability_of_label) == (1.0, 0.0)


def test_no_mistake_is_no_mistake() -> None:
    answers = AnswersOnTest.of(np.eye(3, dtype=np.float32), np.arange(3))
    assert answers.mistakes == ()


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(2, 6))
def test_the_most_confident_mistakes_come_first_and_are_all_that_there_are_or_as_many_as_are_told(
    seed: int, count: int, classes: int
) -> None:
    logits, labels = drawn(seed, count, classes)
    answers = AnswersOnTest.of(logits, labels)
    wrong = np.flatnonzero(answers.predicted != labels)
    told = [mistake.position for mistake in answers.mistakes]
    assert len(set(told)) == len(told) == min(len(wrong), MOST_MISTAKES) and set(told) <= set(wrong.tolist())
    shown = [mistake.probability for mistake in answers.mistakes]
    assert shown == sorted(shown, reverse=True)
    assert all(0 <= m.probability_of_label <= m.probability <= 1 for m in answers.mistakes)
    odds = np.exp(logits.astype(float))
    confidence = odds.max(axis=1) / odds.sum(axis=1)
    left = sorted(set(wrong.tolist()) - set(told))
    assert all(confidence[place] <= shown[-1] + 1e-9 for place in left)


def test_mistakes_as_confident_as_each_other_are_in_the_order_of_the_images() -> None:
    logits = np.tile(np.array([[0, 1]], np.float32), (40, 1))
    answers = AnswersOnTest.of(logits, np.zeros(40, np.int64))
    assert [mistake.position for mistake in answers.mistakes] == list(range(MOST_MISTAKES))


# -- as they are told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "count", "classes"), [(0, 1, 2), (1, 90, 4), (2, 50, 1000)])
def test_the_counts_add_up_and_the_right_ones_are_the_quality(
    tmp_path: Path, seed: int, count: int, classes: int
) -> None:
    logits, labels = drawn(seed, count, classes)
    answered = told(logits, labels, tmp_path)
    assert sum(entry.count for entry in answered.confusion) == answered.images == count
    right = sum(entry.count for entry in answered.confusion if entry.label == entry.predicted)
    assert right / count == CLASSIFICATION.score(logits, labels)
    assert len(answered.confusion) <= count, "what never happened is left out"
    assert len(answered.classes) == classes
    for entry in answered.confusion:
        hits = (labels == entry.label) & (logits.argmax(axis=1) == entry.predicted)
        assert entry.count == hits.sum()


def test_mistakes_are_told_with_their_labels_names_and_pictures(tmp_path: Path) -> None:
    logits = np.array([[2, 0, 0], [0, 0, 9], [0, 3, 0]], np.float32)
    answered = told(logits, np.array([0, 1, 2]), tmp_path)
    assert [(m.label, m.predicted, m.image) for m in answered.mistakes] == [
        (1, 2, "image 11 of digits"),
        (2, 1, "image 12 of digits"),
    ]
    assert [m.thumbnail for m in answered.mistakes] == ["mistakes/01.webp", "mistakes/02.webp"]
    assert sorted(p.name for p in (tmp_path / "mistakes").iterdir()) == ["01.webp", "02.webp"]
    for mistake in answered.mistakes:
        with Image.open(tmp_path / mistake.thumbnail) as picture:
            assert (picture.format, picture.size) == ("WEBP", (8, 8)), "never scaled up"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 21}, "do not add up"),
        ({"confusion": (Confused(label=0, predicted=2, count=20),)}, "not in the list of classes"),
        ({"mistakes": make_predictions(("a", "b", "c")).mistakes}, "not in the list of classes"),
        ({"mistakes": make_predictions().mistakes * 7}, "at most 24"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        make_predictions(**changes)


# -- names and pictures -------------------------------------------------------------------------------------------


def test_an_image_file_is_called_by_its_path_from_the_data_folder() -> None:
    paths = ("/data/pets/test/cat/1.png", "/data/pets/dog/a\x1b[2J.png", os.fsdecode(b"/data/pets/dog/\xff.png"))
    bench = bench_of(2, 2, images=FolderImages(paths, (255, 255, 255)))
    names = [image_name(bench.dataset, Path("/data/pets"), index) for index in range(3)]
    assert names == ["test/cat/1.png", "dog/a?[2J.png", "dog/?.png"]
    for name in names:
        name.encode()


def test_a_relative_data_folder_is_no_part_of_the_name() -> None:
    bench = bench_of(2, 2, images=FolderImages(("photos/cat/1.png",), (255, 255, 255)))
    assert image_name(bench.dataset, Path("photos"), 0) == "cat/1.png"


def test_an_image_of_another_source_is_called_by_its_place() -> None:
    assert image_name(bench_of(2, 2).dataset, Path("/data/mnist"), 17) == "image 17 of digits"


def opened(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("side", "shown"), [(8, 8), (32, 32), (64, 64), (96, SIDE), (224, SIDE)])
def test_a_picture_is_what_the_student_sees_made_smaller_where_it_is_large(side: int, shown: int) -> None:
    pixels: Images = np.ascontiguousarray(SyntheticImages(1, side)[0].transpose(2, 0, 1))
    data = webp(pixels)
    assert len(data) <= MOST_BYTES
    found = opened(data)
    assert found.shape == (shown, shown, 3)
    if side > 8:  # of 8 pixels, colours at half the resolution leave little
        wanted = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).resize((shown, shown)))
        assert math.sqrt(np.square(found.astype(float) - wanted).mean()) < 40


def test_a_picture_of_noise_is_worse_and_not_much_larger() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    assert len(webp(noise)) < 2 * MOST_BYTES
