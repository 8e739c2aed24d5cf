"""Which students to train next: those that should fit the budget, the largest of each kind first.

Static figures rank students within one family well (more multiply-adds, more accuracy) and across families hardly at
all, so a batch is dealt out over the families and, inside each, over sizes: what is worth its training is decided by
the first rung, not here. A candidate is worth a try while P(latency <= budget) stays above `MIN_PROBABILITY`; one that
is likely too slow is not ruled out by a guess, only by a measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.artifacts import Latency, PredictedLatency, UnknownLatency
from edgedistill.latency.features import features_of
from edgedistill.latency.model import LatencyModel
from edgedistill.specs import Budget, Precision, StudentSpec
from edgedistill.students.space import Candidate

MIN_PROBABILITY = 0.02


@dataclass(frozen=True)
class Proposal:
    """A candidate, the precision in which it should be fastest, and P(latency <= budget) in it. `probability` is None
    where nothing is known of this device's latencies."""

    candidate: Candidate
    predicted: Latency
    probability: float | None


def assess(candidate: Candidate, models: Mapping[Precision, LatencyModel], budget: Budget, device: str) -> Proposal:
    """The candidate's best chance over the precisions that have a latency model."""
    if not models:
        reason = "nothing measured on this device yet, and no published figures to predict from"
        return Proposal(candidate, UnknownLatency(reason=reason, device=device), None)
    vector = features_of(candidate.structure)
    chances = {p: model.probability_within(vector, budget.latency_ms) for p, model in models.items()}
    estimates = {p: model.predict(vector) for p, model in models.items()}
    best = max(models, key=lambda p: (chances[p], -estimates[p].latency_ms))
    estimate = estimates[best]
    predicted = PredictedLatency(
        latency_ms=estimate.latency_ms,
        low_ms=estimate.low_ms,
        high_ms=estimate.high_ms,
        percentile=budget.percentile,
        calibrated=estimate.calibrated,
        basis=f"{best}: {models[best].basis}",
        device=device,
    )
    return Proposal(candidate, predicted, chances[best])


def propose(
    candidates: Sequence[Candidate],
    models: Mapping[Precision, LatencyModel],
    budget: Budget,
    *,
    device: str,
    count: int,
    tried: Collection[StudentSpec],
) -> tuple[Proposal, ...]:
    """Up to `count` untried candidates with a chance to fit, dealt over the families in turn.

    Inside a family the first is the one with the largest P(fit) x size, size being its rank by multiply-adds among
    those with a chance; each further one discounts sizes close to what was dealt already, so that a batch straddles
    the budget instead of crowding at the model's best guess.
    """
    fresh = [assess(c, models, budget, device) for c in candidates if c.spec not in tried]
    able = [p for p in fresh if p.probability is None or p.probability > MIN_PROBABILITY]
    families: dict[str, list[Proposal]] = defaultdict(list)
    for proposal in sorted(able, key=lambda p: (p.candidate.multiply_adds, p.candidate.spec.label)):
        families[proposal.candidate.spec.family].append(proposal)
    queues = [_spread(members) for _, members in sorted(families.items())]
    dealt: list[Proposal] = []
    while len(dealt) < count and any(queues):
        for queue in queues:
            if queue and len(dealt) < count:
                dealt.append(queue.pop(0))
    return tuple(dealt)


def fastest(
    candidates: Sequence[Candidate],
    models: Mapping[Precision, LatencyModel],
    budget: Budget,
    *,
    device: str,
    count: int,
    tried: Collection[StudentSpec],
) -> tuple[Proposal, ...]:
    """The untried candidates with the lowest prediction, whatever their chance: what a build measures before it says
    that a budget cannot be met."""
    fresh = [assess(c, models, budget, device) for c in candidates if c.spec not in tried]
    return tuple(sorted(fresh, key=_expected_ms)[:count])


def _expected_ms(proposal: Proposal) -> float:
    predicted = proposal.predicted
    if isinstance(predicted, PredictedLatency):
        return predicted.latency_ms
    return float(proposal.candidate.multiply_adds)


def _spread(members: Sequence[Proposal]) -> list[Proposal]:
    """One family's candidates in the order to try them; `members` are sorted by multiply-adds."""
    last = max(len(members) - 1, 1)
    size = {id(p): (rank + 1) / (last + 1) for rank, p in enumerate(members)}
    left = list(members)
    order: list[Proposal] = []
    while left:
        taken = [size[id(p)] for p in order]

        def worth(p: Proposal, taken: list[float] = taken) -> float:
            chance = 1.0 if p.probability is None else p.probability
            nearest = min((abs(size[id(p)] - t) for t in taken), default=1.0)
            return chance * size[id(p)] * min(1.0, 4 * nearest)

        best = max(left, key=worth)
        left.remove(best)
        order.append(best)
    return order
