"""Sections on measuring and proving, from what their scripts left in `benchmarks/results/`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from sections import Section, duration, label, result, table


def builds() -> Section:
    """The digits example several times, and once beside a busy loop."""
    rows = [_build(f"{number}", build) for number, build in enumerate(result("demo"), 1)]
    rows += [_build("beside a busy loop", build) for build in result("neighbour")]
    return Section(
        "The digits example",
        "Each build starts from an empty cache, after the install. The budget is a share of the teacher's own p95. The "
        "proof takes sessions of 3 s; the lowest and the highest share that it saw stand in the table. Afterwards plain"
        " ONNX Runtime takes 20 sessions of the same file in turn with the teacher's, without code of edgedistill: "
        "right after the build, and an hour or more later. The last row ran beside `python benchmarks/neighbour.py`, "
        "which keeps the other processor busy half of the time.",
        "python benchmarks/demo.py --times 3 --stranger 20 --keep DIR --json FILE    (later: --later DIR)",
        ("build", "#time", "result", "student", "precision", "#budget", "#lowest", "#highest", "#test accuracy",
         "#teacher's", "#inside, after", "#inside, later"),
        tuple(rows),
    )  # fmt: skip


def _build(name: str, build: dict[str, Any]) -> tuple[str, ...]:
    proof, checks = build["proof"], (build.get("stranger"), build.get("later"))
    if proof is None or not build["student"]:
        return name, duration(build["seconds"]), build["status"], *["-"] * 9
    return (
        name,
        duration(build["seconds"]),
        build["status"],
        f"`{label(build['student'])}`",
        build["precision"],
        f"{proof['limit']:.1%}",
        f"{min(proof['values']):.1%}",
        f"{max(proof['values']):.1%}",
        f"{build['quality']:.2%}",
        f"{build['teacher_quality']:.2%}",
        *(f"{one['inside']} of {one['sessions']}" if one else "not taken" for one in checks),
    )


def kills() -> Section:
    """The digits example killed again and again."""
    found = result("kill_resume")
    rows = [
        (
            f"{number}",
            f"{sum(kill['killed'] for kill in build['kills'])}",
            build["status"],
            f"`{label(build['student'])}`",
            f"{len(build['stages_done_twice'])}",
            f"{len(build['damaged'])}",
        )
        for number, build in enumerate(found["builds"], 1)
    ]
    return Section(
        "Builds that are killed",
        "Each build starts from an empty cache and is killed with signal 9 at random moments of the "
        f"{duration(found['undisturbed_s'])} that an undisturbed one took. Each kill is followed by the same command; the "
        "last runs to its end. No finished stage may be done twice, and every file must have the hash that is stated for "
        "it. Students differ, because each build takes its own measurements.",
        "python benchmarks/kill_resume.py examples/digits/build.toml --kills 20 --per-build 5 --json FILE",
        ("build", "#kills", "result", "student", "#stages done twice", "#damaged files"),
        tuple(rows),
    )


def pairs() -> Section:
    found = result("pairs")
    before = any("seconds_before" in row for row in found["rows"])
    return Section(
        "Pairs of files",
        f"Each file runs in turn with the anchor, and alone, {found['sessions']} sessions of {found['seconds']:g} s "
        "each. A spread is the standard deviation of the logarithm from session to session. The last columns say by how"
        " much one session misses the p95 of all of them, and by how much taking turns changes the ratio of medians "
        "(bias). Figures are medians over files.",
        f"python benchmarks/pairs.py --sessions {found['sessions']}{' --before CHECKOUT' if before else ''} --json FILE",
        *_pairs(found),
    )


_PAIRS = {
    "#spread, p95 alone": "spread_alone_p95",
    "#spread, ratio of p95": "spread_pair_p95",
    "#spread, ratio of medians": "spread_pair_p50",
    "#miss by ratio of p95": "misses_by_p95",
    "#miss by ratio of medians": "misses_by_p50",
}


def _pairs(found: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    lines = []
    for target in dict.fromkeys(row["target"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["target"] == target]
        bias = [abs(row["bias"]) for row in rows]
        seconds = statistics.median(row["seconds_pair"] for row in rows)
        cells = [f"{statistics.median(row[key] for row in rows):.1%}" for key in _PAIRS.values()]
        cells += [f"{statistics.median(bias):.1%}", f"{max(bias):.1%}", f"{seconds:.1f} s"]
        lines.append((f"`{target}`", str(len(rows)), *cells))
    return ("target", "#files", *_PAIRS, "#bias", "#largest bias", "#time a file"), tuple(lines)


def pairs_table() -> str:
    """The same figures for the page on measuring."""
    return "\n".join(table(*_pairs(result("pairs")))) + "\n"


def simulation() -> Section:
    """The worst device of all kinds at each length of a state."""
    found = result("proof_simulation")["rows"]
    lengths = (0.05, 0.1, 0.2, 1.0)

    def worst(rows: Sequence[Any]) -> tuple[str, ...]:
        at = [[row["false_rate"] for row in rows if row["lasts_of_period"] == length] for length in lengths]
        return tuple(f"{max(rates):.1%}" if rates else "not run" for rates in at)

    rows = []
    for level in dict.fromkeys(row["level"] for row in found):
        of_level = [row for row in found if row["level"] == level]
        bounded = [row for row in of_level if "no state longer" in row["kind"]]
        rows.append((level, "all kinds", *worst(of_level)))
        rows += [(level, "two speeds, no state longer than that", *worst(bounded))] if bounded else []
    return Section(
        "Proofs on simulated devices",
        "Simulated devices have two speeds, bursts, or throttling; the true share of sessions inside the budget is "
        "known. The table tells how often a proof is `met` although that share is below the claimed one, for the worst "
        "device. Columns are the mean length of a state as a share of the proof's period.",
        "python benchmarks/proof_simulation.py --json FILE",
        ("proof", "devices", *(f"#{length:g}" for length in lengths)),
        tuple(rows),
    )
