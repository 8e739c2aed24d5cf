"""How long it takes to rank a space of thousands of students: cold, and from the candidates that an earlier build stored.

    python benchmarks/rank_space.py --json FILE

The space is all families that come with edgedistill with their kernels and expansions, at one resolution. Cold is from the
first import on: candidates counted, a latency model of 24 rows and a model of quality of 12 curves fitted, both ways to
propose. Warm is the same from the stored candidates, with all modules loaded. No device is measured and nothing is trained:
rows are those of a made-up device, and curves those of a made-up data set. Seconds are the wall's, with the processor's
beside.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

# Nothing of edgedistill is imported before `main` runs: imports are part of a cold start.
if TYPE_CHECKING:
    from edgedistill.networks.space import Candidate, Space
    from edgedistill.networks.structure import Structure
    from edgedistill.selection.propose import Proposal

T = TypeVar("T")

KERNELS = (3, 5, 7)
EXPANSIONS = (2.0, 3.0, 4.0, 6.0)
RESOLUTION = 32
LEAST_CANDIDATES = 2000
ROWS, CURVES = 24, 12
EPOCHS = (1, 4, 16)
COUNT = 16
QUALITY = 0.9


def counted() -> Space:
    """The space, every network counted."""
    from edgedistill.documents.build_file import SpaceConfig
    from edgedistill.documents.targets import load_target
    from edgedistill.networks.families.registry import FAMILIES
    from edgedistill.networks.space import enumerate_space

    config = SpaceConfig(families=tuple(FAMILIES), kernels=KERNELS, expansions=EXPANSIONS, resolutions=(RESOLUTION,))
    return enumerate_space(config, 10, RESOLUTION, load_target("host"))


def latency_ms(structure: Structure) -> float:
    """On a made-up device: 20 multiply-adds and 5 bytes a nanosecond, and 5 microseconds to start an operation."""
    moved = sum(total.read_bytes + total.written_bytes + total.weights_bytes for total in structure.totals)
    started = sum(total.count for total in structure.totals)
    return structure.multiply_adds / 20e6 + moved / 5e6 + started * 5e-3


def quality_model(candidate: Candidate, epochs: int) -> float:
    """On a made-up data set: errors fall by a power of the work and of the epochs."""
    return 1 - 0.5 * math.pow(candidate.multiply_adds / 1e6, -0.2) * math.pow(epochs, -0.3)


def ranked(candidates: Sequence[Candidate]) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...]]:
    """What to train first, and what to train next once some are trained."""
    from edgedistill.devices.latency.model import LatencyModel, Row, choose_probes
    from edgedistill.documents.specs import Percentile, Precision
    from edgedistill.selection.expectations import Aim, Expectation, Prospect
    from edgedistill.selection.propose import promising, propose
    from edgedistill.selection.quality import Curve, QualityModel

    probes = [candidates[i] for i in choose_probes([c.structure for c in candidates], ROWS)]
    # No law is exact: every other row is 5% off, one way or the other.
    rows = [Row(c.structure, latency_ms(c.structure) * (1 + 0.05 * (-1) ** i)) for i, c in enumerate(probes)]
    models = {Precision.FP32: Expectation(LatencyModel.fit(rows))}
    trained = probes[:CURVES]
    curves = [Curve(c, {epochs: quality_model(c, epochs) for epochs in EPOCHS}) for c in trained]
    quality_model = QualityModel.fit(curves, candidates, EPOCHS[-1])
    assert quality_model is not None
    limit_ms = math.exp(sum(math.log(row.latency_ms) for row in rows) / len(rows))
    tried = {candidate.spec for candidate in trained}
    fresh = [c for c in candidates if c.spec not in tried]
    prospects = [Prospect("made up", Aim(limit_ms, Percentile.P95), models)]
    return propose(fresh, prospects, count=COUNT), promising(
        fresh, prospects, quality_model, QUALITY, lambda proposal: 0.0, count=COUNT
    )


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` gives, its seconds, and the processor's for it."""
    wall, processor = time.monotonic(), time.process_time()
    result = work()
    return result, time.monotonic() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()

    space, counting_s, counting_processor_s = timed(counted)
    cold, ranking_s, ranking_processor_s = timed(lambda: ranked(space.candidates))
    if len(space.candidates) < LEAST_CANDIDATES:
        raise SystemExit(f"{len(space.candidates)} candidates are not {LEAST_CANDIDATES}: ask for more values")

    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "space.json"
        stored.write_text(space.model_dump_json())
        warm, warm_s, warm_processor_s = timed(
            lambda: ranked(type(space).model_validate_json(stored.read_bytes()).candidates)
        )
    if warm != cold or not all(warm):
        raise SystemExit("stored candidates are not ranked as fresh ones are")

    document = {
        "candidates": len(space.candidates),
        "cold_seconds": counting_s + ranking_s,
        "warm_seconds": warm_s,
        "cold_processor_seconds": counting_processor_s + ranking_processor_s,
        "warm_processor_seconds": warm_processor_s,
    }
    for proposals in warm:
        print(", ".join(proposal.candidate.spec.label for proposal in proposals[:4]), "...")
    print(json.dumps(document, indent=1))
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
