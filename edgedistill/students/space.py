"""The candidates: every family at every choice worth a thought, with their static figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from edgedistill.config import SpaceConfig
from edgedistill.errors import InputError, Problem
from edgedistill.specs import Frozen, Precision, StudentSpec, Target
from edgedistill.students.build import Normalised
from edgedistill.students.families import families
from edgedistill.students.family import Family, Plan, with_axis
from edgedistill.students.structure import Structure, structure_of
from edgedistill.units import format_bytes

_BYTES = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1}


class Candidate(Frozen):
    """A student that may be tried, with the static figures of its deployed graph at batch 1."""

    spec: StudentSpec
    structure: Structure

    @property
    def parameters(self) -> int:
        return self.structure.parameters

    @property
    def multiply_adds(self) -> int:
        return self.structure.multiply_adds

    @property
    def activation_bytes(self) -> int:
        """Peak of living activations in fp32."""
        return self.structure.activation_bytes


@dataclass(frozen=True)
class _Choice:
    spec: StudentSpec
    family: Family
    plan: Plan


def enumerate_space(
    config: SpaceConfig, contract_labels_count: int, source_side: int | None, target: Target
) -> tuple[Candidate, ...]:
    """All candidates that pass the static checks, families in turn, each from small to large.

    `source_side` is the shorter side of the data's images in px, None where it varies or is not known. Of two specs that
    round to one network the one nearer to the family's own size stays. Dropped are candidates with more than
    `config.max_parameters`, and those whose weights and peak activations, both in the smallest precision worth trying on
    the target, exceed `target.memory_bytes`.

    Raises InputError for unknown families, and for an empty result, naming the restriction that emptied it.
    """
    choices = list(_distinct(config, source_side, target.channel_multiple))
    candidates = [Candidate(spec=c.spec, structure=_structure(c, contract_labels_count)) for c in choices]
    small = [c for c in candidates if config.max_parameters is None or c.parameters <= config.max_parameters]
    if not small:
        least = min(c.parameters for c in candidates)
        what = f"max_parameters = {config.max_parameters} leaves none of {len(candidates)} candidates"
        raise _empty(
            Problem("[space]", what, f"the smallest here has {least:,} parameters; allow more, or smaller widths")
        )
    fitting = [c for c in small if target.memory_bytes is None or _memory(c, target) <= target.memory_bytes]
    if not fitting:
        least = min(_memory(c, target) for c in small)
        what = f"{format_bytes(target.memory_bytes or 0)} of memory hold none of {len(small)} candidates"
        raise _empty(Problem(f"target {target.name}", what, f"the smallest here needs {format_bytes(least)}"))
    return tuple(fitting)


def resolutions_for(menu: Sequence[int], source_side: int | None) -> tuple[int, ...]:
    """Of `menu` those between half and twice the source's side, and the side itself: below, detail is thrown away that the
    device has in hand, above, every pixel costs and none informs. Sides outside the menu's range count as its nearest
    end, an unknown one as its top."""
    side = menu[-1] if source_side is None else min(max(source_side, menu[0]), menu[-1])
    return tuple(sorted({r for r in menu if side / 2 <= r <= 2 * side} | {side}))


def _distinct(config: SpaceConfig, source_side: int | None, channel_multiple: int) -> Iterator[_Choice]:
    for family in _with_their_axes(config):
        seen: dict[Plan, StudentSpec] = {}
        for resolution, depth, width, kernel, expansion in product(
            config.resolutions or resolutions_for(family.resolutions, source_side),
            config.depths or family.depths,
            config.widths or family.widths,
            (family.kernels and config.kernels) or (None,),
            (family.expansions and config.expansions) or (None,),
        ):
            spec = StudentSpec(
                family=family.name,
                width=width,
                depth=depth,
                resolution=resolution,
                kernel=kernel,
                expansion=expansion,
                channel_multiple=channel_multiple,
            )
            plan = family.plan(spec)
            if plan not in seen or _distance(spec) < _distance(seen[plan]):
                seen[plan] = spec
        for plan, spec in sorted(seen.items(), key=lambda item: _size(item[1])):
            yield _Choice(spec, family, plan)


def _with_their_axes(config: SpaceConfig) -> tuple[Family, ...]:
    """The families asked for. Raises InputError where none of them has an axis that values are given for: they would say
    nothing."""
    chosen = families(config.families)
    problems = []
    for axis, values in (("kernel", config.kernels), ("expansion", config.expansions)):
        if values and not any(family.choices(axis) for family in chosen):
            names, having = ", ".join(f.name for f in chosen), with_axis(axis)
            what = f"no family here ({names}) has a choice of {axis}s"
            problems.append(Problem(f"[space] {axis}s", what, f"leave it out, or add one of {having}"))
    if problems:
        raise InputError("the student space asks for what its families do not have", problems=problems)
    return chosen


def _distance(spec: StudentSpec) -> float:
    return abs(spec.width - 1) + abs(spec.depth - 1)


def _size(spec: StudentSpec) -> tuple[float, ...]:
    return spec.resolution, spec.depth, spec.width, spec.kernel or 0, spec.expansion or 0


def _structure(choice: _Choice, classes: int) -> Structure:
    network = choice.family.skeleton(choice.plan, classes)
    with torch.device("meta"):
        module = Normalised(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()
    return structure_of(module, choice.spec.resolution)


def _memory(candidate: Candidate, target: Target) -> int:
    share = min((_BYTES[precision] for precision in target.precisions), default=4) / 4
    return int((candidate.structure.weights_bytes + candidate.activation_bytes) * share)


def _empty(problem: Problem) -> InputError:
    return InputError("no student is left to try", problems=[problem])
