"""The figures of README and docs, written from what the other scripts left in `benchmarks/results/`.

python benchmarks/figures.py write               rewrite them
python benchmarks/figures.py check               exit code 1 if they are not what the results give
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import device_figures
import embedding_figures
import format_figures
import hand_figures
import length_figures
import measuring_figures
import process_figures
import rate_figures
import recipe_figures
import rung_figures
import search_figures
import signal_figures
import way_figures
from sections import duration, result, table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BEGIN, END = "<!-- figures: python benchmarks/figures.py write -->\n", "<!-- end of figures -->\n"
MACHINE = "A rented machine with two cores (AMD EPYC, busy neighbours) and no GPU."


def readme() -> str:
    """The figures of the README: one a row."""
    builds, budgets = result("demo"), result("search_budgets")
    checks = [[build[key] for build in builds if build.get(key)] for key in ("stranger", "later")]
    inside = [f"{sum(c['inside'] for c in found)} of {sum(c['sessions'] for c in found)}" for found in checks]
    points = max(row["search"]["points_below_provable"] for row in budgets["rows"] if row["search"]["proven"])
    zoo, predicted = result("zoo")["rows"], result("calibrate_host")
    rows = (
        (
            "digits example, from an empty cache: median time",
            duration(statistics.median(b["seconds"] for b in builds)),
        ),
        ("digits example: budget met", f"{sum(b['status'] == 'met' for b in builds)} of {len(builds)}"),
        ("plain ONNX Runtime: sessions inside the budget afterwards", inside[0]),
        ("the same, an hour or more later", inside[1]),
        ("ten budgets: proven, of those that brute force proves", f"{budgets['proven']} of {budgets['provable']}"),
        ("largest loss beside brute force, in points", f"{points:.1f}"),
        ("latency of 30 students predicted from 20: mean error", f"{predicted['fp32']['mape']:.1%}"),
        *recipe_figures.readme_rows(),
        *hand_figures.readme_rows(),
        (
            "timm models: files that agree with their model",
            f"{sum(r['ok'] for r in zoo)} of {len(zoo)}",
        ),
    )
    return "\n".join(table(("what", "#figure"), rows)) + "\n"


def app_walk() -> str:
    """What each command of docs/tutorials/app.md takes."""
    found = result("app_walk")
    rows = tuple((f"`{row['command']}`", f"{row['seconds']:.1f} s") for row in found["rows"])
    command = "python benchmarks/app_walk.py examples/clipart/out --json benchmarks/results/app_walk.json"
    return "\n".join([f"    {command}", "", *table(("command", "#time"), rows)]) + "\n"


def benchmarks() -> str:
    """docs/benchmarks/index.md."""
    sections = [
        measuring_figures.builds(),
        measuring_figures.kills(),
        search_figures.budgets(),
        search_figures.close_budgets(),
        measuring_figures.simulation(),
        measuring_figures.pairs(),
        search_figures.calibration(),
        search_figures.latency(),
        search_figures.ranking(),
        *(one.section() for one in recipe_figures.found()),
        *recipe_figures.pictures(),
        *length_figures.sections(),
        *length_figures.unlabelled(),
        *hand_figures.sections(),
        *embedding_figures.sections(),
        *rung_figures.sections(),
        *rate_figures.sections(),
        *signal_figures.sections(),
        *process_figures.sections(),
        *way_figures.sections(),
        *device_figures.sections(),
        *format_figures.sections(),
    ]
    head = [
        "# Benchmarks",
        "",
        "Every figure here came from the command that stands above its table. `python benchmarks/figures.py write` "
        "writes the page",
        f"from the output of these commands in `benchmarks/results/`. {MACHINE}",
        "",
    ]
    return "\n".join([*head, *(line for section in sections for line in section.lines())])


def with_block(page: str, text: str) -> str:
    """The page with its block of figures replaced by `text`."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write")
    commands.add_parser("check")
    arguments = parser.parse_args()
    explanation = DOCS / "explanation"
    blocks = {
        ROOT / "README.md": readme(),
        DOCS / "tutorials" / "app.md": app_walk(),
        explanation / "measuring.md": measuring_figures.pairs_table(),
        explanation / "search.md": search_figures.budgets_table(),
        explanation / "latency-model.md": search_figures.latency_table(),
    }
    pages = {path: with_block(path.read_text(), text) for path, text in blocks.items()}
    pages[DOCS / "benchmarks" / "index.md"] = benchmarks()
    pages[DOCS / "benchmarks" / "models.md"] = format_figures.page()
    pages |= {one.path(DOCS / "benchmarks"): one.plot() for one in recipe_figures.found()}
    if arguments.command == "check":
        return int(any(not path.is_file() or path.read_text() != content for path, content in pages.items()))
    for path, content in pages.items():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
