"""Rows of README's table of figures on calibration and search, from what their scripts left in `benchmarks/results/`."""

from __future__ import annotations

from typing import Any

Figures = tuple[str, str, str]


def calibrate_row(found: dict[str, Any]) -> Figures:
    """`calibrate` on this host: what 20 measured students tell of 30 others."""
    parts = [
        f"{name}: mean error {one['mape']:.1%}, median {one['median_error']:.1%}, Spearman {one['spearman']:.3f}, "
        f"calibrated in {one['calibrate_seconds']:.0f} s, and the same files measured again differ by "
        f"{one['again']['mean_difference']:.1%}"
        for name, one in found.items()
        if name in ("fp32", "int8")
    ]
    one = found["fp32"]
    return (
        f"`calibrate` on {one['models']} students, latency of {one['others']} others predicted (ONNX Runtime on two rented "
        "cores)",
        "; ".join(parts),
        "`python benchmarks/calibrate_host.py --json FILE`",
    )


def budgets_row(found: dict[str, Any]) -> Figures:
    """The search at ten budgets, and what a stranger found of its proofs."""
    rows = found["rows"]
    below = [row["search"]["points_below_provable"] for row in rows if row["search"]["proven"]]
    test = [one for row in rows if (one := row["search"]["points_below_test"]) is not None]
    shares = [row["train_share"] for row in rows]
    checked = [row["stranger"] for row in rows if "stranger" in row]
    kept = sum(one["inside"] >= 0.8 * one["sessions"] for one in checked)
    return (
        f"the search at {len(rows)} budgets over {found['students']} students of Fashion-MNIST that brute force trained and "
        "measured: proven, of what brute force can prove; points below that on the validation split, below the best inside "
        "on the test split; share of its training; strangers with at least 80% of their sessions inside",
        f"{found['proven']} of {found['provable']}; at most {max(below, default=0):.2f}, {max(test, default=0):.2f}; "
        f"{min(shares):.0%} to {max(shares):.0%}; {kept} of {len(checked)}",
        "`python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows FILE --prove --stranger 20 --json FILE`",
    )


def times_row(found: dict[str, Any]) -> Figures:
    """The search at budgets that are so many times a file's true p95: how often it says `met`, and what a stranger found."""
    factors = sorted({row["times_true_p95"] for row in found["rows"]})
    parts, students = [], len(found["rows"]) // len(factors)
    for factor in factors:
        rows = [row for row in found["rows"] if row["times_true_p95"] == factor]
        checked = [row["stranger"] for row in rows if "stranger" in row]
        inside, sessions = sum(one["inside"] for one in checked), sum(one["sessions"] for one in checked)
        parts.append(
            f"{factor:g} times: {sum(row['search']['proven'] for row in rows)} of {len(rows)}; {inside} of {sessions}"
        )
    return (
        f"the search at budgets that are so many times the p95 of {students} of these students' files (by 60 sessions of "
        "plain ONNX Runtime): how often it says `met`; a stranger's sessions inside",
        "; ".join(parts),
        "`python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows FILE --prove --stranger 20 --times "
        f"{','.join(f'{one:g}' for one in factors)} --of {students} --json FILE`",
    )


def ranked_row(found: dict[str, Any]) -> Figures:
    """Ranking a large space."""
    return (
        f"{found['candidates']:,} candidates counted and ranked, cold and from the stored ones",
        f"{found['cold_seconds']:.0f} s, {found['warm_seconds']:.1f} s",
        "`python benchmarks/rank_space.py --json FILE`",
    )


def budgets_table(found: dict[str, Any]) -> str:
    """What the search found at each budget."""
    lines = [
        "| budget, ms | inside | provable | found and proven | its accuracy | training, of brute force's | a stranger's "
        "sessions inside |",
        "|--:|--:|--:|---|--:|--:|--:|",
    ]
    for row in found["rows"]:
        one, checked = row["search"], row.get("stranger")
        cells = [
            f"{row['budget_ms']:.3f}",
            str(row["inside"]),
            _share(row["best_provable"]),
            f"`{one['student']}` {one['precision']}" if one["proven"] else "not met",
            _share(one["accuracy"]),
            f"{row['train_share']:.0%}",
            f"{checked['inside']} of {checked['sessions']}" if checked else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def latency_table(found: dict[str, Any]) -> str:
    """The latency model's errors on other people's measurements, by how many rows it was fitted to."""
    lines = [
        "| rows | families left out: median, mean error | within 10% | inside the interval | as before (half of all rows): "
        "median, mean error | within 10% | inside |",
        "|---|---|---|---|---|---|---|",
    ]
    for fit in ("20", "40", "80"):
        for method in ("chosen", "random"):
            cells = [
                cell
                for part in ("families_left_out", "as_before")
                for one in (found[part][fit][method],)
                for cell in (
                    f"{one['median_error']:.1%}, {one['mape']:.1%}",
                    f"{one['within_10']:.0%}",
                    f"{one['coverage']:.0%}",
                )
            ]
            lines.append(f"| {fit} {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
