"""Which recipe the default comes to, by what is known and by a pilot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgedistill.base.progress import Note
from edgedistill.distill.recipes.choice import Known, options_for
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.recipes import RECIPES, TermConfig
from edgedistill.documents.results import PilotRun, RecipeChoice
from edgedistill.documents.specs import VectorContract
from edgedistill.networks.tasks import CLASSIFICATION, Embedding
from edgedistill.pipeline import choice
from edgedistill.pipeline.choice import _warn_of_weak_teacher, best_recipe, told_of
from edgedistill.pipeline.pilot import Right, _run
from edgedistill.pipeline.prepare import _tell_quality


def pair(gained: int, lost: int, both: int = 50) -> dict[str, Right]:
    """Which images `kd` and `labels` answer rightly: `gained` by labels alone, `lost` by kd alone."""
    right = {
        "kd": [False] * gained + [True] * (lost + both),
        "labels": [True] * gained + [False] * lost + [True] * both,
    }
    return {recipe: np.array(answers, bool) for recipe, answers in right.items()}


@pytest.mark.parametrize(
    ("gained", "lost", "best"),
    [(0, 0, "kd"), (4, 0, "kd"), (5, 0, "labels"), (30, 20, "kd"), (36, 20, "labels"), (20, 60, "kd")],
)
@pytest.mark.parametrize("both", [0, 10_000])
def test_labels_alone_are_taken_where_a_pilot_clearly_shows_that_they_do_better(
    gained: int, lost: int, best: str, both: int
) -> None:
    """More than two deviations of a fair coin, whatever both students get right."""
    assert best_recipe(pair(gained, lost, both)) == best


def test_of_recipes_that_ask_the_teacher_the_likeliest_is_taken_or_one_that_is_ahead_of_it() -> None:
    """By more than a deviation of a fair coin: of 12 images that one of both gets right, 8, and not 7."""
    kd = np.array([True] * 10 + [False] * 10)
    ahead = np.array([False] * 2 + [True] * 14 + [False] * 4)
    even = np.array([False] * 5 + [True] * 12 + [False] * 3)
    alone = np.array([True] * 15 + [False] * 5)
    assert best_recipe({"kd": kd, "srd": ahead}) == "srd"
    assert best_recipe({"kd": kd, "srd": even}) == "kd", "7 gained and 5 lost are chance"
    assert best_recipe({"srd": even, "kd": kd}) == "srd"
    assert best_recipe({"kd": kd, "srd": ~kd}) == "kd", "the first of two that are as good"
    assert best_recipe({"kd": kd, "labels": alone}) == "labels"
    assert best_recipe({"kd": kd, "srd": ahead, "labels": alone}) == "srd", "labels are held against the better one"
    assert best_recipe({"labels": alone}) == "labels", "the others failed"


def known(labelled: float, agreement: float | None = 0.9, *, features: bool = False) -> Known:
    return Known(images=1000, labelled=labelled, teacher=0.85, agreement=agreement, features=features)


def test_without_labels_the_teacher_alone_is_followed() -> None:
    (only,) = options_for(known(0.0, None))
    assert only.recipe == "soft" and "no training image has a label" in only.reason


@pytest.mark.parametrize("labelled", [0.05, 0.7, 1.0])
def test_with_labels_a_pilot_decides_whether_the_teacher_helps(labelled: float) -> None:
    options = options_for(known(labelled))
    assert [option.recipe for option in options] == ["kd", "labels"]
    assert all(option.recipe in RECIPES for option in options)
    assert "85.0% of the validation split" in options[0].reason
    assert ("950 images that have no label" in options[0].reason) == (labelled == 0.05)


@pytest.mark.parametrize(("labelled", "names"), [(0.0, ["soft", "srd"]), (0.05, ["kd", "srd", "labels"])])
def test_the_teachers_features_are_tried_where_it_has_such(labelled: float, names: list[str]) -> None:
    assert [option.recipe for option in options_for(known(labelled, features=True))] == names


@pytest.mark.parametrize("agreement", [0.9, 0.995])
def test_beside_labels_features_are_likelier_than_classes(agreement: float) -> None:
    options = options_for(known(1.0, agreement, features=True))
    first = options[0].reason
    assert [option.recipe for option in options] == ["srd", "kd", "labels"]
    assert "features say more" in first and ("repeats the labels" in first) == (agreement > 0.99)
    assert [option.recipe for option in options_for(known(1.0, agreement))] == ["kd", "labels"]


def test_a_teacher_that_repeats_the_labels_is_told() -> None:
    assert "repeats the labels" in options_for(known(1.0, 0.995))[0].reason
    assert "says more of the training images" in options_for(known(1.0, 0.9))[0].reason


@pytest.mark.parametrize(("error", "recipe"), [(None, "kd"), (0.01, "kd"), (0.2, "soft")])
def test_a_tail_that_is_not_kept_is_not_learnt_at_a_temperature(error: float | None, recipe: str) -> None:
    options = options_for(Known(images=1000, labelled=1.0, teacher=0.85, agreement=0.9, error=error))
    assert [option.recipe for option in options] == [recipe, "labels"]
    assert ("an error of 20.0%" in options[0].reason) == (recipe == "soft")


def bench_of(labels: list[int]) -> tuple[Any, list[Note]]:
    heard: list[Note] = []
    found = np.array(labels, np.int64)
    return SimpleNamespace(
        task=CLASSIFICATION, store=SimpleNamespace(listener=heard.append), truth=lambda split: found
    ), heard


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        (8, "a pilot of s, 8 epochs by each, came on the validation split to kd 90.0%, labels 80.0%"),
        (64, "a pilot of s came on the validation split to kd 90.0% after 8 epochs, labels 80.0% after 64 epochs"),
    ],
)
def test_runs_of_different_length_are_told_with_their_epochs(epochs: int, told: str) -> None:
    kd = PilotRun(recipe="kd", student="s", epochs=8, quality_validation=0.9)
    labels = PilotRun(recipe="labels", student="s", epochs=epochs, quality_validation=0.8)
    assert told_of([kd, labels]) == told


@pytest.mark.parametrize("trained_on", [0, 30], ids=["the split alone", "cross-validation"])
@pytest.mark.parametrize(("teacher", "warned"), [(0.9, False), (0.8, False), (0.79, True)])
def test_a_teacher_that_labels_alone_beat_is_called_weak(teacher: float, warned: bool, trained_on: int) -> None:
    bench, heard = bench_of([])
    bench.dataset = SimpleNamespace(splits=SimpleNamespace(validation=np.arange(20)))
    # Of images of the training split, which the teacher was fitted to, nothing is compared.
    right = {"labels": np.array([False] * trained_on + [True] * 16 + [False] * 4)}
    runs = [PilotRun(recipe="labels", student="s", epochs=8, quality_validation=float(right["labels"].mean()))]
    _warn_of_weak_teacher(bench, runs, right, teacher)
    assert [note.warning for note in heard] == [True] * warned
    if warned:
        assert "the teacher is weak: it gets 79.0%" in heard[0].text and "labels alone 80.0%" in heard[0].text


@pytest.mark.parametrize(("quality", "warned"), [(0.9, False), (0.62, False), (0.5, True), (0.03, True)])
def test_the_teachers_quality_is_told_and_a_guess_is_warned_of(quality: float, warned: bool) -> None:
    """Of 200 images half are of one class; 62% of them right may not be chance."""
    bench, heard = bench_of([0] * 100 + [1] * 60 + [2] * 40)
    teacher: Any = SimpleNamespace(name="timm:x")
    _tell_quality(bench, teacher, quality)
    (note,) = heard
    assert note.warning is warned
    assert f"the teacher timm:x gets {quality:.1%} of 200 validation images right" in note.text
    assert ("the most frequent class gets 50.0%" in note.text) is warned


@pytest.mark.parametrize(("images", "warned"), [(9, True), (60, False)])
def test_a_split_of_which_all_are_neighbours_is_warned_of(images: int, warned: bool) -> None:
    bench, heard = bench_of([])
    bench.task = Embedding.of(VectorContract(dimension=3, score="neighbours"))
    bench.truth = lambda split: np.eye(images, 3)
    _tell_quality(bench, cast("Any", SimpleNamespace(name="timm:x")), 1.0)
    (note,) = heard
    assert note.warning is warned
    assert ("vectors drawn at random get 100.0%; give the split more images" in note.text) is warned


@pytest.mark.parametrize(("wanted", "warned"), [(True, True), ("auto", False), (False, False)])
def test_an_assistant_that_was_asked_for_and_cannot_be_tried_is_told(
    monkeypatch: pytest.MonkeyPatch, wanted: bool | str, warned: bool
) -> None:
    """Of a teacher of which there are outputs alone nothing is between its size and a student's."""
    bench, heard = bench_of([])
    bench.config = SimpleNamespace(train=SimpleNamespace(assistant=wanted))
    bench.recipe = SimpleNamespace(taps=("logits",))
    chosen = RecipeChoice(asked="kd", recipe="kd")
    monkeypatch.setattr(choice, "_with_recipe", lambda *arguments: ("stored", chosen))
    teacher: Any = SimpleNamespace(file=None, outputs=np.zeros((1, 2)))
    candidate: Any = SimpleNamespace(multiply_adds=1, spec=SimpleNamespace(label="s"))
    assert choice.settle([bench], teacher, 0.9, [candidate], 1.0) == ("stored", chosen)
    assert [note.warning for note in heard] == [True] * warned


@pytest.mark.parametrize(("terms", "name"), [((), "kd"), ((TermConfig(loss="kl"),), "composed")])
def test_a_run_of_a_pilot_says_by_which_recipe_it_was(terms: tuple[TermConfig, ...], name: str) -> None:
    train = TrainConfig(terms=terms) if terms else TrainConfig(recipe="kd")
    bench: Any = SimpleNamespace(config=SimpleNamespace(train=train))
    spec: Any = SimpleNamespace(label="s")
    assert _run(bench, spec, 8, 0.5).recipe == name


@pytest.mark.parametrize(
    ("taps", "asked"), [(("logits", "features"), True), (("logits", "network.layer3"), False), ((), False)]
)
def test_an_assistant_is_asked_for_what_every_network_has(
    monkeypatch: pytest.MonkeyPatch, taps: tuple[str, ...], asked: bool
) -> None:
    """Else the build would end where the assistant labels, after all of its trainings."""
    tried: list[object] = []
    bench: Any = SimpleNamespace(
        config=SimpleNamespace(train=SimpleNamespace(assistant="auto")), recipe=SimpleNamespace(taps=taps)
    )
    chosen = RecipeChoice(asked="composed", recipe="composed")
    monkeypatch.setattr(choice, "_with_recipe", lambda *arguments: ("stored", chosen))
    monkeypatch.setattr(choice, "multiply_adds_of", lambda teacher: 10)
    monkeypatch.setattr(choice, "assisted", lambda *arguments: (tried.append(1), None))
    candidate: Any = SimpleNamespace(multiply_adds=1, spec=SimpleNamespace(label="s"))
    teacher: Any = None
    choice.settle([bench], teacher, 0.9, [candidate], 1.0)
    assert bool(tried) is asked
