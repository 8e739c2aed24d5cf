"""Whether a measurement was noisy: by how much the sessions of its proof differ."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.base.units import format_percent
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.shown import sessions_text

NOISY_SPREAD = 0.10
"""Above this standard deviation of the logarithm of the sessions' figures a measurement is marked as noisy."""


@dataclass(frozen=True)
class Noise:
    """`spread` is Proof.spread of the winner's proof; without one, of that attempt whose sessions differ most."""

    spread: float
    sentence: str

    @property
    def noisy(self) -> bool:
        """Whether it is above the threshold."""
        return self.spread > NOISY_SPREAD


def noise_of(result: BuildResult) -> Noise | None:
    """How noisy the measurement was that the verdict rests on. None without a proof, met or not, of two sessions."""
    tried = (result.proof,) if result.proof is not None else result.attempts
    proof = max((proof for proof in tried if len(proof.values) > 1), key=lambda proof: proof.spread, default=None)
    if proof is None:
        return None
    figure = f"{proof.percentile}{' over that of the teacher' if proof.share else ''}"
    sentence = (
        f"The {sessions_text(len(proof.values))} of the proof differ by {format_percent(proof.spread)} (standard deviation "
        f"of the logarithm of each session's {figure}). Above {format_percent(NOISY_SPREAD, 0)} a measurement is marked "
        "as noisy."
    )
    return Noise(proof.spread, sentence)
