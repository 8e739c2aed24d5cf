"""A model of timm as a family of one: its own width and depth, at any resolution that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm import create_model, get_pretrained_cfg
from torch import nn

from edgedistill.base.errors import InputError, Problem, first_line
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.families.family import Family, StudentPlan
from edgedistill.networks.timm_names import unknown_model

WHERE = "[space] models"


@dataclass(frozen=True)
class TimmFamily(Family):
    """Weights come from timm's own initialisation. Where maps halve, and what their channels are, is timm's business: the
    plan is a resolution, and is not checked for maps that collapse."""

    def build(self, spec: StudentSpec, classes: int) -> nn.Module:
        return self.assemble(self.plan(spec), classes, False)

    def skeleton(self, plan: StudentPlan, classes: int) -> nn.Module:
        """On the CPU, deployed: not all of timm's models can be made without weights. Raises InputError where the model
        fails on an image of this size."""
        from edgedistill.networks.deploy import deploy

        with torch.random.fork_rng(devices=()):
            network = deploy(self.assemble(plan, classes, True))
        side = plan.resolution
        try:
            with torch.no_grad():
                logits = network(torch.zeros(1, 3, side, side))
        except Exception as error:
            raise _unusable(self.name, side, error) from error
        if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
            what = f"{self.name} gives no [1, {classes}] logits"
            raise InputError("a model of timm is no student", problems=[Problem(WHERE, what, "name a classifier")])
        return network


def timm_family(name: str) -> Family | Problem:
    """timm's model `name`, with a weights tag or without. A problem with a suggestion where timm has none of that name."""
    if problem := unknown_model(name, WHERE):
        return problem
    return TimmFamily(
        name=f"timm:{name}",
        title=f"timm's {name}",
        widths=(1.0,),
        depths=(1.0,),
        make_plan=_plan,
        assemble=partial(_assemble, name),
    )


def _plan(spec: StudentSpec) -> StudentPlan:
    return StudentPlan(
        spec.resolution, stem_channels=0, stem_stride=1, stages=(), channel_multiple=spec.channel_multiple
    )


def _assemble(name: str, plan: StudentPlan, classes: int, merged: bool) -> nn.Module:
    try:
        return timm_network(name, classes, plan.resolution)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise _unusable(f"timm:{name}", plan.resolution, error) from error


def has_weights(name: str) -> bool:
    """Whether timm has weights for its model `name`."""
    settings = get_pretrained_cfg(name)
    return settings is not None and bool(settings.has_weights)


def timm_network(name: str, classes: int, side: int, *, pretrained: bool = False) -> nn.Module:
    """timm's model with `classes` outputs. Networks of a fixed input (most transformers) are told `side` when built, and
    pretrained positions are resampled to it; a classifier for other classes than the weights' is new. Raises what timm
    raises."""
    settings = get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": side} if settings is not None and settings.fixed_input_size else {}
    network: nn.Module = create_model(name, pretrained=pretrained, num_classes=classes, **sized)
    return network


def _unusable(name: str, side: int, error: Exception) -> InputError:
    what = f"{name} cannot take images of {side} px: {first_line(error)}"
    return InputError(
        "a model of timm is no student",
        problems=[Problem(WHERE, what, "ask for other resolutions in [space], or leave the model out")],
    )
