"""The candidates: every family at every choice worth a thought, with their static figures."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.units import format_bytes
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.specs import Frozen, Precision, StudentSpec, Target
from edgedistill.networks.build import Normalised
from edgedistill.networks.counting import structure_of
from edgedistill.networks.cutting import CannotBeCutError
from edgedistill.networks.families.family import Family, Network, StudentPlan, with_axis
from edgedistill.networks.families.registry import families
from edgedistill.networks.families.strides import SMALLEST_MAP
from edgedistill.networks.shapes import Shapes
from edgedistill.networks.structure import Structure
from edgedistill.networks.threads import own_threads

_WEIGHT_BITS = {
    Precision.FP32: 32,
    Precision.FP16: 16,
    Precision.INT8: 8,
    Precision.MIXED: 8,
    Precision.INT8_WEIGHTS: 8,
    Precision.INT4_WEIGHTS: 4,
}
_ACTIVATION_BITS = _WEIGHT_BITS | {Precision.INT8_WEIGHTS: 32, Precision.INT4_WEIGHTS: 32}


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


class Space(Frozen):
    """The `candidates` that pass the static checks, and how many were `dropped` for what, in words."""

    candidates: tuple[Candidate, ...]
    dropped: dict[str, int] = {}

    @property
    def sentence(self) -> str:
        """`212 candidates; left out: 30 with more than 200,000 parameters`."""
        left = ", ".join(f"{count} with {reason}" for reason, count in self.dropped.items())
        count = f"{len(self.candidates)} candidate{'s' * (len(self.candidates) != 1)}"
        return f"{count}; left out: {left}" if left else count


@dataclass(frozen=True)
class _Choice:
    spec: StudentSpec
    family: Family
    plan: StudentPlan


@dataclass(frozen=True)
class _Limit:
    """The largest `figure` that a candidate may have, as `shown`; set at `where`, and `way_out` of it."""

    where: str
    most: int
    figure: Callable[[Candidate], int]
    shown: Callable[[int], str]
    way_out: str


def enumerate_space(config: SpaceConfig, classes: int, source_side: int | None, target: Target) -> Space:
    """All candidates that pass the static checks, families in turn, each from small to large.

    `source_side` is the shorter side of the data's images in px, None where it varies or is not known. Of two specs that
    round to one network the one nearer to the family's own size stays. Dropped are candidates with a feature map below 3x3,
    with more than `config.max_parameters`, and those whose weights exceed `config.max_bytes`, or with their peak activations
    `target.memory_bytes`, both in the smallest precision worth trying on the target; further models of timm that cannot be
    cut.

    Raises InputError for families that cannot be had, for values on an axis that none of them has, and for an empty result,
    naming the restriction that emptied it.
    """
    choices = list(_distinct(config, source_side, target.channel_multiple))
    whole = [choice for choice in choices if min(choice.plan.sides) >= SMALLEST_MAP]
    if not whole:
        what = f"each of {len(choices)} candidates has a feature map below {SMALLEST_MAP}x{SMALLEST_MAP}"
        raise _empty(Problem("[space] resolutions", what, "ask for a higher resolution, or for other families"))
    dropped = {f"a feature map below {SMALLEST_MAP}x{SMALLEST_MAP}": len(choices) - len(whole)}
    left = _counted(whole, classes)
    if not left:
        what = f"none of {len(whole)} candidates can be cut"
        raise _empty(Problem("[space] models", what, "leave widths and depths at 1, or name other models"))
    dropped["a network that cannot be cut"] = len(whole) - len(left)
    left = _once(left)
    for limit in _limits(config, target):
        within = [candidate for candidate in left if limit.figure(candidate) <= limit.most]
        if not within:
            what = f"{limit.shown(limit.most)} at most leaves none of {len(left)} candidates"
            least = limit.shown(min(map(limit.figure, left)))
            raise _empty(Problem(limit.where, what, f"the smallest here has {least}; {limit.way_out}"))
        dropped[f"more than {limit.shown(limit.most)}"] = len(left) - len(within)
        left = within
    return Space(candidates=tuple(left), dropped={reason: count for reason, count in dropped.items() if count})


def _limits(config: SpaceConfig, target: Target) -> Iterator[_Limit]:
    precisions = target.precisions or (Precision.FP32,)

    def size(candidate: Candidate) -> int:
        return min(candidate.structure.weights_bytes * _WEIGHT_BITS[p] // 32 for p in precisions)

    def memory(candidate: Candidate) -> int:
        weights, activations = candidate.structure.weights_bytes, candidate.activation_bytes
        return min((weights * _WEIGHT_BITS[p] + activations * _ACTIVATION_BITS[p]) // 32 for p in precisions)

    smaller = "allow more, or smaller widths"
    if config.max_parameters is not None:
        yield _Limit(
            "[space] max_parameters", config.max_parameters, lambda c: c.parameters, "{:,} parameters".format, smaller
        )
    if config.max_bytes is not None:
        yield _Limit("[space] max_bytes", config.max_bytes, size, lambda b: f"{format_bytes(b)} of weights", smaller)
    if target.memory_bytes is not None:
        yield _Limit(
            f"target {target.name}, memory_bytes",
            target.memory_bytes,
            memory,
            lambda b: f"{format_bytes(b)} of weights and activations",
            "ask for smaller widths or resolutions",
        )


def resolutions_for(menu: Sequence[int], source_side: int | None) -> tuple[int, ...]:
    """Of `menu` those between half and twice the source's side, and the side itself: a smaller one loses detail that the
    images have, a larger one adds none. Sides outside the menu's range count as its nearest end, an unknown one as its
    top."""
    side = menu[-1] if source_side is None else min(max(source_side, menu[0]), menu[-1])
    return tuple(sorted({r for r in menu if side / 2 <= r <= 2 * side} | {side}))


def largest_resolution(config: SpaceConfig, source_side: int | None) -> int:
    """No candidate of `enumerate_space` has a higher one. Raises InputError for families that cannot be had."""
    return max(
        max(_resolutions(config, family, source_side)) for family in families((*config.families, *config.models))
    )


def _resolutions(config: SpaceConfig, family: Family, source_side: int | None) -> tuple[int, ...]:
    return config.resolutions or resolutions_for(family.resolutions, source_side)


def _distinct(config: SpaceConfig, source_side: int | None, channel_multiple: int) -> Iterator[_Choice]:
    for family in (*_with_their_axes(config), *(families(config.models) if config.models else ())):
        seen: dict[StudentPlan, StudentSpec] = {}
        # A model of timm is cut, not made larger.
        most = 1.0 if family.name in config.models else math.inf
        for resolution, depth, width, kernel, expansion in product(
            _resolutions(config, family, source_side),
            _up_to(most, config.depths) or family.depths,
            _up_to(most, config.widths) or family.widths,
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
    """The families asked for; none where models alone are named. Raises InputError where none of them has an axis that
    values are given for: they would say nothing."""
    chosen = families(config.families) if config.families or not config.models else ()
    problems = []
    for axis, values in (("kernel", config.kernels), ("expansion", config.expansions)):
        if values and not any(family.choices(axis) for family in chosen):
            names, having = ", ".join(f.name for f in chosen) or "models alone", with_axis(axis)
            what = f"no family here ({names}) has a choice of {axis}s"
            problems.append(Problem(f"[space] {axis}s", what, f"leave it out, or add one of {having}"))
    if problems:
        raise InputError("the student space asks for what its families do not have", problems=problems)
    return chosen


def _up_to(most: float, asked: Sequence[float]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(min(value, most) for value in asked))


def _distance(spec: StudentSpec) -> float:
    return abs(spec.width - 1) + abs(spec.depth - 1)


def _size(spec: StudentSpec) -> tuple[float, ...]:
    return spec.resolution, spec.depth, spec.width, spec.kernel or 0, spec.expansion or 0


def _counted(choices: Sequence[_Choice], classes: int) -> list[Candidate]:
    """Those that can be cut, in the order of `choices`."""
    alike: dict[StudentSpec, list[int]] = {}
    for number, choice in enumerate(choices):
        alike.setdefault(choice.spec.model_copy(update={"resolution": 0}), []).append(number)
    shapes, counted = Shapes(), {}
    # Models of timm run, on images of a few pixels. Beside a busy neighbour the second of two threads made all of that
    # many times slower: they wait for each other at every layer.
    with _young_garbage_only() as collect, own_threads(1):
        for numbers in alike.values():
            networks = choices[numbers[0]].family.skeletons((choices[number].plan for number in numbers), classes)
            with suppress(CannotBeCutError):
                for number, network in zip(numbers, networks, strict=True):
                    spec = choices[number].spec
                    counted[number] = Candidate(spec=spec, structure=_structure(network, spec.resolution, shapes))
                    collect()
    return [counted[number] for number in sorted(counted)]


def _once(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each network once. What a cut leaves of a model of timm is not known before it is made: one whose runs have a single
    block is the same at every depth."""
    kept: dict[tuple[str, int, Structure], Candidate] = {}
    for candidate in candidates:
        network = candidate.spec.family, candidate.spec.resolution, candidate.structure
        if network not in kept or _distance(candidate.spec) < _distance(kept[network].spec):
            kept[network] = candidate
    return list(kept.values())


def _structure(network: Network, resolution: int, shapes: Shapes) -> Structure:
    with next(network.parameters()).device:
        module = Normalised(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()
    return structure_of(module, resolution, shapes)


@contextmanager
def _young_garbage_only() -> Iterator[Callable[[], object]]:
    """Hold off Python's cyclic garbage collector, and hand out what collects new garbage. Thousands of modules come and go
    with every network, and each few of them would have it search all of torch and timm as well: a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield partial(gc.collect, 1)
    finally:
        if was_enabled:
            gc.enable()


def _empty(problem: Problem) -> InputError:
    return InputError("no student is left to try", problems=[problem])
