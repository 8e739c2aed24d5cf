"""Which images without a label are learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.distill.batches import ViewBatches
from edgedistill.distill.stored.encoding import encoding_of
from edgedistill.distill.stored.filtering import agreement_with, certainty, filtered, without_label
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.specs import Contract


class Said(StoredSignal):
    """Logits by view [V, n, C], in the place of files."""

    @classmethod
    def of(cls, logits: NDArray[np.float32], tmp_path: Path) -> Said:
        made = cls("logits", tmp_path / "said", logits.shape[1], encoding_of("logits", logits.shape[2]))
        object.__setattr__(made, "logits", logits)
        return made

    def at(self, view: int, positions: Indices) -> NDArray[np.float16]:
        rows = self.logits[view][positions]  # type: ignore[attr-defined]
        return (rows - rows.max(1, keepdims=True)).astype(np.float16)


def test_certainty_of_one_who_is_sure_who_wavers_and_who_guesses(tmp_path: Path) -> None:
    sure, even = [9.0, 0, 0], [0.0, 0, 0]
    views = np.array([[sure, [9, 0, 0], even], [sure, [0, 9, 0], even], [sure, [0, 9, 0], even]], np.float32)
    found = certainty(Said.of(views, tmp_path), 3)
    np.testing.assert_allclose(found.agreement, [1, 2 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(found.confidence, [0.9998, 0.9998, 1 / 3], atol=1e-3)


def test_it_is_the_same_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 100, 5)).astype(np.float32)
    whole = certainty(Said.of(logits, tmp_path), 4)
    monkeypatch.setattr("edgedistill.distill.stored.filtering._CHUNK", 7)
    parts = certainty(Said.of(logits, tmp_path), 4)
    np.testing.assert_array_equal(whole.confidence, parts.confidence)
    np.testing.assert_array_equal(whole.agreement, parts.agreement)


def test_those_with_a_label_stay_and_of_the_others_the_sure(
    digits: Dataset, contract: Contract, stored: SplitStore, tmp_path: Path
) -> None:
    labels = digits.labels.copy()
    free = digits.splits.train[100:]
    labels[free] = UNLABELLED
    dataset = replace(digits, labels=labels)
    logits, store = stored.signals[0], Store(tmp_path)
    sure = certainty(logits, stored.stored_views.count)
    config = TrainConfig.model_validate({"min_confidence": "90%", "min_agreement": "100%"})
    kept = filtered(store, dataset, logits, stored.stored_views.count, config)
    expected = [p for p in range(320) if p < 100 or (sure.confidence[p] >= 0.9 and sure.agreement[p] == 1)]
    assert np.load(kept).tolist() == expected and 120 < len(expected) < 300
    assert np.array_equal(without_label(dataset), np.arange(100, 320))

    narrowed = replace(stored, kept=kept)
    assert narrowed.key != stored.key
    batches = ViewBatches(dataset, contract, narrowed, batch_size=64, seed=0)
    seen = np.concatenate([batches.batch(step).teacher["logits"].numpy() for step in range(batches.steps_per_epoch)])
    own = narrowed.teacher(0, np.array(expected))["logits"]
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(own, axis=0))


def test_other_thresholds_and_labels_are_other_files(digits: Dataset, stored: SplitStore, tmp_path: Path) -> None:
    store, logits = Store(tmp_path), stored.signals[0]
    labels = digits.labels.copy()
    labels[digits.splits.train[5]] = UNLABELLED
    files = {
        filtered(store, dataset, logits, 2, config)
        for dataset in (digits, replace(digits, labels=labels))
        for config in (TrainConfig.model_validate({name: "50%"}) for name in ("min_confidence", "min_agreement"))
    }
    assert len(files) == 4


def test_agreement_is_of_the_images_that_have_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.distill.stored.filtering._CHUNK", 2)
    logits = np.zeros((2, 4, 3), np.float32)
    logits[0, np.arange(4), [0, 1, 2, 2]] = 5
    logits[1, np.arange(4), [0, 2, 2, 1]] = 5
    said = Said.of(logits, tmp_path)
    assert agreement_with(np.array([0, 1, UNLABELLED, 0]), said, 2) == pytest.approx(3 / 6)
    assert agreement_with(np.full(4, UNLABELLED), said, 2) is None
