"""Losses by name, their settings, and recipes made of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.distill.batches import Batch
from edgedistill.distill.recipes import losses as room
from edgedistill.distill.recipes.aligners import UnitStatistics
from edgedistill.distill.recipes.logits import cross_entropy, kl
from edgedistill.distill.recipes.losses import Loss, Recipe, bound, losses, recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.recipes import RECIPES, TermConfig

STUDENT = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
TEACHER = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).half()
LABELS = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
BATCH = Batch(torch.zeros(4, 3, 8, 8), LABELS, {"logits": TEACHER})


def loss_of(recipe: Recipe, batch: Batch = BATCH) -> Tensor:
    """Of STUDENT's logits."""
    return Pupil(nn.Identity(), recipe, 3).loss({"logits": STUDENT}, batch)


def half_distance(
    student: Tensor, teacher: Tensor, *, scale: Annotated[float, Field(gt=0, le=10)] = 0.5, squared: bool = False
) -> Tensor:
    """Somebody else's loss."""
    distance = (student - teacher).abs()
    return scale * (distance**2 if squared else distance).mean()


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets what installed packages provide."""
    losses.cache_clear()

    def provide(**values: str) -> None:
        points = EntryPoints(EntryPoint(n, v, room.ENTRY_POINTS) for n, v in values.items())
        monkeypatch.setattr(room, "entry_points", lambda group: points)

    yield provide
    losses.cache_clear()


def term(**keys: Any) -> TermConfig:
    return TermConfig.model_validate(keys)


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_is_usable(name: str) -> None:
    recipe = recipe_of(TrainConfig(recipe=name))
    torch.manual_seed(0)  # else all units of the ReLU may be dead, by what tests before this one drew
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 3))
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    statistics = {"features": UnitStatistics.of(features.numpy(), np.array([0, 1, 2, 0]))}
    pupil = Pupil(network, recipe, 3, statistics)
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    said = {"logits": TEACHER, "embedding": TEACHER, "features": features.half()}
    pupil.loss(pupil(images), Batch(images, LABELS, said)).backward()
    for parameter in pupil.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
    assert float(network[1].weight.grad.abs().max()) > 0
    assert bool(recipe.taps) == (not name.startswith("label"))


def test_kd_is_the_sum_of_its_terms() -> None:
    expected = 0.9 * kl(STUDENT, TEACHER.float(), temperature=2.0) + 0.1 * cross_entropy(STUDENT, LABELS)
    torch.testing.assert_close(loss_of(recipe_of(TrainConfig(recipe="kd"))), expected)


def test_terms_make_a_recipe_of_their_own() -> None:
    config = TrainConfig.model_validate(
        {"terms": [{"loss": "kl", "weight": 2, "temperature": 4}, {"loss": "cross_entropy"}]}
    )
    expected = 2 * kl(STUDENT, TEACHER.float(), temperature=4.0) + cross_entropy(STUDENT, LABELS)
    torch.testing.assert_close(loss_of(recipe_of(config)), expected)


def test_all_that_is_wrong_is_told_at_once() -> None:
    terms = [
        term(loss="kll"),
        term(loss="kl", temperatur=2.0),
        term(loss="kl", temperature=-1),
        term(loss="jensen_shannon", temperature=2),
    ]
    with pytest.raises(InputError) as caught:
        bound(terms)
    told = list(map(str, caught.value.problems))
    assert told[0].startswith("[[train.terms]] 1: unknown loss 'kll' (did you mean kl? use cross_entropy, kl, ")
    assert told[1] == "[[train.terms]] 2: kl: unknown key temperatur (did you mean temperature?)"
    assert told[2] == "[[train.terms]] 3: kl: temperature must be above 0, not -1"
    assert told[3] == "[[train.terms]] 4: jensen_shannon: unknown key temperature (known here: none)"


def test_without_the_teachers_outputs_a_term_that_needs_them_is_refused() -> None:
    batch = BATCH._replace(teacher={})
    torch.testing.assert_close(loss_of(recipe_of(TrainConfig(recipe="labels")), batch), cross_entropy(STUDENT, LABELS))
    with pytest.raises(ValueError, match="kl was given a batch without"):
        loss_of(recipe_of(TrainConfig(recipe="kd")), batch)


def test_an_installed_package_adds_an_loss(others: Any) -> None:
    others(half_distance=f"{__name__}:half_distance")
    recipe = bound([term(loss="half_distance", scale=2, squared=True)])
    torch.testing.assert_close(loss_of(recipe), half_distance(STUDENT, TEACHER.float(), scale=2, squared=True))
    with pytest.raises(InputError, match='half_distance: squared must be true or false, not "often"'):
        bound([term(loss="half_distance", squared="often")])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("kl", "torch:nn", "provides the loss kl, which there is"),
        ("absent", "no_such_module:f", "absent of an installed package cannot be used: No module named"),
        ("odd", "builtins:len", r"cannot be used: odd takes \(obj\), not \(student"),
    ],
)
def test_what_an_installed_package_gets_wrong_names_it(others: Any, name: str, value: str, told: str) -> None:
    others(**{name: value})
    with pytest.raises(InputError, match=told):
        losses()


def no_default(student: Tensor, *, scale: float) -> Tensor:
    return scale * student.mean()


def anything(student: Tensor, **settings: float) -> Tensor:
    return student.mean()


@pytest.mark.parametrize("function", [no_default, anything])
def test_settings_are_keywords_with_defaults(function: Any) -> None:
    with pytest.raises(TypeError, match="settings are keywords with a default each"):
        Loss.of("odd", function)
