"""Sections on prediction and search, from what their scripts left in `benchmarks/results/`."""

from __future__ import annotations

from typing import Any

from sections import Section, result, table

BUDGETS = (
    "python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows FILE --prove --stranger 20 --json FILE"
)
_ERRORS = {
    "#median error": "median_error",
    "#mean error": "mape",
    "#within 10%": "within_10",
    "#inside interval": "coverage",
}


def calibration() -> Section:
    found = result("calibrate_host")
    measured = {name: one for name, one in found.items() if name in ("fp32", "int8")}
    one = measured["fp32"]
    rows = [
        (
            name,
            f"{one['calibrate_seconds']:.0f} s",
            *(f"{one[key]:.1%}" for key in _ERRORS.values()),
            f"{one['spearman']:.3f}",
            f"{one['again']['mean_difference']:.1%}",
        )
        for name, one in measured.items()
    ]
    return Section(
        "Latency predicted from a calibration",
        f"`calibrate` measures {one['models']} students on ONNX Runtime; the latency of {one['others']} others, drawn at"
        " random, is predicted and then measured. Beside it stands by how much the same files differ when they are "
        "measured again.",
        "python benchmarks/calibrate_host.py --json FILE",
        ("precision", "#calibration", *_ERRORS, "#Spearman", "#measured again"),
        tuple(rows),
    )


def latency() -> Section:
    found = result("latency_table")
    return Section(
        "Latency of other people's measurements",
        f"The latency model is fitted to some of {found['models']} timm models that others measured on a desktop CPU, "
        "and predicts the rest. Families of networks are left out, or half of all models at random. Means over 20 "
        "splits.",
        "python benchmarks/latency_table.py --csv FILE --json FILE",
        *_latency(),
    )


def _latency() -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    found = result("latency_table")
    parts = {"families": "families_left_out", "half at random": "as_before"}
    rows = [
        (name, fit, method, *(f"{found[part][fit][method][key]:.1%}" for key in _ERRORS.values()))
        for name, part in parts.items()
        for fit in ("20", "40", "80")
        for method in ("chosen", "random")
    ]
    return ("left out", "#fitted to", "rows", *_ERRORS), tuple(rows)


def latency_table() -> str:
    """The same figures for the page on the latency model."""
    return "\n".join(table(*_latency())) + "\n"


def budgets() -> Section:
    found = result("search_budgets")
    return Section(
        "The search against brute force",
        f"Brute force trained and measured {found['students']} students of Fashion-MNIST. The search is asked for ten "
        "budgets over the same students. `provable` is the best validation accuracy that brute force can prove at that "
        "budget. The last column is a later check with plain ONNX Runtime.",
        BUDGETS,
        *_budgets(found),
    )


def _budgets(found: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = []
    for row in found["rows"]:
        one, checked = row["search"], row.get("stranger")
        rows.append(
            (
                f"{row['budget_ms']:.3f} ms",
                str(row["inside"]),
                _share(row["best_provable"]),
                f"`{one['student']}`" if one["proven"] else "not met",
                one["precision"] if one["proven"] else "-",
                _share(one["quality"]),
                f"{row['train_share']:.0%}",
                f"{checked['inside']} of {checked['sessions']}" if checked else "-",
            )
        )
    columns = ("#budget", "#files inside", "#provable", "proven student", "precision", "#its accuracy",
               "#training, of brute force's", "#sessions inside")  # fmt: skip
    return columns, tuple(rows)


def budgets_table() -> str:
    """The same figures for the page on search."""
    return "\n".join(table(*_budgets(result("search_budgets")))) + "\n"


def close_budgets() -> Section:
    """Budgets that are so many times a file's true p95."""
    rows = []
    for name in ("search_budgets_close", "search_budgets_times"):
        found = result(name)["rows"]
        for factor in sorted({row["times_true_p95"] for row in found}):
            of = [row for row in found if row["times_true_p95"] == factor]
            checked = [row["stranger"] for row in of if "stranger" in row]
            inside, sessions = sum(one["inside"] for one in checked), sum(one["sessions"] for one in checked)
            met = sum(row["search"]["proven"] for row in of)
            rows.append((f"{factor:g}", str(len(of)), f"{met} of {len(of)}", f"{inside} of {sessions}"))
    return Section(
        "Budgets close to a file's latency",
        "The true p95 of a file comes from 60 sessions of plain ONNX Runtime; the budget is so many times that. The "
        "table tells how often a search ends `met`, and how many sessions of a later check with plain ONNX Runtime are "
        "inside.",
        f"{BUDGETS} --times 1.1,1.25 --of 2    (and --times 1.5 --of 10)",
        ("#times the true p95", "#budgets", "#met", "#sessions inside"),
        tuple(rows),
    )


def ranking() -> Section:
    found = result("rank_space")
    return Section(
        "Ranking a large space",
        "All candidates of a space are counted and ranked by the latency model: from nothing, and from the stored counts.",
        "python benchmarks/rank_space.py --json FILE",
        ("#candidates", "#from nothing", "#from stored counts"),
        ((f"{found['candidates']:,}", f"{found['cold_seconds']:.0f} s", f"{found['warm_seconds']:.1f} s"),),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
