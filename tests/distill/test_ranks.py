"""Two processes that train one network, and what one process learns of the same batches."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recorded_ranks import killed, with_losses, with_nothing
from torch import Tensor, nn

from edgedistill.base.errors import InputError, TrialFailure, UnsupportedError
from edgedistill.base.progress import Event, StageAdvanced, silent
from edgedistill.data.datasets import Dataset
from edgedistill.distill import launch, loop
from edgedistill.distill.batches import Batch, ViewBatches
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.launch import on_ranks
from edgedistill.distill.loop import Stretch, train
from edgedistill.distill.ranks import ALONE, Rank
from edgedistill.distill.recipes.aligners import UnitStatistics
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.recipes import RECIPES
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import Normalised, build_student
from edgedistill.testing.families import SCHEDULE

needs_accelerate = pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed")

PLAN = replace(SCHEDULE, total_epochs=2, learning_rate=1e-2, warmup_epochs=0.5)
CPU = Hardware(torch.device("cpu"), None, 0)
TWO = replace(CPU, processes=2)


def pupil(recipe: str, contract: Contract) -> Pupil:
    """Of a network without weights that change nothing, as those before a batch norm may be: of the rounding that is all of
    their gradient AdamW makes whole steps."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        layers += [nn.Conv2d(16, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 10))
        network = Normalised(body, contract.mean, contract.std)
        return Pupil(network, recipe_of(TrainConfig(recipe=recipe)), 10)


@pytest.fixture
def batches(digits: Dataset, contract: Contract, stored: SplitStore) -> ViewBatches:
    """Of 45 and 46 images: two processes have parts of other sizes."""
    return ViewBatches(digits, contract, stored, batch_size=46, seed=0)


def losses_of_one(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    losses: list[float] = []
    real = loop._State.advance

    def advance(self: loop._State, batch: Batch) -> Tensor:
        loss = real(self, batch)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(loop._State, "advance", advance)
    return losses


@needs_accelerate
@pytest.mark.parametrize("recipe", ["kd", "dist"])
def test_two_processes_have_the_loss_curve_and_the_weights_of_one(
    recipe: str,
    contract: Contract,
    batches: ViewBatches,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    expected = losses_of_one(monkeypatch)
    outcome = train(pupil(recipe, contract), batches, PLAN, CPU, Stretch(1, one))
    parts = pupil(recipe, contract).taken_apart()
    on_ranks(2, CPU.device, with_losses, (tmp_path / "losses", parts, batches, PLAN, TWO, Stretch(1, two)), silent)
    losses = json.loads((tmp_path / "losses").read_text())
    assert len(losses) == batches.steps_per_epoch == 7
    assert losses == pytest.approx(expected, rel=1e-4)
    weights, found = outcome.pupil.state_dict(), torch.load(two / loop.STATE, weights_only=True)["ema"]
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4)
    assert any("running_var" in name for name in weights)
    hashes = [(tmp_path / f"losses.{number}").read_text() for number in range(2)]
    assert hashes[0] == hashes[1], "the processes have different weights"


@needs_accelerate
def test_a_process_that_is_killed_fails_the_trial_which_goes_on_from_there(
    contract: Contract, batches: ViewBatches, tmp_path: Path
) -> None:
    plan = replace(PLAN, checkpoint_seconds=1e-9)
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    whole.mkdir(), lost.mkdir()

    def go(folder: Path) -> Pupil:
        return train(pupil("kd", contract), batches, plan, TWO, Stretch(1, folder)).pupil

    expected = go(whole).state_dict()
    parts, began = pupil("kd", contract).taken_apart(), time.monotonic()
    with pytest.raises(TrialFailure, match=r"of 2 processes that train together, one was lost: .*SIGKILL"):
        on_ranks(2, CPU.device, killed, (1, 4, parts, batches, plan, TWO, Stretch(1, lost)), silent)
    assert time.monotonic() - began < 60, "the other process waited for it"
    assert torch.load(lost / loop.STATE, weights_only=True)["step"] == 4
    heard: list[Event] = []
    stretch = Stretch(1, lost, listener=heard.append)
    found = train(pupil("kd", contract), batches, plan, TWO, stretch)
    assert all(torch.equal(tensor, found.pupil.state_dict()[name]) for name, tensor in expected.items())
    assert not found.pupil.training and found.seconds > 0
    last = heard[-1]
    assert isinstance(last, StageAdvanced) and (last.stage, last.done, last.total) == ("train", 7, 7)


@needs_accelerate
@pytest.mark.skipif(torch.distributed.is_nccl_available(), reason="this torch can speak over NCCL")
def test_processes_that_cannot_speak_to_one_another_are_told_of() -> None:
    """Also where those of a call before met on the CPU."""
    on_ranks(2, CPU.device, with_nothing, (), silent)
    with pytest.raises(
        UnsupportedError, match=r"processes = 2: they cannot speak to one another over nccl: .*NCCL"
    ) as caught:
        on_ranks(2, torch.device("cuda"), killed, (0, 0), silent)
    assert caught.value.fix.startswith("set processes = 1")


@needs_accelerate
def test_what_keeps_processes_from_meeting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(backend: str, **options: Any) -> None:
        raise RuntimeError("no route to host\nand a stack of native frames")

    monkeypatch.setattr(launch, "os", SimpleNamespace(environ={}))
    monkeypatch.setattr(torch.distributed, "init_process_group", fails)
    with pytest.raises(UnsupportedError) as caught:
        launch._joined.__wrapped__(launch._Seat(0, 2, Path("/meeting"), "cpu"))
    assert caught.value.message.endswith("they cannot speak to one another over gloo: no route to host")
    assert caught.value.fix == "set processes = 1", "NCCL has no part in it"


@needs_accelerate
@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_a_process_joins_the_others_by_its_device(device: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPUs whose driver keeps them from reading one another's memory, such transports are turned off: accelerate would
    refuse them."""
    environ = {"ACCELERATE_USE_FSDP": "true", "RANK": "7"}
    began: list[tuple[Any, ...]] = []

    class Accelerator:
        device = torch.device("cpu")

        def __init__(self, **options: Any) -> None:
            began.append((options["cpu"], dict(environ)))

        def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
            return 2 * tensor

    monkeypatch.setattr(launch, "os", SimpleNamespace(environ=environ))
    monkeypatch.setattr("accelerate.Accelerator", Accelerator)
    monkeypatch.setattr("accelerate.utils.check_cuda_p2p_ib_support", lambda: False)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **options: began.append((backend, options))
    )
    rank = launch._joined.__wrapped__(launch._Seat(1, 2, Path("/meeting"), device))
    (found, options), (cpu, seen) = began
    assert (found, cpu) == (backend, device == "cpu")
    assert options == {"init_method": "file:///meeting", "rank": 1, "world_size": 2}
    assert (seen["RANK"], seen["LOCAL_RANK"], seen["WORLD_SIZE"]) == (
        "1",
        "1",
        "2",
    ) and "ACCELERATE_USE_FSDP" not in seen
    assert ("NCCL_P2P_DISABLE" in seen, "NCCL_IB_DISABLE" in seen) == (device == "cuda",) * 2
    assert (rank.number, rank.count) == (1, 2) and rank.reduce(torch.ones(1)).tolist() == [2.0]


def test_a_batch_has_an_image_for_each_process(contract: Contract, batches: ViewBatches, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a batch of 45 images has none for some of 46 processes"):
        hardware = replace(CPU, processes=46)
        train(pupil("kd", contract), batches, PLAN, hardware, Stretch(1, tmp_path))


def test_a_network_that_cannot_be_sent_is_refused(contract: Contract, batches: ViewBatches, tmp_path: Path) -> None:
    class Local(nn.Linear):
        pass

    made = pupil("kd", contract)
    made.network = Local(1, 1)
    with pytest.raises(UnsupportedError, match=r"cannot be handed .*Local") as caught:
        train(made, batches, PLAN, TWO, Stretch(1, tmp_path))
    assert caught.value.fix == "set [train] processes = 1"


def test_the_parts_of_a_batch_are_the_batch(batches: ViewBatches) -> None:
    whole = batches.batch(0)
    parts = [batches.of(Rank(number, 3)).batch(0) for number in range(3)]
    assert [len(part.images) for part in parts] == [15, 15, 15]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert all(torch.equal(part.labels, whole.labels) for part in parts)


def test_no_two_processes_drop_the_same_units_of_their_images() -> None:
    """As many as `[train] processes` may be, in the first steps of a run with the seed 0 and in the last ones."""
    for step in (0, 1, 2, 10**7):
        drawn = []
        for number in range(64):
            torch.manual_seed(step + Rank(number, 64).seed_offset)
            drawn.append(tuple(torch.rand(4).tolist()))
        assert len(set(drawn)) == 64, step


class Meeting:
    """Threads in the place of processes: what `reduce` gives is their sum."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=60)
        self.given: dict[int, Tensor] = {}

    def rank(self, number: int) -> Rank:
        def reduce(tensor: Tensor) -> Tensor:
            self.given[number] = tensor
            self.barrier.wait()
            total = sum((self.given[other].clone() for other in sorted(self.given)), torch.zeros(()))
            self.barrier.wait()
            return total.to(tensor.dtype)

        return Rank(number, self.barrier.parties, reduce)


def smooth(network: nn.Module) -> nn.Module:
    """With SiLU in place of each ReLU: the gradient of a ReLU whose input is next to zero hangs on the last bit."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.SiLU())
    return network


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_any_recipe_has_the_gradients_of_the_whole_batch(recipe: str, spec: StudentSpec, contract: Contract) -> None:
    """Three parts, of 3, 3 and 4 images. Losses that compare images with each other, normalisers over a batch, aligners,
    and a head of its own are in these recipes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = nn.functional.one_hot(torch.arange(10) % 4, 10).float()
    widths = {"logits": 10, "features": 24, "embedding": 10}
    teacher = {name: torch.randn(10, width, generator=generator) for name, width in widths.items()}
    statistics = UnitStatistics.of(teacher["features"].numpy(), np.arange(10) % 4)

    def state(rank: Rank) -> loop._State:
        torch.manual_seed(0)
        terms = recipe_of(TrainConfig(recipe=recipe))
        made = Pupil(smooth(build_student(spec, contract)), terms, 10, {"features": statistics})
        return loop._State(made, PLAN, CPU, 7, rank)

    def step(state: loop._State) -> Tensor:
        own = images[state.rank.part(10)]
        return state.advance(Batch(own, labels, {tap: rows.half() for tap, rows in teacher.items()}))

    one, meeting = state(ALONE), Meeting(3)
    states = [state(meeting.rank(number)) for number in range(3)]
    expected = step(one)
    with ThreadPoolExecutor(3) as threads:
        losses = list(threads.map(step, states))
    torch.testing.assert_close(losses, [expected] * 3)
    for number, parameter in enumerate(one.parameters):
        assert parameter.grad is not None
        for other in states:
            found = other.parameters[number].grad
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-5)
    buffers = dict(one.pupil.named_buffers())
    for other in states:
        for name, buffer in other.pupil.named_buffers():
            torch.testing.assert_close(buffer, buffers[name])


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 4)])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_batch_norms_take_the_statistics_of_the_whole_batch(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """Also far from 0, where a sum of squares would lose the variance."""
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 300
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    norms = [kinds[len(shape)](3, **options) for _ in range(3)]
    whole = rows.clone().requires_grad_()
    expected = norms[0](whole)
    (expected * weights).sum().backward()
    meeting = Meeting(2)

    def part(number: int) -> tuple[Tensor, Tensor]:
        rank = meeting.rank(number)
        own = slice(0, 2) if number == 0 else slice(2, 6)
        given = rows[own].clone().requires_grad_()
        with rank.batch_norms():
            found = norms[1 + number](given)
        (found * weights[own]).sum().backward()
        assert given.grad is not None
        return found, given.grad

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(part, range(2)))
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([one for one, _ in found]), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cat([one for _, one in found]), whole.grad, rtol=1e-3, atol=1e-3)
    for name, buffer in norms[0].named_buffers():
        for norm in norms[1:]:
            torch.testing.assert_close(dict(norm.named_buffers())[name], buffer)


def test_outside_of_training_batch_norms_are_as_they_are() -> None:
    norm, rows = nn.BatchNorm1d(3).eval(), torch.randn(4, 3)
    with Meeting(2).rank(0).batch_norms():
        assert torch.equal(norm(rows), nn.BatchNorm1d(3).eval()(rows))
