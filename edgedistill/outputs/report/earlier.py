"""This proof beside those of earlier builds in the same folder."""

from __future__ import annotations

import statistics

from edgedistill.documents.results import BuildResult
from edgedistill.outputs.explain.shown import proof_range
from edgedistill.outputs.report.proof_tables import moment_text, reference_time


def earlier_rows(result: BuildResult) -> list[tuple[str, str, str, str, str, str]]:
    """This proof and those before it, the newest first: date, file, what its sessions saw, the limit, whether it is met, and
    the reference arithmetic at its begin."""
    now = result.proof
    if not result.earlier:
        return []
    proofs = [*([now] if now else []), *reversed(result.earlier)]
    return [
        (
            moment_text(proof.began_at),
            "this file" if now and proof.artifact_sha256 == now.artifact_sha256 else proof.artifact_sha256[:12],
            proof_range(proof),
            proof.shown(proof.limit),
            "proven" if proof.met else "not proven",
            reference_time(proof.start),
        )
        for proof in proofs
    ]


def earlier_sentence(result: BuildResult) -> str:
    """The median session of this proof beside that of the newest earlier one; empty where the two have no unit in common."""
    now = result.proof
    if now is None or not result.earlier:
        return ""
    then = result.earlier[-1]
    units = [(proof.target, proof.percentile, proof.share, proof.anchor_sha256) for proof in (now, then)]
    if units[0] != units[1]:
        return ""
    ours, theirs = statistics.median(now.values), statistics.median(then.values)
    file = "the same file" if now.artifact_sha256 == then.artifact_sha256 else "another file"
    return (
        f"The median session of this proof measured {now.shown(ours)}, and {then.shown(theirs)} in the proof before it, "
        f"begun {moment_text(then.began_at)}, of {file}: {(ours / theirs - 1) * 100:+.1f}%."
    )
