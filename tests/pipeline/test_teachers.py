"""Teachers that are files: what is found again, and what is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import load_config
from edgedistill.documents.specs import Contract, VectorContract
from edgedistill.documents.targets import load_target
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.networks.program.program import to_program
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.teacher_outputs import signals_of_outputs
from edgedistill.pipeline.workbench import Workbench


def bench_of(folder: Path, task: str, teacher: str, more: str = "") -> Workbench:
    """On the digits, with one cache for all of a folder."""
    path = folder / "build.toml"
    path.write_text(f'task = "{task}"\nbudget = "5ms"\n[teacher]\nmodel = "{teacher}"\n{more}')
    config, target = load_config(path), load_target("host")
    data, meter = Data(load_dataset(config.data), (0.0,) * 3, (1.0,) * 3), Meter(target, None, "not measured")
    return Workbench.of(config, target, data, Store(folder / "cache"), meter, folder)


def test_the_same_file_is_of_another_task_something_else(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1797, 10)).astype(np.float32)
    np.save(tmp_path / "outputs.npy", rows)
    found = {}
    for task in ("classification", "embedding"):
        bench = bench_of(tmp_path, task, "outputs:outputs.npy")
        augmentation = bench.config.augmentation.model_copy(update={"views": 1})
        views = stored_views(bench.store, bench.dataset, augmentation, None)
        (signal,) = signals_of_outputs(bench, views, open_teacher(bench), (bench.task.output,))
        found[signal.tap] = signal.at(0, np.arange(4, dtype=np.int64)).astype(np.float32)
    first = rows[bench.dataset.splits.train[:4]]
    assert found["logits"] == pytest.approx(first - first.max(axis=1, keepdims=True), abs=0.01)
    assert found["embedding"] == pytest.approx(first / np.linalg.norm(first, axis=1, keepdims=True), abs=0.01)


class Pixels(nn.Module):
    """The pixels of an image as its vector."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(1).flatten(1) / 255


def test_how_vectors_are_judged_makes_no_other_teacher_of_an_onnx_file(tmp_path: Path) -> None:
    vector = VectorContract(dimension=64)
    contract = Contract(
        task="embedding", output_name="embedding", vector=vector, resolution=8, mean=(0,) * 3, std=(1,) * 3, labels=()
    )
    export_onnx(to_program(Pixels().eval(), contract), contract, tmp_path / "pixels.onnx", build_hash="b")

    def opened(score: str, more: str = "") -> Teacher:
        return open_teacher(
            bench_of(tmp_path, "embedding", "onnx:pixels.onnx", f'[embedding]\nscore = "{score}"\n{more}')
        )

    found = [opened(score) for score in ("retrieval", "knn")]
    assert found[0].key == found[1].key and found[0].contract != found[1].contract
    assert opened("knn", '[data]\ncrop = "center"').key != found[0].key
