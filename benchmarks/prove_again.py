"""Are the files that the search proved at ten budgets inside them? Plain ONNX Runtime, nothing of edgedistill imported.

    python benchmarks/prove_again.py --budgets benchmarks/results/search_budgets.json --cache DIR [--json FILE]

Each winner's file is run at batch 1 in three fresh processes pinned to the last CPU, at the speed of the processor that the
budgets were proven at (see plain_latency.py). Printed are p95 of each and the budget; a budget is kept where the median over
the processes is inside it, and `strictly` where p95 of every process is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from pathlib import Path

from plain_latency import plain_latency

RUNS = 2000
PROCESSES = 3


def p95_ms(model: Path, wanted_us: float | None) -> tuple[float, float]:
    """p95 of `RUNS` runs at the speed wanted, and the processor's speed in us."""
    found = plain_latency(model, None, RUNS, wanted_us)
    return sorted(found.samples_ms)[int(0.95 * RUNS)], found.speed_us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    budgets = json.loads(arguments.budgets.read_text())
    wanted_us = budgets["reference_us"]
    for row in budgets["rows"]:
        found = row["search"]
        if not found["proven"]:
            continue
        seen = []
        for _ in range(PROCESSES):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                seen.append(process.apply(p95_ms, (arguments.cache / found["file"], wanted_us)))
        budget_ms, p95s = row["budget_ms"], [p95 for p95, _ in seen]
        rows.append(
            {
                "student": found["student"],
                "precision": found["precision"],
                "budget_ms": budget_ms,
                "bound_ms": found["bound_ms"],
                "p95_ms": p95s,
                "reference_us": [speed_us for _, speed_us in seen],
                "kept": statistics.median(p95s) <= budget_ms,
                "strictly": max(p95s) <= budget_ms,
            }
        )
        shown = ", ".join(f"{ms:.4f}" for ms in p95s)
        print(f"{found['student']} {found['precision']}: {shown} ms, budget {budget_ms:.4f} ms", flush=True)
    kept, strictly = sum(row["kept"] for row in rows), sum(row["strictly"] for row in rows)
    print(f"{kept} of {len(rows)} budgets kept, {strictly} in every process")
    if arguments.json:
        arguments.json.write_text(json.dumps({"kept": kept, "strictly": strictly, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
