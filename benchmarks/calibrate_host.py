"""How well a calibration of this machine predicts students that it did not measure.

    python benchmarks/calibrate_host.py --json OUT [--precision fp32,int8] [--models 20] [--others 30] [--seed 1]

For each precision: `edgedistill calibrate` on --models students, its seconds taken from an empty cache. Then --others
students, drawn at random from the same space without those, are exported, quantised and measured alike, and what the model
says of each is held against what was measured: mean error (MAPE), median error, share within 10%, rank correlation
(Spearman), and how many lie inside the 90% interval; for latency, peak memory and file size. The keys on top are those of
latency; its ratio to the anchor is one for all percentiles. Needs a quiet machine: whatever else runs on it is in every
figure.

How much of an error is the machine's own is told by `again`: the calibration's files, measured once more after the others,
and their mean difference from the figures that the model was fitted to, with the median ratio of the two.

One cache a precision keeps what was done (--cache DIR; a temporary folder unless given), so that with --cache a run that was
stopped goes on, and then `calibrate_seconds` are those of what was left to do (`calibrate_reused` steps were not).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from edgedistill.base.progress import Event, Note, StageFinished
from edgedistill.base.store import Store, write_atomic
from edgedistill.commands.calibrate_target import MAX_MULTIPLY_ADDS, calibrate_target, measure, open_calibration
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.devices.latency.profile import CalibrationRow, DeviceProfile, Quantity
from edgedistill.documents.specs import Percentile, Precision, Target
from edgedistill.documents.targets import load_target
from edgedistill.networks.space import Candidate
from edgedistill.networks.structure import Structure
from edgedistill.pipeline.bench import Bench
from edgedistill.pipeline.prepare import open_space

SPARE = 10
Estimate = tuple[float, float, float]


def listen(event: Event) -> None:
    """Measured files and what fails, on stderr."""
    if isinstance(event, StageFinished) and event.stage in ("profile", "calibrate") and not event.reused:
        print(event.stage, event.subject, f"{event.seconds:.0f} s", file=sys.stderr, flush=True)
    elif isinstance(event, Note) and event.warning:
        print(event.text, file=sys.stderr, flush=True)


def estimates(profile: DeviceProfile, precision: Precision, quantity: Quantity, of: list[Structure]) -> list[Estimate]:
    """The estimate for each structure, in ms or bytes, with both ends of its interval."""
    if quantity is Quantity.LATENCY:
        latency = profile.latency_model(precision, Percentile.P50)
        assert latency is not None
        return [latency.predict(structure) for structure in of]
    model = profile.bytes_model(precision, quantity)
    assert model is not None
    return [model.predict(structure) for structure in of]


def judge(estimated: list[Estimate], measured: list[float]) -> dict[str, float]:
    centre, low, high = np.array(estimated).T
    truth = np.array(measured)
    error = np.abs(centre / truth - 1)
    return {
        "mape": round(float(error.mean()), 4),
        "median_error": round(float(np.median(error)), 4),
        "within_10": round(float((error <= 0.1).mean()), 4),
        "largest_error": round(float(error.max()), 4),
        "spearman": round(float(spearmanr(centre, truth).statistic), 4),
        "coverage": round(float(((low <= truth) & (truth <= high)).mean()), 4),
        "interval_width": round(float(np.median(high / low)), 3),
    }


def again(bench: Bench, rows: Sequence[CalibrationRow], candidates: Sequence[Candidate]) -> dict[str, float]:
    """The same files in new sessions, on an occasion of their own."""
    bench = dataclasses.replace(bench, meter=dataclasses.replace(bench.meter, occasion="again"))
    new = {row.spec: row for row in measure(bench, candidates, len(candidates)).rows}
    ratios = np.array([new[row.spec].relative.p50 / row.relative.p50 for row in rows if row.spec in new])
    return {
        "mean_difference": round(float(np.abs(ratios - 1).mean()), 4),
        "median_ratio": round(float(np.median(ratios)), 4),
    }


def run(target: Target, precision: Precision, arguments: argparse.Namespace, cache: Path) -> dict[str, Any]:
    store = Store(cache / precision.value, listen)
    families, sides = arguments.family, arguments.resolution
    asked = CalibrationRequest.parse(arguments.models, families, sides, precision.value)
    began = time.monotonic()
    profile = calibrate_target(target, asked, store)
    seconds = time.monotonic() - began
    bench = open_calibration(target, asked, store)
    seen = {row.spec for row in profile.rows}
    small = [c for c in open_space(bench) if c.multiply_adds <= MAX_MULTIPLY_ADDS]
    space = [c for c in small if c.spec not in seen]
    drawn = np.random.default_rng(arguments.seed).permutation(len(space))[: arguments.others + SPARE]
    others = measure(bench, [space[i] for i in drawn], arguments.others)
    structures = [row.structure for row in others.rows]
    figures = {
        quantity.value: judge(
            estimates(profile, precision, quantity, structures),
            [row.measured(quantity) or math.nan for row in others.rows],
        )
        for quantity in Quantity
    }
    latency = estimates(profile, precision, Quantity.LATENCY, structures)
    return {
        **figures[Quantity.LATENCY.value],
        "models": len(profile.rows),
        "others": len(others.rows),
        "space": len(space) + len(seen),
        "calibrate_seconds": round(seconds, 1),
        "calibrate_reused": profile.reused,
        "again": again(bench, profile.rows, [c for c in small if c.spec in seen]),
        "left_out_errors": [error.model_dump(mode="json") for error in profile.errors],
        "figures": figures,
        "failures": [*profile.failures, *others.failures],
        "rows": [
            {
                "student": row.spec.label,
                "measured": row.measured(Quantity.LATENCY),
                "predicted": estimate,
                "low": low,
                "high": high,
            }
            for row, (estimate, low, high) in zip(others.rows, latency, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--precision", default="fp32,int8", help="each one by itself")
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--others", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="0 drew students by which features were chosen")
    parser.add_argument("--family", default="", help="as `edgedistill calibrate` takes it")
    parser.add_argument("--resolution", default="", help="as `edgedistill calibrate` takes it")
    parser.add_argument("--cache", type=Path, help="a folder to go on in")
    arguments = parser.parse_args()
    target = load_target("host")
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch)
        found: dict[str, Any] = {"runtime": target.runtime.value, "threads": target.threads, "cpus": os.cpu_count()}
        for name in arguments.precision.split(","):
            found[name] = run(target, Precision(name), arguments, cache)
            write_atomic(arguments.json, json.dumps(found, indent=1) + "\n")
            print(f"{name}: calibrated in {found[name]['calibrate_seconds']:g} s")
            for what, figures in (*found[name]["figures"].items(), ("again", found[name]["again"])):
                told = ", ".join(f"{figure} {value:g}" for figure, value in figures.items())
                print(f"  {what}: {told}", flush=True)


if __name__ == "__main__":
    main()
