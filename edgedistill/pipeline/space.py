"""Families that the target's runtime cannot take are left out before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgedistill.base.errors import InputError, MissingDependencyError, Problem, TrialFailure, UnsupportedError
from edgedistill.base.progress import Note
from edgedistill.base.store import digest
from edgedistill.formats import format_for
from edgedistill.networks.build import Normalised
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Bench, Source, random_source
from edgedistill.pipeline.make import portable
from edgedistill.pipeline.train import untrained

Kind = tuple[str, int | None]


def executable(bench: Bench, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates whose operations the target's runtime has. Of every family and kernel the smallest one is exported with
    random weights, in the widest precision, and looked through; nothing is compiled or run. A note says of each that is left
    out which operation is in the way, and what to do.

    Where nothing can be exported here, or where the runtime refuses a plain convolution too (its files are made on the
    device alone), that says nothing of families, and all candidates stay. Raises InputError where it takes that, but no
    family.
    """
    kinds: dict[Kind, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.multiply_adds, c.spec.label)):
        kinds.setdefault(_kind(candidate), candidate)
    try:
        found = {kind: problems_of(bench, untrained(bench, smallest.spec)) for kind, smallest in kinds.items()}
        refused = {kind: problems for kind, problems in found.items() if problems}
        if len(refused) == len(kinds) and problems_of(bench, _plain(bench, candidates[0].spec.resolution)):
            return tuple(candidates)
    except MissingDependencyError:
        return tuple(candidates)
    if len(refused) == len(kinds):
        raise InputError(
            f"{bench.target.runtime} on {bench.target.name} can take no family of this space",
            problems=[problem for problems in refused.values() for problem in problems],
            fix="name other families in [space] families",
        )
    for (family, kernel), problems in refused.items():
        named = family if kernel is None else f"{family} with kernel {kernel}"
        why = "; ".join(map(str, problems))
        bench.store.listener(Note(f"{named} is left out, {bench.target.runtime} cannot take it: {why}", warning=True))
    return tuple(candidate for candidate in candidates if _kind(candidate) not in refused)


def problems_of(bench: Bench, source: Source) -> tuple[Problem, ...]:
    """What keeps `source` from becoming a file of the target's runtime, operation by operation. Empty if nothing does.
    Raises MissingDependencyError."""
    form = bench.target.runtime
    try:
        return format_for(form).unsupported(portable(bench, source, bench.schemes[0], form), bench.target)
    except (TrialFailure, UnsupportedError) as failure:
        return failure.problems or (Problem(source.label, failure.message, failure.fix),)


def _kind(candidate: Candidate) -> Kind:
    return candidate.spec.family, candidate.spec.kernel


def _plain(bench: Bench, resolution: int) -> Source:
    """A convolution and a classifier: what every runtime of image models takes if it takes anything."""
    contract = bench.contract(resolution)

    def build() -> nn.Module:
        layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = nn.Sequential(*layers, nn.Linear(8, contract.width))
        return Normalised(network, contract.mean, contract.std, unit=contract.vector is not None)

    return random_source("a plain convolution", digest(["a plain convolution"]), contract, build)
