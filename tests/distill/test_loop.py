from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import TrialFailure
from edgedistill.data.datasets import Dataset
from edgedistill.distill import loop
from edgedistill.distill.batches import ViewBatches
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.loop import Stretch, train
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.specs import Contract
from edgedistill.networks.build import Normalised
from edgedistill.testing.families import SCHEDULE

PLAN = replace(SCHEDULE, total_epochs=3, learning_rate=1e-2, warmup_epochs=1)
RECIPE = recipe_of(TrainConfig(recipe="kd"))
CPU = Hardware(torch.device("cpu"), None, 0)


def ignore(done: int, total: int, note: str) -> None:
    pass


def network(contract: Contract, dropout: float = 0.3) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(1024, 10),
        )
    return Normalised(body, contract.mean, contract.std)


def pupil(module: nn.Module) -> Pupil:
    return Pupil(module, RECIPE, 10)


@pytest.fixture
def batches(digits: Dataset, contract: Contract, stored: SplitStore) -> ViewBatches:
    return ViewBatches(digits, contract, stored, batch_size=64, seed=0)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_pausing_repeats_dropout_and_the_scale_of_the_loss(
    autocast: torch.dtype | None, batches: ViewBatches, contract: Contract, tmp_path: Path
) -> None:
    """The reduced precisions are for GPUs; here they run through the same code on the CPU."""
    hardware = Hardware(torch.device("cpu"), autocast, 0)
    folders = [tmp_path / name for name in ("whole", "first", "second")]
    for folder in folders:
        folder.mkdir()

    def go(folder: Path, epochs: int, previous: Path | None = None) -> dict[str, Tensor]:
        outcome = train(
            pupil(network(contract)),
            batches,
            PLAN,
            hardware,
            Stretch(epochs, folder, previous),
        )
        return outcome.pupil.state_dict()

    whole = go(folders[0], 3)
    go(folders[1], 1)
    paused = go(folders[2], 3, folders[1])
    assert all(torch.equal(whole[name], paused[name]) for name in whole)
    state = torch.load(folders[0] / loop.STATE, weights_only=True)
    assert bool(state["scaler"]) == (autocast is torch.float16)
    assert {t.dtype for t in whole.values() if t.is_floating_point()} == {torch.float32}


def test_the_rate_warms_up_and_falls_to_nothing(
    batches: ViewBatches, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    advance = loop._State.advance

    def recorded(self: loop._State, *arguments: object) -> Tensor:
        loss = advance(self, *arguments)  # type: ignore[arg-type]
        rates.append(self.learning_rate)
        return loss

    monkeypatch.setattr(loop._State, "advance", recorded)
    train(pupil(network(contract)), batches, PLAN, CPU, Stretch(3, tmp_path))
    assert len(rates) == 15
    assert rates[0] == pytest.approx(1e-4)
    assert rates[5] == pytest.approx(1e-2)
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 5e-4


def test_norms_and_biases_do_not_decay(contract: Contract) -> None:
    state = loop._State(pupil(network(contract)), PLAN, CPU, 5)
    decayed = {id(p) for group in state.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in state.pupil.network.named_parameters() if id(p) in decayed}
    assert names == {"network.0.weight", "network.5.weight"}


def test_the_average_covers_batch_statistics(batches: ViewBatches, contract: Contract) -> None:
    state = loop._State(pupil(network(contract)), PLAN, CPU, 5)
    means = []
    state.pupil.train()
    for step in range(4):
        state.advance(batches.batch(step))
        means.append(state.pupil.network.network[1].running_mean.clone())  # type: ignore[index,operator]
    # The first update copies; update n > 1 has the decay 1 - n^(-2/3).
    expected = means[0]
    for n, mean in enumerate(means[1:], start=2):
        expected = torch.lerp(expected, mean, n ** (-2 / 3))
    torch.testing.assert_close(state.ema.module.network.network[1].running_mean, expected)  # type: ignore[index]


def test_an_infinite_gradient_in_the_last_step_fails_the_trial(
    batches: ViewBatches, contract: Contract, tmp_path: Path
) -> None:
    class Cliff(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return grad * float("inf")

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(contract)

        def forward(self, x: Tensor) -> Tensor:
            return Cliff.apply(self.inner(x))  # type: ignore[no-any-return,no-untyped-call]

    one = replace(PLAN, total_epochs=1)
    whole = ViewBatches(batches.dataset, contract, batches.source, batch_size=320, seed=0)
    with pytest.raises(TrialFailure, match="a weight is not finite after step 1"):
        train(pupil(Steep()), whole, one, CPU, Stretch(1, tmp_path))


def test_running_out_of_memory_fails_the_trial(batches: ViewBatches, contract: Contract, tmp_path: Path) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(contract)

        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrialFailure, match="out of memory at batch size 64") as caught:
        train(pupil(Greedy()), batches, PLAN, CPU, Stretch(1, tmp_path))
    assert "batch_size" in caught.value.fix
