"""The latency model on a table of many models: fitted to some rows, how well does it predict the others?

    python benchmarks/latency_table.py --csv F [--fit 40,20,80] [--splits 20] [--max-ms 40] --json OUT [--structures FILE]

F has the columns of timm's published benchmark tables: model, infer_img_size, infer_step_time (ms at batch 1), infer_gmacs.
Structures are read off the timm models themselves, on torch's meta device, and kept in --structures. Rows beyond --max-ms
are left out and counted; so are models that this timm does not have, or not at this resolution, each with its cause.

`families_left_out`: a family is the module of timm that a model is registered in. A split deals the families into five
folds; each fold is predicted by a model fitted to --fit rows of the other families, those that tell most (`choose_probes`: a
build chooses its probes so), or beside it drawn at random. Features and ridge were chosen by these figures, of timm's table
of a desktop CPU: on that table they flatter the model all the same. `as_before`: a split draws half of the rows, chooses or
draws --fit of them, and predicts all others. Beside the model, on the rows that were chosen: a law of multiply-adds alone,
and a random forest on the logs of the features. `unseen_kinds`: fitted to --fit rows without one kind of operation, drawn at
random, all that have it are predicted.

Shares of the measured latency, coverage of intervals that promise 90%, and their median width (high / low); means over the
splits, and the spread of the mean error over them. The keys on top are `as_before`, of the first of --fit.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from timm.models import _registry

from edgedistill.devices.latency.features import FEATURE_NAMES, features_of
from edgedistill.devices.latency.model import LatencyModel, Row, choose_probes
from edgedistill.networks.counting import structure_of
from edgedistill.networks.structure import OperationKind, Structure

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Predictor = Callable[["Table", Indices, Indices], tuple[Floats, Floats | None]]
# One round of rows to choose from, and rows to predict; more rounds follow where one split has several folds.
Rounds = list[tuple[Indices, Indices]]
FOLDS = 5
FEWEST = 50


def structure_of_model(name: str, side: int) -> Structure | str:
    """The structure of timm's model, or why there is none: this timm does not have it, or not at this resolution."""
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False).eval()
            settings = timm.get_pretrained_cfg(name)
            if settings is not None and settings.fixed_input_size and settings.input_size[-1] != side:
                network = timm.create_model(name, pretrained=False, img_size=side).eval()
            return structure_of(network, side)
    except Exception as error:  # whatever timm's hundreds of models raise: it is recorded with the model's name
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass(frozen=True)
class Table:
    """Models that were measured: names, families, structures, features [n, k], the table's own multiply-adds [n],
    latencies in ms [n]. `too_slow` counts rows beyond the limit; `left_out` are models without a structure, with the
    cause."""

    names: list[str]
    families: list[str]
    structures: list[Structure]
    matrix: Floats
    work: Floats
    latencies: Floats
    too_slow: int
    left_out: dict[str, str]


def read_table(path: Path, max_ms: float, kept: Path | None) -> Table:
    cache: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    names, families, structures, work, latencies, too_slow = [], [], [], [], [], 0
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
        families.append(_registry._model_to_module[row["model"].split(".")[0]])
        structures.append(Structure.model_validate(cache[key]))
        work.append(max(float(row["infer_gmacs"]), 1e-3) * 1e9)
        latencies.append(float(row["infer_step_time"]))
    if kept:
        kept.write_text(json.dumps(cache))
    matrix = np.stack([features_of(structure) for structure in structures])
    return Table(names, families, structures, matrix, np.array(work), np.array(latencies), too_slow, left_out)


def ours(table: Table, fitted: Indices, others: Indices) -> tuple[Floats, Floats]:
    model = LatencyModel.fit([Row(table.structures[i], table.latencies[i]) for i in fitted])
    found = [model.predict(table.structures[i]) for i in others]
    intervals = np.array([(p.low, p.high) for p in found])
    return np.array([p.value for p in found]), intervals


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
        found["coverage"] = float(((intervals[:, 0] <= measured) & (measured <= intervals[:, 1])).mean())
        found["interval_width"] = float(np.median(intervals[:, 1] / intervals[:, 0]))
    return found


def of_families(table: Table, split: int) -> Rounds:
    """Each fold of families once to be predicted, with all others to choose from."""
    names, of = np.unique(table.families, return_inverse=True)
    fold = (np.random.default_rng(split).permutation(len(names)).argsort() % FOLDS)[of]
    return [(np.flatnonzero(fold != part), np.flatnonzero(fold == part)) for part in range(FOLDS)]


def of_halves(table: Table, split: int) -> Rounds:
    """Half of the rows to choose from; what is not chosen of all is to be predicted."""
    order = np.random.default_rng(split).permutation(len(table.names))
    return [(order[: len(order) // 2], order)]


def tried(table: Table, rounds: Rounds, count: int, predict: Predictor, chosen: bool) -> dict[str, float]:
    """Figures of one split, over the predictions of all its rounds."""
    found = []
    for number, (pool, others) in enumerate(rounds):
        drawn = np.random.default_rng(number).permutation(pool)[:count]
        fitted = pool[list(choose_probes([table.structures[i] for i in pool], count))] if chosen else drawn
        rest = np.setdiff1d(others, fitted)
        found.append((*predict(table, fitted, rest), rest))
    predicted, intervals, rest = zip(*found, strict=True)
    whole = None if intervals[0] is None else np.concatenate(intervals)
    return judge(np.concatenate(predicted), whole, table.latencies[np.concatenate(rest)])


def without_kinds(table: Table, count: int, splits: int) -> Iterator[tuple[OperationKind, Rounds]]:
    """Kinds of operations that enough rows lack and have, with rounds of rows without to fit to and all with to predict."""
    for kind in OperationKind:
        has = np.array([kind in {total.kind for total in structure.totals} for structure in table.structures])
        if min(has.sum(), (~has).sum() - count) >= FEWEST:
            lacking = np.flatnonzero(~has)
            drawn = [np.random.default_rng(split).permutation(lacking)[:count] for split in range(splits)]
            yield kind, [(rows, np.flatnonzero(has)) for rows in drawn]


def summed(splits: list[dict[str, float]]) -> dict[str, float]:
    means = {key: round(float(np.mean([split[key] for split in splits])), 4) for key in splits[0]}
    return {**means, "mape_spread": round(float(np.std([split["mape"] for split in splits])), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--fit", default="40,20,80")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--max-ms", type=float, default=40.0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--structures", type=Path, help="keep the structures here, and find them again")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.fit.split(",")]
    table = read_table(arguments.csv, arguments.max_ms, arguments.structures)
    methods: dict[str, tuple[Predictor, bool]] = {
        "chosen": (ours, True),
        "random": (ours, False),
        "multiply_adds_only": (multiply_adds_only, True),
        "random_forest": (random_forest, True),
    }
    figures: dict[str, dict[int, dict[str, Any]]] = {}
    for protocol, rounds_of in (("as_before", of_halves), ("families_left_out", of_families)):
        figures[protocol] = {
            count: {
                name: summed([tried(table, rounds_of(table, s), count, *method) for s in range(arguments.splits)])
                for name, method in methods.items()
            }
            for count in counts
        }
    first = counts[0]
    unseen = {
        kind.value: summed([tried(table, [each], first, ours, False) for each in rounds])
        for kind, rounds in without_kinds(table, first, arguments.splits)
    }
    document = {
        **figures["as_before"][first]["chosen"],
        "models": len(table.names),
        "families": len(set(table.families)),
        "left_out": table.left_out,
        "too_slow": table.too_slow,
        "fit": first,
        "splits": arguments.splits,
        "max_ms": arguments.max_ms,
        "features": len(FEATURE_NAMES),
        "methods": figures["as_before"][first],
        **figures,
        "unseen_kinds": unseen,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"{len(table.names)} models; {len(table.left_out)} left out without a structure, {table.too_slow} beyond "
        f"{arguments.max_ms:g} ms"
    )
    figures["unseen_kinds"] = {first: unseen}
    for protocol, by_count in figures.items():
        for count, by_name in by_count.items():
            for name, found in by_name.items():
                print(f"{protocol} {count} {name}: {', '.join(f'{key} {value:.3g}' for key, value in found.items())}")


if __name__ == "__main__":
    main()
