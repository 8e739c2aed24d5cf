from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgedistill.base.errors import InputError
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.views import mixed_labels, render_batch
from edgedistill.data.working import STAGE, CopyMaker, WorkingImages
from edgedistill.distill.batches import DrawnViews, ViewBatches, ViewSource
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.specs import Contract

CPU = torch.device("cpu")


def batches(
    dataset: Dataset, contract: Contract, source: ViewSource, batch_size: int = 64, seed: int = 0
) -> ViewBatches:
    return ViewBatches(dataset, contract, source, batch_size=batch_size, seed=seed)


def test_an_epoch_visits_every_image_once_in_its_own_order(
    digits: Dataset, contract: Contract, stored: SplitStore
) -> None:
    """Teacher logits tell the images apart."""
    made = batches(digits, contract, stored, batch_size=50)
    assert made.steps_per_epoch == 7
    assert [len(made.batch(step).images) for step in range(7)] == [45, 46, 46, 45, 46, 46, 46]
    for epoch in (0, 1):
        steps = range(7 * epoch, 7 * epoch + 7)
        seen = np.concatenate([made.batch(step).teacher["logits"].numpy() for step in steps])
        logits = stored.teacher(epoch, np.arange(320))["logits"]
        assert not np.array_equal(seen, logits)
        assert np.array_equal(np.sort(seen, axis=0), np.sort(logits, axis=0))
    first, third = made.batch(0), made.batch(14)
    assert not torch.equal(first.images, third.images), "the same view, in another order"


def test_a_batch_is_what_the_teacher_saw(digits: Dataset, contract: Contract, stored: SplitStore) -> None:
    made = batches(digits, contract, stored, batch_size=320)
    batch = made.batch(1)
    order = np.random.default_rng((0, 1)).permutation(320)
    views = stored.views(1)
    assert np.array_equal(
        batch.images.numpy(), render_batch(digits.images, digits.splits.train, views, order, contract)
    )
    assert np.array_equal(batch.teacher["logits"].numpy(), stored.teacher(1, order)["logits"])
    labels = digits.labels[digits.splits.train]
    assert np.array_equal(batch.labels.numpy(), mixed_labels(labels, 10, views, order))
    assert 0 < int((batch.labels.amax(1) < 1).sum()) < 320


def test_a_run_starts_anywhere(digits: Dataset, contract: Contract, stored: SplitStore) -> None:
    made = batches(digits, contract, stored)
    hardware = Hardware(CPU, None, 0)
    late = list(made.loader(range(8, 10), hardware))
    whole = list(made.loader(range(10), hardware))
    assert all(torch.equal(a.images, b.images) for a, b in zip(late, whole[8:], strict=True))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(9, 4, [3, 3, 3]), (10, 4, [3, 3, 4]), (3, 64, [3]), (8, 4, [4, 4]), (3, 2, [3]), (258, 128, [86, 86, 86])],
)
def test_the_batches_of_an_epoch_have_one_size(
    count: int, batch_size: int, sizes: list[int], digits: Dataset, contract: Contract
) -> None:
    few = replace(digits, splits=replace(digits.splits, train=digits.splits.train[:count]))
    made = batches(few, contract, DrawnViews(count, AugmentationConfig()), batch_size)
    assert [len(made.batch(step).images) for step in range(made.steps_per_epoch)] == sizes


class Vanished:
    def __len__(self) -> int:
        return 1797

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        raise InputError("cat.png is gone", fix="put it back")

    @property
    def decoded(self) -> bool:
        return False


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_told_without_a_traceback(workers: int, digits: Dataset, contract: Contract) -> None:
    source = DrawnViews(320, AugmentationConfig())
    made = batches(replace(digits, images=Vanished()), contract, source)
    with pytest.raises(InputError) as caught:
        list(made.loader(range(2), Hardware(CPU, None, workers)))
    assert str(caught.value) == "cat.png is gone\nfix: put it back"


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_kept_copies_are_those_of_copies_made_each_time(
    workers: int, digits: Dataset, contract: Contract, stored: SplitStore, tmp_path: Path
) -> None:
    plain, store, key = WorkingImages(digits.images, digits.splits.train, 5, None), Store(tmp_path), "0" * 64
    CopyMaker(store, key, plain, "digits").make(10**9)
    kept = replace(plain, folder=store.find(STAGE, key))
    every, ready = (batches(replace(digits, images=images), contract, stored) for images in (plain, kept))
    ready.batch(0)  # its map is open before a worker gets it
    found = list(ready.loader(range(3), Hardware(CPU, None, workers)))
    assert all(torch.equal(batch.images, every.batch(step).images) for step, batch in enumerate(found))
    assert not torch.equal(found[0].images, batches(digits, contract, stored).batch(0).images)


def test_open_maps_do_not_travel_to_workers(digits: Dataset, contract: Contract, stored: SplitStore) -> None:
    made = batches(digits, contract, stored)
    expected = made.batch(3)
    copy = pickle.loads(pickle.dumps(made))
    assert not hasattr(copy, "_opened")
    assert torch.equal(copy.batch(3).images, expected.images)
