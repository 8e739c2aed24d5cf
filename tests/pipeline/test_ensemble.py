"""Several teachers together: what is found again, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.documents.build_file import load_config
from edgedistill.documents.targets import load_target
from edgedistill.networks.tasks import cosines, unit
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.ensemble import open_ensemble
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.truth import hold_against_teacher
from edgedistill.pipeline.workbench import Workbench

TWO_FILES = """
task = "embedding"
budget = "5ms"

[teacher]
model = "outputs:one.npy"

[[teachers]]
model = "outputs:two.npy"

[embedding]
score = "{score}"
"""


def bench_of(folder: Path, score: str) -> Workbench:
    """Two teachers of which there are files alone, on the digits."""
    path = folder / "build.toml"
    path.write_text(TWO_FILES.format(score=score))
    config, target = load_config(path), load_target("host")
    data = Data(load_dataset(config.data), (0.0,) * 3, (1.0,) * 3)
    return Workbench.of(config, target, data, Store(folder / "cache"), Meter(target, None, "not measured"), folder)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", generator.standard_normal((1797, 6)).astype(np.float32))
    return tmp_path


def test_another_score_is_not_what_an_earlier_one_came_to(files: Path) -> None:
    found = {score: open_ensemble(bench_of(files, score)) for score in ("retrieval", "knn")}
    for score, ensemble in found.items():
        assert ensemble is not None
        fresh = bench_of(files, score)
        fresh.store = Store(files / "cache" / f"fresh-{score}")
        alone = open_ensemble(fresh)
        assert alone is not None and ensemble.quality_validation == alone.quality_validation, score


def test_a_quality_is_called_by_its_own_name(files: Path) -> None:
    ensemble = open_ensemble(bench_of(files, "retrieval"))
    assert ensemble is not None
    assert "right" not in ensemble.sentence and "recall@1 of" in ensemble.sentence


def _column(path: Path) -> None:
    np.save(path, np.ones((1797, 1), np.float32))


def _table(path: Path) -> None:
    (path.parent / "one.csv").write_text("index,a\n0,1\n")


@pytest.mark.parametrize(("write", "suffix"), [(_column, ".npy"), (_table, ".csv")])
def test_a_vector_of_one_number_is_named(files: Path, write: Callable[[Path], None], suffix: str) -> None:
    write(files / "one.npy")
    bench = bench_of(files, "retrieval")
    teacher = bench.config.teacher.model_copy(update={"model": f"outputs:one{suffix}"})
    bench.config = bench.config.model_copy(update={"teacher": teacher})
    with pytest.raises(InputError, match=rf"outputs:one\{suffix} gives vectors of 1 numbers"):
        assert bench.vector


def test_neighbours_are_those_of_the_mean_of_all_teachers(files: Path) -> None:
    bench = bench_of(files, "neighbours")
    hold_against_teacher(bench, "validation")
    validation = bench.dataset.splits.validation
    one, two = (unit(np.load(files / f"{name}.npy"))[validation] for name in ("one", "two"))
    assert cosines(bench.truth("validation"), one + two) == pytest.approx(1, abs=1e-6)
    ensemble = open_ensemble(bench)
    assert ensemble is not None and ensemble.quality_validation == 1
    assert all(member.quality_validation < 0.9 for member in ensemble.members)
    assert [*bench.vectors] == ["validation"], "what the test split says is asked for at the end"


def test_another_teacher_is_another_truth_and_labels_are_none(files: Path) -> None:
    keys = set()
    for seed in (1, 1, 2):
        np.save(files / "two.npy", np.random.default_rng(seed).standard_normal((1797, 6)).astype(np.float32))
        bench = bench_of(files, "neighbours")
        hold_against_teacher(bench, "validation")
        keys.add(bench.judged_by)
    assert len(keys) == 2 and None not in keys
    bench = bench_of(files, "knn")
    hold_against_teacher(bench, "validation")
    assert bench.judged_by is None and bench.truth("validation").tolist() == bench.labels("validation").tolist()
