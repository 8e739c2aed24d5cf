"""Several teachers as one: how much each of them counts, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.base.units import format_percent
from edgedistill.documents.results import EnsembleMember
from edgedistill.documents.specs import Metric, scored


@dataclass(frozen=True)
class Ensemble:
    """The teachers of a build, that of `[teacher]` first, each with its weight and its quality on the validation split;
    `quality_validation` is what they have together, `metric` what it is."""

    members: tuple[EnsembleMember, ...]
    quality_validation: float
    metric: Metric

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of the members; of sum 1."""
        return tuple(member.weight for member in self.members)

    @property
    def sentence(self) -> str:
        """For notes."""
        each = ", ".join(
            f"{member.name} ({format_percent(member.quality_validation)}, weight {member.weight:.2f})"
            for member in self.members
        )
        found = scored(self.metric, format_percent(self.quality_validation), "the validation split", several=True)
        return f"{len(self.members)} teachers together {found}: {each}"
