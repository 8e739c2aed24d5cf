"""README's table of figures and docs/models.md, written from what the other scripts left in `benchmarks/results/`.

python benchmarks/figures.py record NAME OUT     keep what the table needs of the build in OUT as NAME_build.json
python benchmarks/figures.py write               rewrite both
python benchmarks/figures.py check               exit code 1 if they are not what the results give
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import format_figures
import search_figures

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README, MODELS = ROOT / "README.md", ROOT / "docs" / "models.md"
BEGIN, END = "<!-- figures: python benchmarks/figures.py write -->\n", "<!-- end of figures -->\n"
TITLES = {"digits": "digits", "fashion_mnist": "Fashion-MNIST"}


def record(name: str, out: Path) -> None:
    """Keep verdict, student, teacher, proof and the best candidate that was more accurate than the winner at the first rung
    and that the budget turned away, if there is one."""
    build = json.loads((out / "build.json").read_text())
    student = {key: build["student"][key] for key in ("family", "width", "depth", "resolution", "kernel", "expansion")}
    won = next(t for t in build["trials"] if student.items() <= t["spec"].items())

    def early(trial: dict[str, Any]) -> float:
        return trial["rungs"][0]["accuracy_validation"] if trial["rungs"] else 0.0

    away = [t for t in build["trials"] if t["state"] == "over_budget" and early(t) > early(won)]
    best = max(away, key=early, default=None)
    document = {
        "status": build["status"],
        "seconds": build["seconds"],
        "processor": build["environment"]["processor"],
        "budget": build["constraints"][0]["budget"],
        "student": student,
        "shipped": next(a for a in build["artifacts"] if a["sha256"] == build["proof"]["artifact_sha256"]),
        "test_images": build["data"]["test"],
        "teacher": build["teacher"],
        "bound_ms": max(build["proof"]["bounds_ms"]),
        "first_rung_accuracy": early(won),
        "turned_away": best
        and {
            "student": best["spec"],
            "first_rung_accuracy": early(best),
            "reason": best["reason"],
        },
    }
    (RESULTS / f"{name}_build.json").write_text(json.dumps(document, indent=1) + "\n")


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def label(student: dict[str, Any]) -> str:
    return f"{student['family']} w{student['width']:g} d{student['depth']:g} @{student['resolution']}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def build_rows(name: str, command: str) -> list[tuple[str, str, str]]:
    """What a build shipped beside its teacher, whether its budget binds, and whether its latency comes out again."""
    build, again = result(f"{name}_build"), result(f"{name}_latency_again")
    shipped, teacher = build["shipped"], build["teacher"]
    moved = {row["figure"]: row["difference"] for row in again if row["file"] == shipped["path"]}
    title = TITLES[name]
    return [
        (
            f"{title}: {label(build['student'])}, {shipped['precision']}, beside its teacher {teacher['name']}",
            f"p95 {shipped['latency']['p95_ms']:.4f} ms and {teacher['latency']['p95_ms']:.3g} ms, "
            f"test accuracy {shipped['accuracy']:.2%} and {teacher['accuracy']:.2%} ({build['test_images']:,} images)",
            command,
        ),
        (
            f"{title}: bound of the proof, and the budget",
            f"{build['bound_ms']:.4f} ms, {build['budget']['latency_ms']:.4f} ms "
            f"({build['budget']['share_of_teacher']:.1%} of the teacher's)",
            "the same",
        ),
        *_turned_away(build, title),
        (
            f"{title}: `build.json` measured again by plain ONNX Runtime in a loop",
            f"p50 {moved['p50_ms']:+.1%}, p95 {moved['p95_ms']:+.1%}",
            f"`python benchmarks/reproduce_latency.py examples/{name}/out`",
        ),
    ]


def _turned_away(build: dict[str, Any], title: str) -> list[tuple[str, str, str]]:
    if (away := build["turned_away"]) is None:
        return []
    told = (
        f"{label(away['student'])}: {away['first_rung_accuracy']:.1%}, the winner {build['first_rung_accuracy']:.1%}; "
        f"{away['reason']}"
    )
    return [(f"{title}: turned away by its measurement, though more accurate at the first rung", told, "the same")]


def latency_rows() -> list[tuple[str, str, str]]:
    found = result("latency_table")
    drawn = found["methods"]["random"]
    rows = [
        (
            f"the latency model on {found['models']} timm models that others measured on a desktop CPU (up to "
            f"{found['max_ms']:g} ms), fitted to {found['fit']} that it chose, beside as many drawn at random: median "
            "error, mean error, within 10%",
            f"{_errors(found)}; {_errors(drawn)}; its 95% interval covers {found['coverage_95']:.1%}",
            "`python benchmarks/latency_table.py --csv FILE --json FILE`",
        )
    ]
    for name in ("latency_table_20", "latency_table_80", "latency_table_160"):
        found = result(name)
        rows.append(
            (
                f"the same fitted to {found['fit']} that it chose, beside the linear law alone",
                f"{_errors(found)}; {_errors(found['methods']['law_only'])}; its 95% interval covers "
                f"{found['coverage_95']:.1%}",
                f"`python benchmarks/latency_table.py --fit {found['fit']} --csv FILE --json FILE`",
            )
        )
    return rows


def _errors(found: dict[str, Any]) -> str:
    return f"{found['median_error']:.1%}, {found['mape']:.1%}, {found['within_10']:.0%}"


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
    again, gain = result("incremental"), result("distillation_gain")
    killed = [build for path in sorted(RESULTS.glob("kill_resume*.json")) for build in result(path.stem)["builds"]]
    landed = sum(kill["killed"] for build in killed for kill in build["kills"])
    met = sum(build["status"] == "met" for build in killed)
    same = sum(build["same_student"] for build in killed)
    measured = sum(build["in_the_undisturbed_build"].startswith("over_budget") for build in killed)
    unproposed = sum(build["in_the_undisturbed_build"] == "not proposed" for build in killed)
    outranked = sum(build["in_the_undisturbed_build"].startswith("pruned") for build in killed)
    twice = sum(len(build["stages_done_twice"]) for build in killed)
    damaged = sum(len(build["damaged"]) for build in killed)

    def accuracy(recipe: str) -> str:
        test = gain["summary"][recipe]["test"]
        return f"{test['mean']:.2%} ({test['low']:.2%} to {test['high']:.2%})"

    digits = duration(result("digits_build")["seconds"])
    return [
        ("the digits example from an empty cache, all three formats, after the install", digits, "`make demo`"),
        *build_rows("digits", "`make demo`"),
        *build_rows("fashion_mnist", "`edgedistill build examples/fashion_mnist/build.toml`"),
        (
            f"Fashion-MNIST: {label(gain['student'])} after {gain['epochs']} epochs, test accuracy over "
            f"{len(gain['rows']) // 2} seeds, trained with labels only and distilled",
            f"{accuracy('cross_entropy')} and {accuracy('distill')}",
            "`python benchmarks/distillation_gain.py examples/fashion_mnist/build.toml --student resnet,0.1875,0.5,16`",
        ),
        (
            "kill -9 at random moments of the digits example, each followed by the same command",
            f"{landed} kills in {len(killed)} builds: {met} ended `met`, {same} with the student of an undisturbed build, "
            f"{measured} with one that a measurement had turned away there, {unproposed} with one that the latency model, "
            f"fitted to other measurements, had not proposed there, {outranked} with one that more accurate candidates had "
            f"outranked there; {twice} finished stages done twice, "
            f"{damaged} damaged files",
            "`python benchmarks/kill_resume.py examples/digits/build.toml --kills 20 --per-build 2`",
        ),
        (
            "the same build again",
            f"{again['same_build_again_s']:.2f} s",
            "`python benchmarks/incremental.py examples/digits/build.toml`",
        ),
        (
            f"the digits budget changed to {again['budget_changed_to']}: teacher, views and whatever it meets again reused",
            duration(again["budget_changed_s"]),
            "the same",
        ),
        (
            "`edgedistill --help`, beside `python -c \"import typer, rich\"`",
            f"{again['help_s']:.2f} s, {again['import_typer_rich_s']:.2f} s",
            "the same",
        ),
        *latency_rows(),
        search_figures.calibrate_row(result("calibrate_host")),
        search_figures.targets_row(result("two_targets")),
        *search_figures.budgets_row(result("search_budgets")),
        search_figures.ranked_row(result("rank_space")),
        families_row(),
        *format_figures.rows(),
    ]  # fmt: skip


def table() -> str:
    lines = ["| what | figure | command |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | {command} |" for what, figure, command in rows()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("name", choices=TITLES)
    recording.add_argument("out", type=Path)
    commands.add_parser("write")
    commands.add_parser("check")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.name, arguments.out)
        return 0
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    wanted = head + BEGIN + "\n" + table() + "\n" + END + tail
    pages = {README: wanted, MODELS: format_figures.page()}
    if arguments.command == "check":
        return int(any(not path.is_file() or path.read_text() != content for path, content in pages.items()))
    for path, content in pages.items():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
