"""The latency model on a table of many models: fitted to some rows, how well does it predict the others?

    python benchmarks/latency_table.py --csv F [--fit 40] [--splits 20] [--max-ms 40] --json OUT [--features FILE]

F has the columns of timm's published benchmark tables: model, infer_img_size, infer_step_time (ms at batch 1), infer_gmacs.
Features are read off the timm models themselves, on torch's meta device, and kept in --features. Rows beyond --max-ms, and
models that this timm does not have, are left out and counted.

A split draws half of the rows, of which the --fit that tell most are "measured" (`choose_probes`: a build chooses its probes
so); all rows that were not are predicted. Beside it, on the same splits: the model fitted to rows drawn at random, one
fitted to multiply-adds alone, and a random forest on the logs of the features, both on the rows that were chosen. Shares
of the measured latency; means over the splits. The keys on top are those of the chosen rows. On timm's table of a desktop
CPU these are no figures of unseen data: which features there are, and the ridge, were settled with that table in hand.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from edgedistill.latency.features import FEATURE_NAMES, features
from edgedistill.latency.model import LatencyModel, Row, choose_probes

Floats = NDArray[np.float64]
Predictor = Callable[[Floats, Floats, Floats], tuple[Floats, Floats | None]]


def features_of_model(name: str, side: int) -> Floats | None:
    """None where timm does not have the model, or not at this resolution."""
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False).eval()
            if network.pretrained_cfg.get("fixed_input_size") and network.pretrained_cfg["input_size"][-1] != side:
                network = timm.create_model(name, pretrained=False, img_size=side).eval()
            return features(network, side)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError):
        return None


def read_table(path: Path, max_ms: float, kept: Path | None) -> tuple[list[str], Floats, Floats, Floats, int]:
    """Names, features [n, 23], multiply-adds [n], latencies in ms [n], and how many rows were left out."""
    cache: dict[str, list[float] | None] = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    names, matrix, work, latencies, left_out = [], [], [], [], 0
    for row in csv.DictReader(path.open()):
        if float(row["infer_step_time"]) > max_ms:
            continue
        key = f"{row['model']} {row['infer_img_size']}"
        if key not in cache:
            found = features_of_model(row["model"], int(row["infer_img_size"]))
            cache[key] = None if found is None else found.tolist()
        vector = cache[key]
        if vector is None:
            left_out += 1
            continue
        names.append(key)
        matrix.append(vector)
        work.append(max(float(row["infer_gmacs"]), 1e-3) * 1e9)
        latencies.append(float(row["infer_step_time"]))
    if kept:
        kept.write_text(json.dumps(cache))
    return names, np.array(matrix), np.array(work), np.array(latencies), left_out


def ours(fitted: Floats, latencies: Floats, others: Floats) -> tuple[Floats, Floats]:
    model = LatencyModel.fit([Row(f, y) for f, y in zip(fitted, latencies, strict=True)])
    found = [model.predict(vector) for vector in others]
    intervals = np.array([(p.low_ms, p.high_ms) for p in found])
    return np.array([p.latency_ms for p in found]), intervals


def line(fitted: Floats, latencies: Floats, others: Floats) -> tuple[Floats, None]:
    """latency = a + b x multiply-adds, least relative squares; the last column are the table's own multiply-adds."""
    sides = [np.column_stack([rows[:, -1], np.ones(len(rows))]) for rows in (fitted, others)]
    weights, *_ = np.linalg.lstsq(sides[0] / latencies[:, None], np.ones(len(latencies)), rcond=None)
    return np.maximum(sides[1] @ weights, latencies.min() / 100), None


def forest(fitted: Floats, latencies: Floats, others: Floats) -> tuple[Floats, None]:
    model = RandomForestRegressor(300, random_state=0).fit(np.log1p(fitted), np.log(latencies))
    return np.exp(model.predict(np.log1p(others))), None


def judge(predicted: Floats, intervals: Floats | None, measured: Floats) -> dict[str, float]:
    error = np.abs(predicted / measured - 1)
    found = {
        "median_error": float(np.median(error)),
        "mape": float(error.mean()),
        "within_10": float((error < 0.1).mean()),
    }
    found["spearman"] = float(np.corrcoef(np.argsort(np.argsort(predicted)), np.argsort(np.argsort(measured)))[0, 1])
    if intervals is not None:
        found["coverage_95"] = float(((intervals[:, 0] <= measured) & (measured <= intervals[:, 1])).mean())
        found["interval_width"] = float(np.median(intervals[:, 1] / intervals[:, 0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--fit", type=int, default=40)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--max-ms", type=float, default=40.0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="keep the features here, and find them again")
    arguments = parser.parse_args()
    began = time.monotonic()
    names, matrix, work, latencies, left_out = read_table(arguments.csv, arguments.max_ms, arguments.features)
    with_work = np.column_stack([matrix, work])
    seconds = time.monotonic() - began
    methods: dict[str, tuple[Predictor, Floats, bool]] = {
        "chosen": (ours, matrix, True),
        "random": (ours, matrix, False),
        "multiply_adds_only": (line, with_work, True),
        "random_forest": (forest, matrix, True),
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for split in range(arguments.splits):
        order = np.random.default_rng(split).permutation(len(names))
        pool = order[: len(order) // 2]
        best = pool[list(choose_probes(matrix[pool], arguments.fit))]
        for name, (predict, vectors, chosen) in methods.items():
            fitted = best if chosen else pool[: arguments.fit]
            others = np.setdiff1d(order, fitted)
            predicted, intervals = predict(vectors[fitted], latencies[fitted], vectors[others])
            results[name].append(judge(predicted, intervals, latencies[others]))
    means: dict[str, dict[str, Any]] = {
        name: {key: round(float(np.mean([split[key] for split in found])), 4) for key in found[0]}
        for name, found in results.items()
    }
    document = {
        **means["chosen"],
        "models": len(names),
        "left_out": left_out,
        "fit": arguments.fit,
        "splits": arguments.splits,
        "max_ms": arguments.max_ms,
        "features": len(FEATURE_NAMES),
        "features_seconds": round(seconds, 1),
        "methods": means,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    for name, found in means.items():
        print(f"{name}: {', '.join(f'{key} {value:.3g}' for key, value in found.items())}")


if __name__ == "__main__":
    main()
