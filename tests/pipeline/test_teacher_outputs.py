"""A file of outputs as a teacher: what is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.distill.stored.views import stored_views
from edgedistill.documents.build_file import load_config
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.bench import Data, Workbench
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.teacher_outputs import signals_of_outputs


def test_the_same_file_is_of_another_task_something_else(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1797, 10)).astype(np.float32)
    np.save(tmp_path / "outputs.npy", rows)
    found = {}
    for task in ("classification", "embedding"):
        path = tmp_path / f"{task}.toml"
        path.write_text(f'task = "{task}"\nbudget = "5ms"\n[teacher]\nmodel = "outputs:outputs.npy"\n')
        config, target = load_config(path), load_target("host")
        data, meter = Data(load_dataset(config.data), (0.0,) * 3, (1.0,) * 3), Meter(target, None, "not measured")
        bench = Workbench.of(config, target, data, Store(tmp_path / "cache"), meter, tmp_path)
        views = stored_views(bench.store, bench.dataset, config.augmentation.model_copy(update={"views": 1}), None)
        (signal,) = signals_of_outputs(bench, views, open_teacher(bench), (bench.task.output,))
        found[signal.tap] = signal.at(0, np.arange(4, dtype=np.int64)).astype(np.float32)
    first = rows[bench.dataset.splits.train[:4]]
    assert found["logits"] == pytest.approx(first - first.max(axis=1, keepdims=True), abs=0.01)
    assert found["embedding"] == pytest.approx(first / np.linalg.norm(first, axis=1, keepdims=True), abs=0.01)
