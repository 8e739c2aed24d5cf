"""A network in training: taps, aligners and a head of its own, and that none of them stays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models import SwinTransformer
from timm.optim import param_groups_weight_decay
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.distill.batches import Batch
from edgedistill.distill.recipes.aligners import Link, Orthonormal, UnitStatistics
from edgedistill.distill.recipes.losses import Recipe, bound
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.recipes.taps import as_rows, classifier_path, require_tap, tap_width, tapped
from edgedistill.documents.recipes import RECIPES, TermConfig

CLASSES, STUDENT, TEACHER = 3, 6, 10
LABELS = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])]


def network(width: int = STUDENT) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, CLASSES),
    )


def images(count: int = 8) -> Tensor:
    return 255 * torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def rows(width: int = TEACHER, count: int = 8, seed: int = 2) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def statistics(given: Tensor) -> UnitStatistics:
    return UnitStatistics.of(given.numpy(), LABELS[: len(given)].argmax(1).numpy())


def term(**keys: Any) -> TermConfig:
    return TermConfig.model_validate({"loss": "smooth_l1", "tap": "features", **keys})


def recipe(*terms: TermConfig) -> Recipe:
    return bound([TermConfig(loss="cross_entropy"), *terms])


def pupil(*terms: TermConfig) -> Pupil:
    torch.manual_seed(3)
    return Pupil(network(), recipe(*terms), CLASSES, {"features": statistics(rows())})


def batch() -> Batch:
    return Batch(images(), LABELS, {"logits": rows(CLASSES).half(), "features": rows().half()})


def steps(trained: Pupil, count: int) -> None:
    groups = param_groups_weight_decay(trained, 0.1)
    optimizer = torch.optim.AdamW(groups, lr=0.05)
    for _ in range(count):
        optimizer.zero_grad()
        trained.loss(trained(images()), batch()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


# -- taps --------------------------------------------------------------------------------------------------------------


def test_features_are_what_goes_into_the_classifier() -> None:
    net = network().eval()
    with tapped(net, "features", CLASSES) as kept:
        logits = net(images())
    torch.testing.assert_close(kept[0], net[:5](images()))
    torch.testing.assert_close(net[5](kept[0]), logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_module_is_tapped_by_its_path() -> None:
    net = network().eval()
    with tapped(net, "2", CLASSES) as kept:
        net(images())
    torch.testing.assert_close(as_rows(kept[0]), net[:3](images()).mean((2, 3)))
    assert tap_width(net, "2", CLASSES, 8) == STUDENT and tap_width(net, "logits", CLASSES, 8) == CLASSES


@pytest.mark.parametrize("tap", ["layers.0", "layers.1.blocks.0", "patch_embed.proj", "norm"])
def test_the_channels_of_a_swin_network_are_the_last_axis(tap: str) -> None:
    net = SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(3, 6), num_classes=CLASSES
    ).eval()
    given = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    handle = net.get_submodule(tap).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with tapped(net, tap, CLASSES) as kept:
        net(given)
    handle.remove()
    width = 48 if tap in ("layers.1.blocks.0", "norm") else 24
    over_space = (2, 3) if tap == "patch_embed.proj" else (1, 2)
    torch.testing.assert_close(as_rows(kept[0]), seen[0].mean(over_space))
    assert as_rows(kept[0]).shape == (4, width) and tap_width(net, tap, CLASSES, 32) == width
    with pytest.raises(InputError, match="rows for an image"):
        tap_width(net, "layers.0.blocks.0.attn", CLASSES, 32)


def test_the_last_layer_of_that_many_outputs_is_the_classifier() -> None:
    """A squeeze of as many channels as there are classes comes earlier."""
    net = nn.Sequential(nn.Conv2d(3, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(CLASSES, CLASSES, 1), nn.Flatten())
    assert classifier_path(net, CLASSES) == "2"


def test_a_tap_that_is_not_there_is_told_with_those_that_may_be_meant() -> None:
    whole = nn.ModuleDict({"network": nn.ModuleDict({"blocks": network(), "head": nn.Linear(4, CLASSES)})})
    meant = {"blocks.1": "network.blocks.1", "network.heads": "network.head", "heads": "network.head"}
    for wrong, near in meant.items():
        with pytest.raises(InputError, match=f"no module '{wrong}'") as caught:
            require_tap(whole, wrong, CLASSES)
        assert caught.value.fix.startswith(f"name one like {near}")
    with pytest.raises(InputError, match="no layer of 7 outputs"):
        require_tap(network(), "features", 7)
    with pytest.raises(InputError, match="shape \\[2\\]"):
        as_rows(torch.zeros(2))


# -- aligners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aligner", ["linear", "orthogonal", "select"])
@pytest.mark.parametrize("width", [2, 6, TEACHER, 16])
def test_both_sides_of_a_term_have_one_width(aligner: str, width: int) -> None:
    link = Link(term(aligner=aligner, normaliser="standardise"), width, statistics(rows()))
    student, teacher = link.student(rows(width)), link.teacher(rows())
    assert student.shape == teacher.shape
    assert sum(p.numel() for p in link.parameters()) == (0 if aligner == "select" else width * TEACHER)


def test_an_orthogonal_aligner_stays_orthogonal_after_every_step() -> None:
    """RECIPES: P'P = I."""
    trained = pupil(term(aligner="orthogonal", normaliser="layer_norm"))
    link = trained.links["1"]
    assert isinstance(link, Link)
    before = link.projection.weight.clone()
    for _ in range(5):
        steps(trained, 1)
        p = link.projection.weight
        torch.testing.assert_close(p.T @ p, torch.eye(STUDENT), atol=1e-5, rtol=0)
    assert float((link.projection.weight - before).abs().max()) > 1e-2


@given(st.integers(0, 2**32 - 1))
def test_rotated_features_keep_their_distances(seed: int) -> None:
    torch.manual_seed(seed)
    link = Link(term(aligner="orthogonal"), STUDENT, statistics(rows()))
    given_rows = rows(STUDENT, seed=seed)
    torch.testing.assert_close(
        torch.cdist(link.student(given_rows), link.student(given_rows)),
        torch.cdist(given_rows, given_rows),
        atol=1e-3,
        rtol=1e-3,
    )


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_an_orthonormal_map_depends_on_directions_alone(height: int, width: int, seed: int) -> None:
    """P'P = I, or PP' = I of a wide one; a decayed matrix gives the same map, and a step of nothing changes nothing."""
    matrix = torch.randn(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = Orthonormal()(matrix)
    gram = found.T @ found if height >= width else found @ found.T
    torch.testing.assert_close(gram, torch.eye(min(height, width), dtype=torch.float64))
    torch.testing.assert_close(Orthonormal()(0.01 * matrix), found)
    torch.testing.assert_close(Orthonormal()(found), found)


def test_those_units_are_selected_that_tell_classes_apart() -> None:
    classes = np.arange(60) % 3
    noise = np.random.default_rng(0).normal(size=(60, TEACHER)).astype(np.float32)
    noise[:, 7] += 5 * classes
    noise[:, 2] -= 5 * (classes == 1)
    noise[:, 4] = 1.0  # a dead unit
    found = UnitStatistics.of(noise, classes)
    assert found.relevance[4] == 0
    link = Link(term(aligner="select"), 2, found)
    assert link.units.tolist() == [2, 7]
    torch.testing.assert_close(link.teacher(torch.from_numpy(noise)), torch.from_numpy(noise[:, [2, 7]]))


def test_normalisers() -> None:
    given_rows = 3 * rows() + 1
    layer = Link(term(aligner="linear", normaliser="layer_norm"), STUDENT, statistics(given_rows)).teacher(given_rows)
    torch.testing.assert_close(layer.mean(1), torch.zeros(8), atol=1e-5, rtol=0)
    unit = Link(term(aligner="linear", normaliser="standardise"), STUDENT, statistics(given_rows)).teacher(given_rows)
    torch.testing.assert_close(unit.mean(0), torch.zeros(TEACHER), atol=1e-5, rtol=0)
    torch.testing.assert_close(unit.std(0, correction=0), torch.ones(TEACHER))


@given(st.floats(0.5, 50), st.floats(-50, 50))
def test_batch_norm_sees_no_scale_and_no_shift_of_either_side(scale: float, shift: float) -> None:
    link = Link(term(aligner="select", normaliser="batch_norm"), TEACHER, statistics(rows()))
    for side in (link.student, link.teacher):
        found = side(rows())
        torch.testing.assert_close(found.mean(0), torch.zeros(TEACHER), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.std(0, correction=0), torch.ones(TEACHER), atol=5e-3, rtol=0)
        torch.testing.assert_close(side(scale * rows() + shift), found, atol=2e-2, rtol=0)


def test_a_unit_that_never_changes_is_not_blown_up() -> None:
    given_rows = rows()
    given_rows[:, 0] = 0.5
    link = Link(term(aligner="linear", normaliser="standardise"), STUDENT, statistics(given_rows))
    other = given_rows.clone()
    other[:, 0] += 1e-4
    assert float(link.teacher(other)[:, 0].abs().max()) < 1


# -- what is exported --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vkd", "units", "srd", "dho"])
def test_nothing_of_training_stays_in_the_network(name: str) -> None:
    """The network is the one that was built, by its names and shapes, whatever its recipe needed beside it."""
    trained = Pupil(network(), bound(RECIPES[name].terms), CLASSES, {"features": statistics(rows())})
    extra = sum(p.numel() for p in trained.parameters()) - sum(p.numel() for p in network().parameters())
    assert (extra > 0) == (name != "units")
    steps(trained, 2)
    finished = trained.folded(0.5)
    assert {n: t.shape for n, t in finished.state_dict().items()} == {
        n: t.shape for n, t in network().state_dict().items()
    }
    assert type(finished) is nn.Sequential and not any(isinstance(m, Link) for m in finished.modules())


def test_an_average_of_it_and_its_state_go_on() -> None:
    trained = pupil(term(aligner="orthogonal"), TermConfig(loss="cross_entropy", head="own"))
    average = ModelEmaV3(trained, decay=0.5)
    steps(trained, 2)
    average.update(trained)
    other = pupil(term(aligner="orthogonal"), TermConfig(loss="cross_entropy", head="own"))
    other.load_state_dict(trained.state_dict())
    for one, two in zip(trained(images()).values(), other(images()).values(), strict=True):
        torch.testing.assert_close(one, two)
    outputs = average.module.eval()(images())
    assert set(outputs) == {"logits", "features", "own_logits"}


# -- two heads ---------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_two_heads_fold_into_one_that_gives_their_blend(share: float) -> None:
    trained = pupil(TermConfig(loss="cross_entropy", head="own")).eval()
    assert trained.own_head is not None
    torch.nn.init.normal_(trained.own_head.weight)
    outputs = trained(images())
    expected = (1 - share) * outputs["logits"] + share * outputs["own_logits"]
    torch.testing.assert_close(copy.deepcopy(trained).folded(share)(images()), expected, atol=1e-4, rtol=1e-4)


def test_each_head_learns_its_own_terms() -> None:
    trained = Pupil(network(), bound(RECIPES["dho"].terms), CLASSES).eval()
    (kl, labels) = trained.recipe.terms
    for only, mine, other in (
        (kl, trained.network[5], trained.own_head),
        (labels, trained.own_head, trained.network[5]),
    ):
        trained.zero_grad()
        outputs = trained(images())
        student = outputs["own_logits" if only.config.head == "own" else "logits"]
        only.of(student, LABELS, rows(CLASSES)).backward()
        assert mine.weight.grad is not None and float(mine.weight.grad.abs().max()) > 0
        assert other.weight.grad is None


# -- what cannot be composed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([term(loss="cross_entropy", aligner="linear")], "cross_entropy is a loss of logits"),
        ([term(aligner="linear", head="own")], "a head gives logits"),
        ([term()], "another width than the teacher's features (add an aligner"),
        ([TermConfig(loss="kl", aligner="linear")], "aligner and normaliser are for features"),
    ],
)
def test_terms_that_make_no_sense_are_told_at_once(terms: list[TermConfig], told: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe(*terms)
    assert told in str(caught.value.problems[0])


def test_some_term_has_to_train_the_classifier() -> None:
    for terms in ([term(aligner="linear")], [TermConfig(loss="kl", head="own")]):
        with pytest.raises(InputError, match="no term trains the classifier"):
            bound(terms)


def test_a_loss_cannot_take_the_name_of_a_terms_key() -> None:
    from edgedistill.distill.recipes.losses import Loss

    def mine(student: Tensor, teacher: Tensor, *, weight: float = 1.0) -> Tensor:
        return student.mean()

    with pytest.raises(TypeError, match="cannot be called weight"):
        Loss.of("mine", mine)


def test_under_rounding_the_terms_of_logits_stay() -> None:
    assert [t.loss.name for t in bound(RECIPES["vkd"].terms).of_outputs.terms] == ["kl", "cross_entropy"]
    assert all(t.config.head == "shared" for t in bound(RECIPES["dho"].terms).of_outputs.terms)
    assert bound(RECIPES["vkd"].terms).taps == ("logits", "features")
