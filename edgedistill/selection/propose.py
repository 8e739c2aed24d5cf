"""Which students to train next: while nothing is known of quality, those that should fit the budget, the largest of
each kind first; then those with the best chance to beat the incumbent.

Static figures rank students within one family well (more multiply-adds, more accuracy) and across families hardly at
all, so a first batch is dealt out over the families and, inside each, over sizes: what is worth its training is decided
by the first rung, not here. A candidate is worth a try while P(latency <= budget) stays above `MIN_PROBABILITY`; one
that is likely too slow is not ruled out by a guess, only by a measurement.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest

from edgedistill.documents.measurements import Latency, PredictedLatency, UnknownLatency
from edgedistill.networks.space import Candidate
from edgedistill.selection.expectations import Prospect
from edgedistill.selection.quality import QualityModel

MIN_PROBABILITY = 0.02


@dataclass(frozen=True)
class Proposal:
    """A candidate; by target, the latency of the precision in which it should do best there; and the probability that
    it reaches on every target what was aimed at. `probability` is None where nothing is known of any target's
    latencies."""

    candidate: Candidate
    predicted: Mapping[str, Latency]
    probability: float | None


def assess(candidate: Candidate, prospects: Sequence[Prospect]) -> Proposal:
    """The candidate's chance of what is aimed at on every target, quality aside: on each, that of its likeliest
    precision among those of which something is known. Targets differ in runtime or device and miss for different
    reasons: chances are multiplied. A target of which nothing is known rules nothing out."""
    expected = {prospect.device: _expected(candidate, prospect) for prospect in prospects}
    known = [chance for _, chance in expected.values() if chance is not None]
    predicted = {device: latency for device, (latency, _) in expected.items()}
    return Proposal(candidate, predicted, math.prod(known) if known else None)


def _expected(candidate: Candidate, prospect: Prospect) -> tuple[Latency, float | None]:
    """The latency of the precision that is likeliest to keep the aim, and that likelihood."""
    models, aim = prospect.models, prospect.aim
    if not models:
        reason = "nothing measured on this device yet, and no published figures to predict from"
        return UnknownLatency(reason=reason, device=prospect.device), None
    chances = {p: model.probability(candidate.structure, aim) for p, model in models.items()}
    estimates = {p: model.latency.predict(candidate.structure) for p, model in models.items()}
    best = max(models, key=lambda p: (chances[p], -estimates[p].value))
    estimate = estimates[best]
    predicted = PredictedLatency(
        latency_ms=estimate.value,
        low_ms=estimate.low,
        high_ms=estimate.high,
        percentile=aim.percentile,
        calibrated=models[best].latency.calibrated,
        precision=best,
        basis=models[best].latency.basis,
        device=prospect.device,
    )
    return predicted, chances[best]


def propose(fresh: Sequence[Candidate], prospects: Sequence[Prospect], *, count: int) -> tuple[Proposal, ...]:
    """Up to `count` of the candidates `fresh` with a chance to fit, dealt over the families in turn.

    Inside a family the first is the one with the largest P(fit) x size, size being its rank by multiply-adds among
    those with a chance; each further one discounts sizes close to what was dealt already, so that a batch straddles
    the budget instead of crowding at the model's best guess.
    """
    families: dict[str, list[Proposal]] = defaultdict(list)
    able = with_a_chance(fresh, prospects)
    for proposal in sorted(able, key=lambda p: (p.candidate.multiply_adds, p.candidate.spec.label)):
        families[proposal.candidate.spec.family].append(proposal)
    rounds = zip_longest(*(_spread(members) for _, members in sorted(families.items())))
    return tuple(islice((proposal for dealt in rounds for proposal in dealt if proposal is not None), count))


def promising(
    fresh: Sequence[Candidate],
    prospects: Sequence[Prospect],
    quality_model: QualityModel,
    quality: float | None,
    lost_by: Callable[[Proposal], float],
    *,
    count: int,
) -> tuple[Proposal, ...]:
    """Up to `count` of the candidates `fresh` that keep what is aimed at and of which the files end above `quality`
    (validation split; None: any) with more than `MIN_PROBABILITY`, the likeliest first; a file is less accurate than
    its torch model by what `lost_by` says. Latency and quality miss for different reasons: their probabilities are
    multiplied."""
    able = with_a_chance(fresh, prospects)
    if quality is not None and able:
        reached = quality_model.reach([p.candidate for p in able], [quality + lost_by(p) for p in able])
        able = [
            replace(p, probability=(1.0 if p.probability is None else p.probability) * float(chance))
            for p, chance in zip(able, reached, strict=True)
        ]
    likely = [p for p in able if p.probability is None or p.probability > MIN_PROBABILITY]
    likely.sort(key=lambda p: (-(1.0 if p.probability is None else p.probability), p.candidate.multiply_adds))
    return tuple(likely[:count])


def expected_best(
    fresh: Sequence[Candidate], prospects: Sequence[Prospect], quality_model: QualityModel
) -> float | None:
    """The quality that the best of the candidates that rather fit than not is expected to reach: what to aim at while
    there is no incumbent. None where none fits."""
    likely = [p.candidate for p in with_a_chance(fresh, prospects) if p.probability is None or p.probability > 0.5]
    return max((middle for _, middle, _ in quality_model.intervals(likely)), default=None) if likely else None


def fastest(fresh: Sequence[Candidate], prospects: Sequence[Prospect], *, count: int) -> tuple[Proposal, ...]:
    """The candidates with the lowest prediction, as a share of the limit on the target where that is largest, whatever
    their chance: what a build measures before it says that a budget cannot be met."""
    limits = {prospect.device: prospect.aim.limit_ms for prospect in prospects}
    return tuple(sorted((assess(c, prospects) for c in fresh), key=lambda p: _expected_share(p, limits))[:count])


def with_a_chance(candidates: Sequence[Candidate], prospects: Sequence[Prospect]) -> list[Proposal]:
    """Those of the candidates that keep what is aimed at with more than `MIN_PROBABILITY`, in the order given."""
    proposals = [assess(c, prospects) for c in candidates]
    return [p for p in proposals if p.probability is None or p.probability > MIN_PROBABILITY]


def _expected_share(proposal: Proposal, limits: Mapping[str, float]) -> tuple[float, float]:
    shares = [
        predicted.latency_ms / limits[device]
        for device, predicted in proposal.predicted.items()
        if isinstance(predicted, PredictedLatency)
    ]
    return max(shares, default=0.0), float(proposal.candidate.multiply_adds)


def _spread(members: Sequence[Proposal]) -> Iterator[Proposal]:
    """One family's candidates in the order to try them; `members` are sorted by multiply-adds. `nearest` is how far
    each is from the sizes dealt so far."""
    sizes = [(rank + 1) / max(len(members), 2) for rank in range(len(members))]
    worths = [(1.0 if p.probability is None else p.probability) * size for p, size in zip(members, sizes, strict=True)]
    nearest = [1.0] * len(members)
    left = list(range(len(members)))
    while left:
        best = max(left, key=lambda rank: worths[rank] * min(1.0, 4 * nearest[rank]))
        left.remove(best)
        nearest = [min(n, abs(size - sizes[best])) for n, size in zip(nearest, sizes, strict=True)]
        yield members[best]
