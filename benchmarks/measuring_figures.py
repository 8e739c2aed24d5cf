"""Figures of measuring for README and docs/devices.md, from what their scripts left in `benchmarks/results/`."""

from __future__ import annotations

import statistics
from typing import Any


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def pairs_row(found: Any) -> tuple[str, str, str]:
    rows = found["rows"]

    def middle(key: str) -> str:
        values = sorted(row[key] for row in rows if key in row)
        return f"{values[len(values) // 2]:.1%} ({values[0]:.1%} to {values[-1]:.1%})"

    bias = sorted(abs(row["bias"]) for row in rows)
    seconds = sorted(row["seconds_pair"] for row in rows)
    targets = ", ".join(sorted({row["target"] for row in rows}))
    older = ""
    if any("seconds_before" in row for row in rows):
        took = sorted(row["seconds_before"] for row in rows if "seconds_before" in row)
        older = f"; by the version before {middle('spread_before_p95')}, {took[len(took) // 2]:.1f} s a file"
    return (
        f"{len(rows)} files on {targets}, {found['sessions']} sessions of {found['seconds']:g} s each: "
        "spread of the ratio to the anchor from session to session, of p95 alone; bias of alternating; seconds a file",
        f"{middle('spread_pair_p95')}, {middle('spread_alone_p95')}; bias {bias[len(bias) // 2]:.1%}, at most "
        f"{bias[-1]:.1%}; {seconds[len(seconds) // 2]:.1f} s{older}",
        f"`python benchmarks/pairs.py --sessions {found['sessions']}{' --before CHECKOUT' if older else ''} --json FILE`",
    )


def neighbour_row(found: Any) -> tuple[str, str, str]:
    told = []
    for build in found:
        checked = build.get("stranger")
        inside = f", a stranger: {checked['inside']} of {checked['sessions']} sessions inside" if checked else ""
        told.append(f"{build['status']} in {duration(build['seconds'])}{inside}")
    return (
        "the digits example beside a busy loop on the other processor, half of the time",
        "; ".join(told),
        "`python benchmarks/neighbour.py & python benchmarks/demo.py --times 1 --json FILE --stranger 20`",
    )


def simulation_row(found: Any) -> tuple[str, str, str]:
    """The worst device of all kinds at each length of a state, and what is seldom proven though it should be."""
    quick = [row for row in found["rows"] if row["level"] == "quick"]

    def worst(share: float) -> str:
        return f"{max(row['false_rate'] for row in quick if row['lasts_of_period'] == share):.1%}"

    bounded = [row for row in quick if "no state longer" in row["kind"] and row["lasts_of_period"] <= 0.1]
    least = min(quick, key=lambda row: row["power"]["1.5"])
    return (
        "simulated devices of two speeds, in bursts and throttling: how often a quick proof says `met` where fewer sessions "
        "keep the limit than it claims, the worst device of all",
        f"{worst(0.05)} where states last a twentieth of the period in the mean, {worst(0.1)} a tenth, {worst(0.2)} a "
        f"fifth, {worst(1.0)} as long as the period; two speeds with no state longer than a tenth at most "
        f"{max(row['false_rate'] for row in bounded):.1%}. Limits at 1.5 times the 80th percentile are proven in at least "
        f"{least['power']['1.5']:.1%} of cases; the least is {least['kind']}",
        "`python benchmarks/proof_simulation.py --json FILE`",
    )


def pairs_table(found: Any) -> str:
    """By target, what moves from session to session and by how much one session misses, in the median over files."""
    lines = [
        "| target | files | p95 alone | ratio of p95 | ratio of medians | one session misses p95 by: ratio of p95 | ratio "
        "of medians | bias, its largest |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for target in dict.fromkeys(row["target"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["target"] == target]
        keys = ("spread_alone_p95", "spread_pair_p95", "spread_pair_p50", "misses_by_p95", "misses_by_p50")
        cells = [f"{statistics.median(row[key] for row in rows):.1%}" for key in keys]
        bias = [abs(row["bias"]) for row in rows]
        cells.append(f"{statistics.median(bias):.1%}, {max(bias):.1%}")
        lines.append(f"| `{target}` | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
