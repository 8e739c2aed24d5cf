"""What is told of stored views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.sources import UNLABELLED
from edgedistill.distill.stored.encoding import MOST_BYTES, encoding_of
from edgedistill.distill.stored.signals import HEADER, StoredSignal, file_name
from edgedistill.pipeline.views import summary_of

CLASSES = MOST_BYTES + 4


def written(folder: Path, rows: np.ndarray) -> StoredSignal:
    """Logits [V, n, C] as files."""
    folder.mkdir()
    encoding = encoding_of("logits", rows.shape[2])
    (folder / HEADER).write_text(json.dumps({"tap": "logits", "images": rows.shape[1], "width": rows.shape[2]}))
    for view, said in enumerate(rows):
        (folder / file_name(view)).write_bytes(encoding.encode(said).tobytes())
    return StoredSignal.open(folder)


def test_what_is_lost_of_many_classes_is_told(tmp_path: Path) -> None:
    """Two views of two images: one even over all classes, which one value for the rest says exactly, and one whose classes
    beyond those that are kept differ."""
    even = np.zeros(CLASSES, np.float32)
    tail = np.r_[np.full(200, 8.0), np.linspace(6, -6, CLASSES - 200)].astype(np.float32)
    rows = np.stack([[even, tail], [even, even]])
    signal = written(tmp_path / "many", rows)
    found = summary_of(signal, 2, np.array([0, UNLABELLED]))
    assert found.error_mean is not None and found.error_largest is not None
    assert 0.4 < found.error_largest < 0.6 and found.error_mean == pytest.approx(found.error_largest / 4, abs=1e-3)
    assert found.confidence_unlabelled is not None

    few = summary_of(written(tmp_path / "few", rows[:, :, :10]), 2, np.array([0, UNLABELLED]))
    assert (few.error_mean, few.error_largest) == (None, None)
