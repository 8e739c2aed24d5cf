"""Each pass takes away what it is for, keeps values, and leaves the module alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.base.errors import TrialFailure, UnsupportedError
from edgedistill.documents.specs import Contract
from edgedistill.networks.program.passes import apply_passes
from edgedistill.networks.program.passes.drop_dropout import drop_dropout
from edgedistill.networks.program.passes.drop_unused import drop_unused
from edgedistill.networks.program.passes.fold_batch_norm import fold_batch_norm
from edgedistill.networks.program.passes.fold_constants import fold_constants
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import to_program

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.dropout(self.conv(x), 0.5, self.training)
        return nn.functional.dropout2d(self.norm(x), 0.3, self.training).mean((2, 3))


def targets(program: torch.export.ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def test_dropout_goes_and_what_it_stood_between_folds() -> None:
    module = Dropping().eval()
    program = torch.export.export(module, (IMAGE,))
    counts = apply_passes(program)
    assert (counts["drop_dropout"], counts["fold_batch_norm"]) == (2, 1)
    assert targets(program) == {"aten.conv2d.default", "aten.mean.dim"}
    torch.testing.assert_close(program.module(check_guards=False)(IMAGE), module(IMAGE))


def test_dropout_and_batch_norm_that_still_train_are_refused() -> None:
    program = torch.export.export(Dropping().train(), (IMAGE,))
    with pytest.raises(UnsupportedError, match="dropout in training mode"):
        drop_dropout(program)
    with pytest.raises(UnsupportedError, match="batch norm in training mode"):
        fold_batch_norm(program)


class Headed(nn.Module):
    """A network with a head that only training reads, and a value computed for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.training_head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(8, 400)
        self.register_buffer("counter", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x).mean((2, 3))
        self.training_head(features)
        return self.head(features)


def test_a_head_that_no_output_depends_on_goes_with_its_weights() -> None:
    module = Headed().eval()
    program = torch.export.export(module, (IMAGE,))
    assert drop_unused(program) == 4  # the linear layer, its weight and bias, the buffer
    assert set(program.state_dict) == {"body.weight", "body.bias", "head.weight", "head.bias"}
    program.graph_module.recompile()
    torch.testing.assert_close(program.module(check_guards=False)(IMAGE), module(IMAGE))
    assert module.training_head.weight.shape == (400, 8)


def test_a_program_without_anything_to_take_away_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    program = torch.export.export(module, (IMAGE,))
    assert not any(apply_passes(program).values())


class Amplifying(nn.Module):
    """A network that amplifies rounding: it subtracts from its features what they nearly are, and enlarges the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3)
        self.register_buffer("nearly", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e4 * (self.norm(self.conv(x)).mean((2, 3)) - self.nearly)


def amplifying(image: torch.Tensor) -> Amplifying:
    torch.manual_seed(0)
    module = Amplifying().eval()
    with torch.no_grad():
        module.nearly.copy_(module(image)[0] / 1e4 + 1e-5)
    return module


def test_a_difference_is_judged_by_the_modules_own_rounding() -> None:
    contract = Contract(resolution=16, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b", "c"))
    image = torch.from_numpy(probe_images(contract)).float()
    module = amplifying(image)
    folded = torch.export.export(module, (image,))
    apply_passes(folded)
    with torch.no_grad():
        difference = (folded.module(check_guards=False)(image) - module(image)).abs().max()
    assert difference > 1e-3  # ten times the plain tolerance, and yet only rounding
    to_program(module, contract)


def test_a_wrong_program_is_refused_however_much_the_module_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Contract(resolution=16, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b", "c"))

    def break_it(program: torch.export.ExportedProgram) -> None:
        program.state_dict["norm.bias"] = nn.Parameter(program.state_dict["norm.bias"] + 1e-2, False)

    monkeypatch.setattr("edgedistill.networks.program.program.apply_passes", break_it)
    with pytest.raises(TrialFailure, match="outputs differ"):
        to_program(amplifying(torch.from_numpy(probe_images(contract)).float()), contract)


class Standardised(nn.Module):
    """A convolution with a standardised weight, and a position embedding resized on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.position = nn.Parameter(torch.randn(1, 8, 4, 4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        weight = self.conv.weight
        spread, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True)
        features = nn.functional.conv2d(image, (weight - mean) * torch.rsqrt(spread + 1e-6))
        position = nn.functional.interpolate(self.position, (6, 6), mode="bicubic", antialias=True)
        return features + position


def test_weights_that_are_computed_become_constants_with_the_same_result() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 8)
    module = Standardised().eval()
    program = torch.export.export(module, (image,), strict=False)
    assert apply_passes(program)["fold_constants"] == 2
    with torch.no_grad():
        torch.testing.assert_close(program.module(check_guards=False)(image), module(image), rtol=0, atol=1e-6)
    assert targets(program) == {"aten.conv2d.default", "aten.add.Tensor"}
    # A layer keeps its name: what it reads is called after the weight that it was made of.
    assert sorted(program.constants) == ["conv.weight_folded", "position_folded"]
    assert not program.state_dict


class Draws(nn.Module):
    """Random numbers and a constant that would grow a thousandfold."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1, 2048))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand_like(self.scale) + (self.scale * 2).repeat(1, 2048, 1).mean(1, keepdim=True)


def test_randomness_and_growth_stay_in_the_graph() -> None:
    program = torch.export.export(Draws().eval(), (torch.randn(1, 1, 2048),), strict=False)
    assert fold_constants(program) == 1
    assert {"aten.rand_like.default", "aten.repeat.default"} <= targets(program)
    assert "aten.mul.Tensor" not in targets(program)
    assert list(program.constants) == ["scale_folded"]


def test_a_program_without_such_work_is_left_as_it_is() -> None:
    program = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (IMAGE,), strict=False)
    before = [node.name for node in program.graph.nodes]
    assert fold_constants(program) == 0
    assert [node.name for node in program.graph.nodes] == before
