from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from edgedistill.base.errors import InputError, TrialFailure
from edgedistill.base.progress import Event, StageAdvanced
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import Indices
from edgedistill.distill import loop
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.loop import Stretch
from edgedistill.distill.start import StartWeights
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import FINE_TUNING_RATE, Lessons, load_student, read_trained, schedule_of, train_student
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.build_file import AugmentationConfig, TrainConfig
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.families.family import LARGEST_RATE
from edgedistill.networks.families.registry import family

AUGMENTATION = AugmentationConfig(views=2, scale=(0.8, 1.0), magnitude=0.2, mix=0.3)
Run = Callable[..., TrainedStudent]


class Killed(Exception):
    pass


def ignore(done: int, total: int, note: str) -> None:
    pass


@pytest.fixture(scope="session")
def run(spec: StudentSpec, contract: Contract, digits: Dataset, stored: SplitStore, config: TrainConfig) -> Run:
    def train(folder: Path, epochs: int, total_epochs: int = 3, **options: object) -> TrainedStudent:
        folder.mkdir(exist_ok=True)
        given: dict[str, Any] = {
            "stored": stored,
            "config": config,
            "previous": None,
            "on_progress": ignore,
        } | options
        lessons = Lessons(digits, given["config"], given["stored"])

        def listen(event: Event) -> None:
            assert isinstance(event, StageAdvanced) and event.stage == "train"
            given["on_progress"](event.done, event.total, event.note)

        stretch = Stretch(epochs, folder, given["previous"], listen)
        return train_student(spec, contract, lessons, stretch, total_epochs, given.get("start"))

    return train


def assert_same_weights(a: TrainedStudent, b: TrainedStudent) -> None:
    one, other = load_file(a.weights), load_file(b.weights)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


@pytest.fixture(scope="session")
def uninterrupted(run: Run, tmp_path_factory: pytest.TempPathFactory) -> TrainedStudent:
    return run(tmp_path_factory.mktemp("run") / "whole", 3)


@pytest.fixture
def whole(uninterrupted: TrainedStudent, tmp_path: Path) -> TrainedStudent:
    """A copy of its own for each test."""
    shutil.copytree(uninterrupted.weights.parent, tmp_path / "whole")
    return read_trained(tmp_path / "whole")


def test_paused_at_rungs_equals_uninterrupted(run: Run, whole: TrainedStudent, tmp_path: Path) -> None:
    first = run(tmp_path / "a", 1)
    second = run(tmp_path / "b", 3, previous=tmp_path / "a")
    assert_same_weights(second, whole)
    assert second.quality_validation == whole.quality_validation
    assert (first.epochs, second.epochs) == (1, 3)
    assert second.train_seconds > first.train_seconds


def test_killed_in_the_middle_of_an_epoch_equals_uninterrupted(
    run: Run, whole: TrainedStudent, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    eager = config.model_copy(update={"checkpoint_seconds": 1e-9})

    def kill_at(kill: int) -> Callable[[int, int, str], None]:
        def progress(done: int, total: int, note: str) -> None:
            seen.append(done)
            if done == kill:
                raise Killed

        seen: list[int] = []
        progress.seen = seen  # type: ignore[attr-defined]
        return progress

    for step in (3, 9):  # an epoch has 5 steps
        with pytest.raises(Killed):
            run(tmp_path / "killed", 3, config=eager, on_progress=kill_at(step))
    last = kill_at(-1)
    resumed = run(tmp_path / "killed", 3, config=eager, on_progress=last)
    assert last.seen[0] == 10  # type: ignore[attr-defined]
    assert_same_weights(resumed, whole)


def test_killed_after_training_is_not_trained_again(run: Run, whole: TrainedStudent, tmp_path: Path) -> None:
    (tmp_path / "whole" / "student.json").unlink()
    steps: list[int] = []
    again = run(tmp_path / "whole", 3, on_progress=lambda done, total, note: steps.append(done))
    assert_same_weights(again, whole)
    assert steps == [15]


def test_finished_folder_is_read_wherever_it_lies(
    run: Run, whole: TrainedStudent, contract: Contract, tmp_path: Path
) -> None:
    assert json.loads((tmp_path / "whole/student.json").read_text())["weights"] == "student.safetensors"
    (tmp_path / "whole").rename(tmp_path / "moved")
    trained = read_trained(tmp_path / "moved")
    assert trained.weights == tmp_path / "moved" / "student.safetensors"
    assert not load_student(trained, contract).training
    assert {path.name for path in (tmp_path / "moved").iterdir()} == {"student.json", "student.safetensors", "state.pt"}


def test_stated_quality_is_that_of_the_written_weights(
    whole: TrainedStudent, contract: Contract, digits: Dataset
) -> None:
    found = split_quality(load_student(whole, contract), digits, digits.splits.validation, contract)
    assert found == whole.quality_validation


def test_seed_changes_the_student(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    one = run(tmp_path / "a", 1, 1)
    two = run(tmp_path / "b", 1, 1, config=config.model_copy(update={"seed": 1}))
    assert any(not torch.equal(x, y) for x, y in zip(load_file(one.weights).values(), load_file(two.weights).values()))


def test_training_leaves_the_callers_random_numbers_alone(run: Run, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path / "a", 1, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_processes_change_nothing(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    alone = run(tmp_path / "a", 1, 1)
    helped = run(tmp_path / "b", 1, 1, config=config.model_copy(update={"workers": 1}))
    assert_same_weights(alone, helped)


def test_distillation_learns_digits(run: Run, tmp_path: Path) -> None:
    """The linear teacher has 89% on this split; chance is 10%."""
    assert run(tmp_path / "a", 8, 8).quality_validation > 0.7


def test_labels_only_need_no_teacher_and_learn(
    run: Run, config: TrainConfig, stored: SplitStore, tmp_path: Path
) -> None:
    labels = config.model_copy(update={"recipe": "labels"})
    beside = run(tmp_path / "a", 3, 3, config=labels)
    without = run(tmp_path / "b", 3, 3, config=labels, stored=replace(stored, signals=()))
    assert_same_weights(beside, without)
    assert without.quality_validation > 0.3


def test_a_composed_recipe_trains_otherwise(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    terms = (TermConfig(loss="correlation"), TermConfig(loss="cross_entropy", weight=0.5))
    composed = run(tmp_path / "a", 3, 3, config=config.model_copy(update={"terms": terms}))
    plain = run(tmp_path / "b", 3, 3)
    assert composed.quality_validation > 0.3
    assert composed.weights.read_bytes() != plain.weights.read_bytes()


def test_distilling_without_a_teacher_is_refused(run: Run, stored: SplitStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a teacher's logits"):
        run(tmp_path / "a", 1, 1, stored=replace(stored, signals=()))


def test_a_loss_that_is_not_finite_fails_the_trial(run: Run, stored: SplitStore, tmp_path: Path) -> None:
    class Broken(SplitStore):
        def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
            return {"logits": np.full((len(positions), 10), math.nan, np.float16)}

    broken = Broken(stored.stored_views, stored.signals)
    with pytest.raises(TrialFailure, match=r"the loss is nan in epoch 1, step 1, at learning rate 0\.\d+"):
        run(tmp_path / "a", 1, 1, stored=broken)
    assert not (tmp_path / "a" / "student.json").exists()


def test_a_rung_of_another_schedule_is_refused(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "a", 1, 2)
    with pytest.raises(ValueError, match="schedule of 2 epochs"):
        run(tmp_path / "b", 2, 3, previous=tmp_path / "a")


def test_a_missing_rung_is_not_silently_started_anew(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "b", 2, 3, previous=tmp_path)


def test_auto_is_the_rate_that_the_family_has_for_the_student(
    run: Run, spec: StudentSpec, digits: Dataset, stored: SplitStore, config: TrainConfig, tmp_path: Path
) -> None:
    auto, rate = config.model_copy(update={"learning_rate": "auto"}), family(spec.family).rate(spec)
    named = config.model_copy(update={"learning_rate": rate})
    assert Lessons(digits, auto, stored).rated(spec, None).config == named
    assert_same_weights(run(tmp_path / "auto", 1, config=auto), run(tmp_path / "named", 1, config=named))
    other = config.model_copy(update={"learning_rate": rate / 3})
    started = StartWeights("timm:test_resnet", tmp_path)
    assert Lessons(digits, other, stored).rated(spec, None).config == other
    assert Lessons(digits, other, stored).rated(spec, started).config == other
    rated = Lessons(digits, auto, stored).rated(spec, started).config.learning_rate
    assert rated == pytest.approx(FINE_TUNING_RATE / spec.width) and rated != rate
    narrow = spec.model_copy(update={"width": 0.01})
    assert Lessons(digits, auto, stored).rated(narrow, started).config.learning_rate == LARGEST_RATE


def test_a_rate_that_was_not_settled_makes_no_schedule(config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="learning rate"):
        schedule_of(config.model_copy(update={"learning_rate": "auto"}), 3)


def test_batches_of_one_image_are_refused(run: Run, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two images"):
        run(tmp_path / "a", 1, config=config.model_copy(update={"batch_size": 1}))


def test_units_are_chosen_by_the_images_that_are_learnt_from_alone(
    digits: Dataset, config: TrainConfig, tmp_path: Path
) -> None:
    """In cross-validation those that are left out must not say which of the teacher's units tell classes apart."""
    kept = np.arange(0, len(digits.splits.train), 3)
    asked: list[int] = []

    class Stored:
        def positions(self) -> Indices:
            return kept

        def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
            asked.extend(positions.tolist())
            return {"features": np.random.default_rng(0).normal(size=(len(positions), 4)).astype(np.float16)}

    stored: Any = Stored()
    units = config.model_copy(update={"recipe": "units"})
    assert Lessons(digits, units, stored).statistics().keys() == {"features"}
    assert asked == kept.tolist()
