"""Builds with teachers of transformers and open_clip, from small checkpoints on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from library_models import NAMES, saved, saved_clip, vectors

from edgedistill.base.progress import Note

TEACHER = """model = "timm:resnet10t"
resolution = 16
arguments = { channels = [32, 64, 96, 128] }
fit = { epochs = 2, batch_size = 64 }
"""


def write(loop: Any, name: str, teacher: str) -> Path:
    path: Path = loop.write(name, "1000ms", (TEACHER, teacher), *loop.few)
    return path


def test_a_classifier_of_transformers_is_fitted_and_distilled(loop: Any) -> None:
    pytest.importorskip("transformers")
    path = write(loop, "transformers", 'model = "transformers:./model"\npretrained = true\nfit = { epochs = 2 }\n')
    saved(path.parent / "model", names=("a", "b", "c"))
    built = loop.build(path)
    assert built.result.status == "met", built.result.verdict
    assert built.result.teacher.name == "transformers:./model"
    assert built.result.teacher.resolution == 32
    assert any("the teacher transformers:./model gets" in note for note in built.notes)
    assert "nothing has changed since this build" in loop.build(path).notes
    weights = path.parent / "model" / "config.json"
    weights.write_text(weights.read_text().replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-05'))
    assert "nothing has changed since this build" not in loop.build(path).notes


def test_an_image_tower_with_text_vectors_labels_what_it_was_never_fitted_to(loop: Any) -> None:
    pytest.importorskip("open_clip")
    teacher = 'model = "open_clip:./clip"\npretrained = true\ntext_vectors = "text.npz"\n'
    path = write(loop, "open-clip", teacher)
    saved_clip(path.parent / "clip")
    rows = vectors(path.parent / "text.npy")
    np.savez(path.parent / "text.npz", **dict(zip(NAMES, rows, strict=True)))
    built = loop.build(path)
    assert built.result.status == "met", built.result.verdict
    assert built.result.teacher.quality < 0.4, "its weights are random"
    warned = [event.text for event in built.events if isinstance(event, Note) and event.warning]
    assert any("always naming the most frequent class gets" in text for text in warned)
