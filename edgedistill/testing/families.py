"""What every family of students keeps, as tests.

    from edgedistill.testing import FamilyConformance

    class TestMine(FamilyConformance):
        def family(self):
            return my_package.FAMILY

pytest then tells, by name, where a family's plans and its networks disagree with each other or with what the rest of
edgedistill takes for granted.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import Dataset
from edgedistill.data.sources import GreyImages
from edgedistill.data.splits import Splits
from edgedistill.distill.batches import DrawnViews, ViewBatches
from edgedistill.distill.hardware import Hardware
from edgedistill.distill.loop import Schedule, Stretch, train
from edgedistill.distill.recipes.losses import bound
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.recipes import labels_alone
from edgedistill.documents.specs import Contract, Format, StudentSpec
from edgedistill.formats import format_for
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.networks.build import Normalised
from edgedistill.networks.counting import structure_of
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.family import LARGEST_RATE, Family, StudentPlan
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import reference_logits, to_program
from edgedistill.networks.shapes import Shapes
from edgedistill.networks.structure import Structure
from edgedistill.networks.tracing import record
from edgedistill.testing.formats import CONTRACT, FormatConformance

LABELS = CONTRACT.labels
SIDES = (8, 11, 28, 64, 96, 224)
MULTIPLES = (8, 16, 32)
AXES = ("kernel", "expansion")
# A convolution's code depends on the size of its map: a crash at 96 px was none at 64.
BATCHES = {64: 32, 96: 32, 128: 32, 224: 8}
SCHEDULE = Schedule(
    total_epochs=1,
    learning_rate=1e-3,
    weight_decay=0.02,
    warmup_epochs=0.0,
    ema_decay=0.99,
    seed=0,
    checkpoint_seconds=60.0,
)


class FamilyConformance:
    """Subclass it, give `family`, and change `tolerance` or `resolutions` where yours need it."""

    tolerance = 1e-4
    """The largest difference of a logit between the trained network and the deployed one, of the largest logit."""
    resolutions = (8, 28, 64)
    """Sides in pixels at which networks with weights are built and run. Plans and shapes are looked at for more."""

    def family(self) -> Family:
        """The family under test."""
        raise NotImplementedError("give family()")

    # -- what the tests share -----------------------------------------------------------------------------------------

    def spec(self, **choices: Any) -> StudentSpec:
        """The smallest student of the family at 28 px, with other choices where they are given."""
        family = self.family()
        plain: dict[str, Any] = {"width": family.widths[0], "depth": family.depths[0], "resolution": 28}
        return StudentSpec(family=family.name, **(plain | choices))

    def student(self, spec: StudentSpec) -> Normalised:
        """A student with the same weights on every call, its batch norms as training leaves them: none at zero or one."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            network = self.family().build(spec, len(LABELS))
        module = Normalised(network, CONTRACT.mean, CONTRACT.std)
        generator = torch.Generator().manual_seed(1)
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            count = norm.num_features
            norm.running_mean = torch.randn(count, generator=generator) * 0.3
            norm.running_var = torch.rand(count, generator=generator) + 0.5
            norm.weight.data = torch.rand(count, generator=generator) + 0.5
            norm.bias.data = torch.randn(count, generator=generator) * 0.2
        return module

    def skeleton(self, plan: StudentPlan) -> Normalised:
        """The deployed network of `plan` without weights."""
        network = self.family().skeleton(plan, len(LABELS))
        with torch.device("meta"):
            return Normalised(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()

    def figures(self, **choices: Any) -> Structure:
        """The static figures of a student."""
        spec = self.spec(**choices)
        return structure_of(self.skeleton(self.family().plan(spec)), spec.resolution)

    # -- plans --------------------------------------------------------------------------------------------------------

    def test_its_ranges_rise_and_are_not_empty(self) -> None:
        family = self.family()
        assert family.name and family.title
        for name in ("widths", "depths", "resolutions"):
            assert getattr(family, name), f"{name} is empty"
        for name in ("widths", "depths", "resolutions", *(f"{axis}s" for axis in AXES)):
            values = getattr(family, name)
            assert list(values) == sorted(set(values)) and all(value > 0 for value in values), name

    def test_plans_are_whole_and_no_map_collapses(self) -> None:
        family = self.family()
        for side, width, depth, multiple in product(SIDES, family.widths, family.depths, MULTIPLES):
            spec = self.spec(resolution=side, width=width, depth=depth, channel_multiple=multiple)
            plan = family.plan(spec)
            assert plan == family.plan(spec) and hash(plan) == hash(family.plan(spec)), "a plan is a pure function"
            assert (plan.resolution, plan.channel_multiple) == (side, multiple)
            channels = [plan.stem_channels, *plan.head_channels, *(stage.channels for stage in plan.stages)]
            assert all(count > 0 and count % multiple == 0 for count in channels), f"{spec.label}: {channels}"
            assert all(stage.blocks >= 1 and stage.stride in (1, 2) for stage in plan.stages), spec.label
            assert plan.stem_stride in (1, 2) and min(plan.sides) >= 3, f"{spec.label}: maps of {plan.sides}"

    @pytest.mark.parametrize("range_", ["widths", "depths", "resolutions", "kernels", "expansions"])
    def test_every_value_of_a_range_is_a_network_of_its_own(self, range_: str) -> None:
        family = self.family()
        values = getattr(family, range_)
        plain = {"width": family.widths[-1], "depth": family.depths[-1]}
        plans = [family.plan(self.spec(**(plain | {range_.removesuffix("s"): value}))) for value in values]
        twice = [value for value, plan in zip(values, plans, strict=True) if plans.count(plan) > 1]
        assert not twice, f"of {range_}, {twice} are one network"

    def test_a_choice_that_rounds_to_the_same_network_has_the_same_plan(self) -> None:
        spec = self.spec()
        near = self.spec(width=spec.width * (1 + 1e-9), depth=spec.depth * (1 + 1e-9))
        assert self.family().plan(near) == self.family().plan(spec)

    def test_its_learning_rates_fall_with_the_width(self) -> None:
        family = self.family()
        rates = [family.rate(self.spec(width=width)) for width in family.widths]
        assert rates == sorted(rates, reverse=True), "a wider network needs a lower rate"
        assert rates[-1] > 0 and rates[0] <= LARGEST_RATE, f"rates of {rates[-1]:g} to {rates[0]:g}"

    @pytest.mark.parametrize("axis", AXES)
    def test_an_axis_is_there_or_refused(self, axis: str) -> None:
        family = self.family()
        if not (values := family.choices(axis)):
            with pytest.raises(InputError, match=f"has no {axis} to choose"):
                family.plan(self.spec(**{axis: 3}))
            return
        work = [self.figures(**{axis: value}).multiply_adds for value in values]
        assert work == sorted(set(work)), f"the {axis} changes nothing, or not the way it should"

    def test_planning_needs_no_torch(self) -> None:
        module = self.family().make_plan.__module__
        code = f"import sys, {module}; print({{'torch', 'timm'}} & set(sys.modules))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "set()", f"importing {module} loads torch or timm: import them in assemble"

    # -- networks without weights -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("side", SIDES)
    def test_the_network_is_the_planned_one(self, side: int) -> None:
        """Logits of the right shape at both ends of the ranges, and every stage's channels and map among its layers'."""
        family = self.family()
        ends = (
            (family.widths[0], family.depths[0], MULTIPLES[0]),
            (family.widths[-1], family.depths[-1], MULTIPLES[-1]),
        )
        for width, depth, multiple in ends:
            plan = family.plan(self.spec(resolution=side, width=width, depth=depth, channel_multiple=multiple))
            network = self.skeleton(plan)
            image = torch.empty(1, 3, side, side, device="meta")
            assert network(image).shape == (1, len(LABELS))
            maps = {call.output_shape[1:] for call in record(network, image) if len(call.output_shape) == 4}
            planned = {
                (channels, at, at)
                for channels, at in zip(
                    [plan.stem_channels, *(s.channels for s in plan.stages)], plan.sides, strict=True
                )
            }
            assert planned <= maps, f"planned but not there: {sorted(planned - maps)}"

    def test_its_figures_are_finite_and_grow(self) -> None:
        small = self.figures(resolution=28)
        family = self.family()
        large = self.figures(resolution=64, width=family.widths[-1], depth=family.depths[-1])
        for figures in (small, large):
            sums = [total.sublinear_work for total in figures.totals]
            assert sums and all(math.isfinite(value) and value >= 0 for value in sums)
        for name in ("parameters", "multiply_adds", "activation_bytes"):
            assert 0 < getattr(small, name) < getattr(large, name), name

    # -- networks with weights ----------------------------------------------------------------------------------------

    def test_one_seed_gives_one_student(self) -> None:
        first, second = self.student(self.spec()).state_dict(), self.student(self.spec()).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    @pytest.mark.parametrize("choice", ["plain", *AXES])
    def test_the_deployed_student_equals_the_trained_one(self, choice: str) -> None:
        """In float64, so that what is left between the two is no rounding that a deep network magnified."""
        values = {} if choice == "plain" else {choice: next(iter(self.family().choices(choice)), None)}
        if None in values.values():
            pytest.skip(f"the family has no {choice} to choose")
        shapes = Shapes()
        for side in self.resolutions:
            spec = self.spec(resolution=side, **values)
            trained = self.student(spec).double()
            before = {name: value.clone() for name, value in trained.state_dict().items()}
            # timm merges some blocks into convolutions of float32.
            deployed = deploy(trained).double()
            assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
            images = _images(side).double()
            with torch.no_grad():
                wanted, got = trained.eval()(images), deployed(images)
            assert wanted.shape == (2, len(LABELS)) and wanted.std() > 0
            assert (got - wanted).abs().max() <= self.tolerance * wanted.abs().max(), spec.label
            figures = structure_of(deployed.float(), side)
            # A network each: some blocks keep what their first run computed.
            plain, counted = (self.skeleton(self.family().plan(spec)) for _ in range(2))
            assert figures == structure_of(plain, side), "merged is not as deployed"
            assert figures == structure_of(counted, side, shapes), "counted in a space it has other figures"
            assert figures.parameters == sum(p.numel() for p in deployed.parameters())

    def test_nothing_of_training_is_left_in_the_deployed_student(self) -> None:
        left = [
            name
            for name, module in deploy(self.student(self.spec())).named_modules()
            if module.training or isinstance(module, nn.BatchNorm2d | nn.Dropout)
        ]
        assert not left, f"left of training: {left}"

    def test_gradients_reach_every_parameter(self) -> None:
        module = self.student(self.spec()).train()
        labels = torch.arange(8) % len(LABELS)
        loss = nn.functional.cross_entropy(module(_images(28, 8)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without, f"not trained: {without}"
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())

    @pytest.mark.parametrize(("side", "batch_size"), BATCHES.items())
    def test_it_trains_at(self, side: int, batch_size: int, tmp_path: Path) -> None:
        """Two steps on the CPU, as builds take them; `train` raises where a loss or a weight is not finite."""
        spec = self.spec(resolution=side)
        module = self.student(spec)
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        outcome = train(
            Pupil(module, bound([labels_alone()]), len(LABELS)),
            _noise(side, batch_size, steps=2),
            replace(SCHEDULE, learning_rate=self.family().rate(spec)),
            Hardware(torch.device("cpu"), None, 0),
            Stretch(1, tmp_path),
        )
        assert all(not torch.equal(before[name], p) for name, p in outcome.pupil.network.named_parameters())

    def test_it_runs_as_onnx(self, tmp_path: Path) -> None:
        spec, contract = self.spec(), _contract(28)
        deployed = deploy(self.student(spec))
        model = export_onnx(to_program(deployed, contract), contract, tmp_path / "model.onnx", build_hash="")
        runtime, target = format_for(Format.ONNX), FormatConformance().target(Format.ONNX)
        assert runtime.unsupported(model, target) == ()
        images = probe_images(contract, 3)
        (got,) = runtime.run(runtime.compile(model, target, tmp_path / "compiled"), [images])
        wanted = reference_logits(deployed, images)
        assert np.abs(got - wanted).max() <= 1e-3 * np.abs(wanted).max()


def _images(side: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2)) * 255


def _noise(side: int, batch_size: int, steps: int) -> ViewBatches:
    """Batches of grey noise for one epoch of `steps`."""
    count, none = steps * batch_size, np.arange(0)
    labels = np.arange(count) % len(LABELS)
    images = GreyImages(np.random.default_rng(0).integers(0, 256, (count, 32, 32), dtype=np.uint8))
    dataset = Dataset("noise", LABELS, labels, images, Splits(np.arange(count), none, none, None), "")
    views = DrawnViews(count, AugmentationConfig())
    return ViewBatches(dataset, _contract(side), views, batch_size=batch_size, seed=0)


def _contract(side: int) -> Contract:
    return CONTRACT.model_copy(update={"resolution": side})
