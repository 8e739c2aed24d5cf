"""Which students a calibration should measure: those that stand for the others, a D-optimal design, or any.

    python benchmarks/calibration_design.py --json OUT [--precision fp32] [--fit 20,12,8] [--others 90] [--cache DIR]

--others students drawn at random from the space of `edgedistill calibrate`, and those that each way would choose, are
exported, quantised and measured. For each way and each number of --fit a latency model is fitted to the students that it
chooses, and what it says of the drawn ones that it did not choose is held against what was measured, at p50 and p95: mean
error, median error, median of the signed error, largest error. Random choice is the mean over 20 draws from the drawn ones.
Needs a quiet machine for 15 minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibrate_host import listen

from edgedistill.base.store import Store, write_atomic
from edgedistill.commands.calibrate_target import MAX_MULTIPLY_ADDS, measure, open_calibration
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.devices.latency.features import features_of
from edgedistill.devices.latency.model import LatencyModel, Row, choose_probes
from edgedistill.devices.latency.profile import CalibrationRow
from edgedistill.documents.specs import Percentile, StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.networks.structure import Structure
from edgedistill.pipeline.prepare import open_space

DRAWS = 20
# Keeps the information matrix of the first few rows of a design invertible.
LEAST_INFORMATION = 1e-3


def d_optimal(structures: Sequence[Structure], count: int) -> tuple[int, ...]:
    """Greedy D-optimal design on the standardised logs of the features: each next row is the one that multiplies the
    determinant of the information matrix most."""
    logs = np.log1p(np.stack([features_of(structure) for structure in structures]))
    scale = logs.std(axis=0)
    varying = scale > 1e-9
    points = np.column_stack([(logs[:, varying] - logs[:, varying].mean(axis=0)) / scale[varying], np.ones(len(logs))])
    inverse = np.eye(points.shape[1]) / LEAST_INFORMATION
    chosen: list[int] = []
    for _ in range(count):
        gains = np.einsum("ij,jk,ik->i", points, inverse, points)
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
        step = inverse @ points[chosen[-1]]
        inverse -= np.outer(step, step) / (1 + points[chosen[-1]] @ step)
    return tuple(chosen)


def judge(
    chosen: Sequence[CalibrationRow],
    others: Sequence[CalibrationRow],
    percentile: Percentile,
) -> list[float]:
    """Mean, median, signed median and largest error in percent."""
    model = LatencyModel.fit([Row(row.structure, row.relative.in_ms(percentile)) for row in chosen])
    errors = np.array([model.predict(row.structure).value / row.relative.in_ms(percentile) - 1 for row in others])
    size = np.abs(errors)
    found = (size.mean(), np.median(size), np.median(errors), size.max())
    return [100 * float(value) for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--fit", default="20,12,8")
    parser.add_argument("--others", type=int, default=90)
    parser.add_argument("--cache", type=Path, help="a folder to go on in")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.fit.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        store = Store((arguments.cache or Path(scratch)) / arguments.precision, listen)
        bench = open_calibration(load_target("host"), CalibrationRequest.parse(20, "", "", arguments.precision), store)
        space = [c for c in open_space(bench) if c.multiply_adds <= MAX_MULTIPLY_ADDS]
        structures = [candidate.structure for candidate in space]
        ways = {
            "representative": choose_probes(structures, max(counts)),
            "d_optimal": d_optimal(structures, max(counts)),
        }
        drawn = [int(i) for i in np.random.default_rng(0).permutation(len(space))[: arguments.others]]
        wanted = sorted({*drawn, *(index for way in ways.values() for index in way)})
        order = np.random.default_rng(1).permutation(len(wanted))
        found = measure(bench, [space[wanted[i]] for i in order], len(wanted))
    rows: dict[StudentSpec, CalibrationRow] = {row.spec: row for row in found.rows}

    def measured(indices: Sequence[int]) -> list[CalibrationRow]:
        return [rows[space[i].spec] for i in indices if space[i].spec in rows]

    figures: dict[str, Any] = {}
    for percentile in (Percentile.P50, Percentile.P95):
        for count in counts:
            for name, way in ways.items():
                others = [row for row in measured(drawn) if row.spec not in {space[i].spec for i in way[:count]}]
                figures[f"{name} {count} {percentile}"] = judge(measured(way[:count]), others, percentile)
            several = []
            for draw in range(DRAWS):
                mixed = np.random.default_rng(draw).permutation(drawn)
                several.append(judge(measured(mixed[:count].tolist()), measured(mixed[count:].tolist()), percentile))
            figures[f"random {count} {percentile}"] = np.mean(several, axis=0).tolist()
    document = {
        "columns": ["mape", "median_error", "signed_median_error", "largest_error"],
        "precision": arguments.precision,
        "space": len(space),
        "measured": len(rows),
        "failures": found.failures,
        "percent": {name: [round(value, 1) for value in values] for name, values in figures.items()},
    }
    write_atomic(arguments.json, json.dumps(document, indent=1) + "\n")
    for name, values in document["percent"].items():
        print(f"{name:28s}", *(f"{value:7.1f}" for value in values))


if __name__ == "__main__":
    main()
