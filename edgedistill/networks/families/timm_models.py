"""A model of timm as a family: at its own width and depth or cut down, at any resolution that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm import create_model, get_pretrained_cfg
from torch import nn

from edgedistill.base.errors import InputError, Problem, first_line
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.cutting import FAILURES, CannotBeCutError, cut
from edgedistill.networks.families.family import Family, StudentPlan
from edgedistill.networks.timm_names import unknown_model

WHERE = "[space] models"


@dataclass(frozen=True)
class TimmPlan(StudentPlan):
    """Where maps halve, and what their channels are, is timm's business: a plan is a resolution and how much is left of the
    model, and is not checked for maps that collapse."""

    width: float = 1.0
    depth: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether it is the model as timm has it."""
        return self.width == self.depth == 1


@dataclass(frozen=True)
class TimmFamily(Family):
    """Weights come from timm's own initialisation. Widths and depths are at most 1."""

    def build(self, spec: StudentSpec, classes: int) -> nn.Module:
        return self.assemble(self.plan(spec), classes, False)

    def skeleton(self, plan: StudentPlan, classes: int) -> nn.Module:
        """On the CPU, deployed: not all of timm's models can be made without weights. Raises InputError where the model
        fails on an image of this size, CannotBeCutError where it cannot be cut, or not in the same way whatever its weights
        are."""
        return next(self.skeletons((plan,), classes))

    def skeletons(self, plans: Iterable[StudentPlan], classes: int) -> Iterator[nn.Module]:
        """Cut once: that takes longest, and leaves the same at each resolution. Raises what `skeleton` does."""
        settings = get_pretrained_cfg(self.name.partition(":")[2])
        of_one_size = settings is not None and settings.fixed_input_size
        made: nn.Module | None = None
        for plan in plans:
            assert isinstance(plan, TimmPlan)
            if made is None or of_one_size:
                made = self._deployed(plan, classes)
            network = deepcopy(made)
            self._try(network, plan.resolution, classes)
            yield network

    def _deployed(self, plan: TimmPlan, classes: int) -> nn.Module:
        from edgedistill.networks.deploy import deploy

        with torch.random.fork_rng(devices=()):
            network = self.assemble(plan, classes, True)
            if not plan.whole and _shapes(network) != _shapes(self.assemble(plan, classes, True)):
                raise CannotBeCutError("its shapes depend on its weights")
        try:
            return deploy(network)
        except FAILURES as error:
            if plan.whole:
                raise
            raise CannotBeCutError(first_line(error)) from error  # it counts channels that are gone

    def _try(self, network: nn.Module, side: int, classes: int) -> None:
        try:
            with torch.no_grad():
                logits = network(torch.zeros(1, 3, side, side))
        except Exception as error:
            raise _unusable(self.name, side, error) from error
        if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
            what = f"{self.name} gives no [1, {classes}] logits"
            raise InputError("a model of timm is no student", problems=[Problem(WHERE, what, "name a classifier")])


def timm_family(name: str) -> Family | Problem:
    """timm's model `name`, with a weights tag or without. A problem with a suggestion where timm has none of that name."""
    if problem := unknown_model(name, WHERE):
        return problem
    return TimmFamily(
        name=f"timm:{name}",
        title=f"timm's {name}",
        widths=(0.5, 0.75, 1.0),
        depths=(0.5, 1.0),
        make_plan=_plan,
        assemble=partial(_assemble, name),
    )


def _plan(spec: StudentSpec) -> StudentPlan:
    if spec.width > 1 or spec.depth > 1:
        what = f"{spec.family} is cut down, not made larger"
        raise InputError(
            "a model of timm is no student", problems=[Problem(spec.label, what, "ask for widths and depths up to 1")]
        )
    return TimmPlan(
        spec.resolution,
        stem_channels=0,
        stem_stride=1,
        stages=(),
        channel_multiple=spec.channel_multiple,
        width=spec.width,
        depth=spec.depth,
    )


def _assemble(name: str, plan: StudentPlan, classes: int, merged: bool) -> nn.Module:
    assert isinstance(plan, TimmPlan)
    try:
        return cut_to(timm_network(name, classes, plan.resolution), plan)
    except CannotBeCutError:
        raise
    except FAILURES as error:
        raise _unusable(f"timm:{name}", plan.resolution, error) from error


def cut_to(network: nn.Module, spec: StudentSpec | TimmPlan) -> nn.Module:
    """`network`, timm's model as a whole, cut to what `spec` says. Raises CannotBeCutError."""
    if spec.width == spec.depth == 1:
        return network
    return cut(network, spec.width, spec.depth, spec.resolution, spec.channel_multiple)


def _shapes(network: nn.Module) -> list[torch.Size]:
    return [tensor.shape for tensor in network.state_dict().values()]


def timm_network(name: str, classes: int, side: int) -> nn.Module:
    """timm's model with `classes` outputs and random weights. Networks of a fixed input (most transformers) are told `side`
    when built. Raises what timm raises."""
    settings = get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": side} if settings is not None and settings.fixed_input_size else {}
    network: nn.Module = create_model(name, num_classes=classes, **sized)
    return network


def _unusable(name: str, side: int, error: Exception) -> InputError:
    what = f"{name} cannot take images of {side} px: {first_line(error)}"
    return InputError(
        "a model of timm is no student",
        problems=[Problem(WHERE, what, "ask for other resolutions in [space], or leave the model out")],
    )
