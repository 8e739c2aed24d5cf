"""The figures of README and docs, written from what the other scripts left in `benchmarks/results/`.

python benchmarks/figures.py write               rewrite them
python benchmarks/figures.py check               exit code 1 if they are not what the results give
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_figures
import measuring_figures
import search_figures
from measuring_figures import duration

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
BEGIN, END = "<!-- figures: python benchmarks/figures.py write -->\n", "<!-- end of figures -->\n"


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def label(student: dict[str, Any]) -> str:
    return f"{student['family']} w{student['width']:g} d{student['depth']:g} @{student['resolution']}"


def demo_rows() -> list[tuple[str, str, str]]:
    """The digits example several times, and what a stranger found of its proofs."""
    builds = result("demo")
    met = sum(build["status"] == "met" for build in builds)
    times = ", ".join(duration(build["seconds"]) for build in builds)
    rows = [
        (
            f"the digits example from an empty cache, {len(builds)} time{'s' * (len(builds) > 1)}, after the install",
            f"{times}; {met} of {len(builds)} `met`",
            "`python benchmarks/demo.py --json FILE --stranger 20 --keep DIR`, later `--later DIR`",
        )
    ]
    for number, build in enumerate(builds, 1):
        if (proof := build["proof"]) is None or not build["student"]:
            continue
        checked = build.get("stranger")
        low, high = min(proof["values"]), max(proof["values"])
        inside = f"; a stranger: {checked['inside']} of {checked['sessions']} sessions inside" if checked else ""
        if later := build.get("later"):
            inside += f", {later['inside']} of {later['sessions']} an hour or more later"
        rows.append(
            (
                f"build {number}: {label(build['student'])}, {build['precision']}; p95 as a share of the teacher's in "
                f"{len(proof['values'])} sessions, and the budget",
                f"{low:.2%} to {high:.2%}, {proof['limit']:.0%}; test accuracy {build['accuracy']:.2%}, the teacher's "
                f"{build['teacher_accuracy']:.2%}{inside}",
                "the same",
            )
        )
    return rows


def optional(name: str, row: Callable[[Any], tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The row of a result, where there is one."""
    return [row(result(name))] if (RESULTS / f"{name}.json").is_file() else []


def latency_rows() -> list[tuple[str, str, str]]:
    found = result("latency_table")
    rows = []
    for fit in ("20", "40", "80"):
        out, before = found["families_left_out"][fit]["chosen"], found["as_before"][fit]["chosen"]
        rows.append(
            (
                f"the latency model fitted to {fit} of {found['models']} timm models that others measured on a desktop CPU: "
                "median error, mean error, within 10%, inside its 90% interval; families left out, and models at random",
                f"{_errors(out)}; {_errors(before)}",
                "`python benchmarks/latency_table.py --csv FILE --json FILE`",
            )
        )
    return rows


def _errors(found: dict[str, Any]) -> str:
    return f"{found['median_error']:.1%}, {found['mape']:.1%}, {found['within_10']:.0%}, {found['coverage']:.0%}"


def families_row() -> tuple[str, str, str]:
    found = result("families")
    names = {row["family"] for row in found["rows"]}
    sides = ", ".join(map(str, sorted({row["resolution"] for row in found["rows"]})))
    return (
        f"the smallest student of each of {len(names)} families at {sides} px in five formats, each file run where "
        "something here runs it",
        f"{found['passed']} of {found['of']} files",
        "`python benchmarks/families.py --json FILE`",
    )


def rows() -> list[tuple[str, str, str]]:
    """The table: what, figure, command."""
    gain = result("distillation_gain")

    def accuracy(recipe: str) -> str:
        test = gain["summary"][recipe]["test"]
        return f"{test['mean']:.2%} ({test['low']:.2%} to {test['high']:.2%})"

    return [
        *demo_rows(),
        *optional("neighbour", measuring_figures.neighbour_row),
        *optional("pairs", measuring_figures.pairs_row),
        measuring_figures.simulation_row(result("proof_simulation")),
        (
            f"Fashion-MNIST: {label(gain['student'])} after {gain['epochs']} epochs, test accuracy over "
            f"{len(gain['rows']) // 2} seeds, trained with labels only and distilled",
            f"{accuracy('cross_entropy')} and {accuracy('distill')}",
            "`python benchmarks/distillation_gain.py examples/fashion_mnist/build.toml --student resnet,0.1875,0.5,16`",
        ),
        *latency_rows(),
        *optional("calibrate_host", search_figures.calibrate_row),
        *optional("search_budgets", search_figures.budgets_row),
        *optional("search_budgets_times", search_figures.times_row),
        *optional("search_budgets_close", search_figures.times_row),
        search_figures.ranked_row(result("rank_space")),
        families_row(),
        *format_figures.rows(),
    ]


def table() -> str:
    lines = ["| what | figure | command |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | {command} |" for what, figure, command in rows()]
    return "\n".join(lines) + "\n"


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
    pages = {
        ROOT / "README.md": table(),
        DOCS / "devices.md": measuring_figures.pairs_table(result("pairs")),
        DOCS / "search.md": search_figures.budgets_table(result("search_budgets")),
        DOCS / "calibration.md": search_figures.latency_table(result("latency_table")),
    }
    pages = {path: with_block(path.read_text(), text) for path, text in pages.items()}
    pages[DOCS / "models.md"] = format_figures.page()
    if arguments.command == "check":
        return int(any(not path.is_file() or path.read_text() != content for path, content in pages.items()))
    for path, content in pages.items():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
