"""The latency model on a table of many models: fitted to some rows, how well does it predict the others?

    python benchmarks/latency_table.py --csv F [--fit 40] [--splits 20] [--max-ms 40] --json OUT [--structures FILE]

F has the columns of timm's published benchmark tables: model, infer_img_size, infer_step_time (ms at batch 1), infer_gmacs.
Structures are read off the timm models themselves, on torch's meta device, and kept in --structures. Rows beyond --max-ms
are left out and counted; so are models that this timm does not have, or not at this resolution, each with its cause.

A split draws half of the rows, of which the --fit that tell most are "measured" (`choose_probes`: a build chooses its probes
so); all rows that were not are predicted. Beside it, on the same splits: the model fitted to rows drawn at random; and on
the rows that were chosen the linear law without what is learnt of its residuals, a law of multiply-adds alone, and a
random forest on the logs of the features. Shares of the measured latency; means over the splits. The keys on top are
those of the chosen rows. On timm's table of a desktop CPU these are no figures of unseen data: which features there are,
the ridges, and from how many rows on residuals are learnt were settled with that table in hand.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from edgedistill.latency.features import ALIKE, FEATURE_NAMES, features_of
from edgedistill.latency.law import Law
from edgedistill.latency.model import RIDGE, LatencyModel, Row, choose_probes
from edgedistill.students.structure import Structure, structure_of

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Predictor = Callable[["Table", Indices, Indices], tuple[Floats, Floats | None]]


def structure_of_model(name: str, side: int) -> Structure | str:
    """The structure of timm's model, or why there is none: this timm does not have it, or not at this resolution."""
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False).eval()
            if network.pretrained_cfg.get("fixed_input_size") and network.pretrained_cfg["input_size"][-1] != side:
                network = timm.create_model(name, pretrained=False, img_size=side).eval()
            return structure_of(network, side)
    except Exception as error:  # whatever timm's hundreds of models raise: it is recorded with the model's name
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass(frozen=True)
class Table:
    """Models that were measured: names, structures, features [n, 23], the table's own multiply-adds [n], latencies in ms
    [n]. `too_slow` counts rows beyond the limit; `left_out` are models without a structure, with the cause."""

    names: list[str]
    structures: list[Structure]
    matrix: Floats
    work: Floats
    latencies: Floats
    too_slow: int
    left_out: dict[str, str]


def read_table(path: Path, max_ms: float, kept: Path | None) -> Table:
    cache: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    names, structures, work, latencies, too_slow = [], [], [], [], 0
    left_out: dict[str, str] = {}
    for row in csv.DictReader(path.open()):
        if float(row["infer_step_time"]) > max_ms:
            too_slow += 1
            continue
        key = f"{row['model']} {row['infer_img_size']}"
        if key not in cache:
            found = structure_of_model(row["model"], int(row["infer_img_size"]))
            cache[key] = found if isinstance(found, str) else found.model_dump(mode="json")
        if isinstance(cache[key], str):
            left_out[key] = cache[key]
            continue
        names.append(key)
        structures.append(Structure.model_validate(cache[key]))
        work.append(max(float(row["infer_gmacs"]), 1e-3) * 1e9)
        latencies.append(float(row["infer_step_time"]))
    if kept:
        kept.write_text(json.dumps(cache))
    matrix = np.stack([features_of(structure) for structure in structures])
    return Table(names, structures, matrix, np.array(work), np.array(latencies), too_slow, left_out)


def ours(table: Table, fitted: Indices, others: Indices) -> tuple[Floats, Floats]:
    model = LatencyModel.fit([Row(table.structures[i], table.latencies[i]) for i in fitted])
    found = [model.predict(table.structures[i]) for i in others]
    intervals = np.array([(p.low_ms, p.high_ms) for p in found])
    return np.array([p.latency_ms for p in found]), intervals


def law_only(table: Table, fitted: Indices, others: Indices) -> tuple[Floats, None]:
    law = Law.fit(table.matrix[fitted], table.latencies[fitted], RIDGE, ALIKE)
    return np.array([law.estimate(vector) for vector in table.matrix[others]]), None


def multiply_adds_only(table: Table, fitted: Indices, others: Indices) -> tuple[Floats, None]:
    """latency = a + b x multiply-adds, least relative squares."""
    sides = [np.column_stack([table.work[rows], np.ones(len(rows))]) for rows in (fitted, others)]
    latencies = table.latencies[fitted]
    weights, *_ = np.linalg.lstsq(sides[0] / latencies[:, None], np.ones(len(latencies)), rcond=None)
    return np.maximum(sides[1] @ weights, latencies.min() / 100), None


def random_forest(table: Table, fitted: Indices, others: Indices) -> tuple[Floats, None]:
    logs = np.log1p(table.matrix)
    model = RandomForestRegressor(300, random_state=0).fit(logs[fitted], np.log(table.latencies[fitted]))
    return np.exp(model.predict(logs[others])), None


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
    parser.add_argument("--structures", type=Path, help="keep the structures here, and find them again")
    arguments = parser.parse_args()
    began = time.monotonic()
    table = read_table(arguments.csv, arguments.max_ms, arguments.structures)
    seconds = time.monotonic() - began
    methods: dict[str, tuple[Predictor, bool]] = {
        "chosen": (ours, True),
        "random": (ours, False),
        "law_only": (law_only, True),
        "multiply_adds_only": (multiply_adds_only, True),
        "random_forest": (random_forest, True),
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for split in range(arguments.splits):
        order = np.random.default_rng(split).permutation(len(table.names))
        pool = order[: len(order) // 2]
        best = pool[list(choose_probes([table.structures[i] for i in pool], arguments.fit))]
        for name, (predict, chosen) in methods.items():
            fitted = best if chosen else pool[: arguments.fit]
            others = np.setdiff1d(order, fitted)
            predicted, intervals = predict(table, fitted, others)
            results[name].append(judge(predicted, intervals, table.latencies[others]))
    means: dict[str, dict[str, Any]] = {
        name: {key: round(float(np.mean([split[key] for split in found])), 4) for key in found[0]}
        for name, found in results.items()
    }
    document = {
        **means["chosen"],
        "models": len(table.names),
        "left_out": table.left_out,
        "too_slow": table.too_slow,
        "fit": arguments.fit,
        "splits": arguments.splits,
        "max_ms": arguments.max_ms,
        "features": len(FEATURE_NAMES),
        "structures_seconds": round(seconds, 1),
        "methods": means,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"{len(table.names)} models; {len(table.left_out)} left out without a structure, {table.too_slow} beyond "
        f"{arguments.max_ms:g} ms"
    )
    for name, found in means.items():
        print(f"{name}: {', '.join(f'{key} {value:.3g}' for key, value in found.items())}")


if __name__ == "__main__":
    main()
