"""Rows of README's table of figures on calibration and search, from what their scripts left in `benchmarks/results/`."""

from __future__ import annotations

from typing import Any

Figures = tuple[str, str, str]


def calibrate_row(found: dict[str, Any]) -> Figures:
    """`calibrate` on this host: what 20 measured students tell of 30 others."""
    parts = [
        f"{name}: mean error {one['mape']:.1%}, median {one['median_error']:.1%}, Spearman {one['spearman']:.3f}, "
        f"calibrated in {one['calibrate_seconds']:.0f} s, and the same files measured again differ by "
        f"{one['again']['latency p95']['mean_difference']:.1%}"
        for name, one in found.items()
        if name in ("fp32", "int8")
    ]
    one = found["fp32"]
    return (
        f"`calibrate` on {one['models']} students, p95 of {one['others']} others predicted (ONNX Runtime on two rented "
        "cores)",
        "; ".join(parts),
        "`python benchmarks/calibrate_host.py --json FILE`",
    )


def targets_row(found: dict[str, Any]) -> Figures:
    """Two targets in one build beside two builds."""
    share, runs = found["share_of_two_builds"], found["runs"]
    apart = runs["first"]["seconds"] + runs["second"]["seconds"]
    ended = {title: [won["status"] for won in run["outcomes"].values()] for title, run in runs.items()}
    met = sum(status == "met" for statuses in ended.values() for status in statuses)
    count = sum(map(len, ended.values()))
    return (
        "a small build on the digits for two targets (this machine with ONNX Runtime and with LiteRT), empty caches: a "
        "winner each in one build, and one student for both, beside two builds",
        f"{share['both']:.0%} and {share['one_student']:.0%} of the {apart:.0f} s of two builds; {met} of {count} outcomes "
        "`met`",
        "`python benchmarks/two_targets.py benchmarks/two_targets.toml --json FILE`",
    )


def budgets_row(found: dict[str, Any]) -> list[Figures]:
    """The search at ten budgets, and what its quality model is worth."""
    rows = found["rows"]
    below = [row["search"]["points_below_provable"] for row in rows if row["search"]["proven"]]
    shares = [row["train_share"] for row in rows]
    chance = [row["random"]["points_below"] for row in rows if row["random"]["points_below"] is not None]
    command = (
        "`python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows benchmarks/results/brute_force.json "
        "--cache DIR --resamples 6 --json FILE`"
    )
    near = sum(b <= 0.5 for b in below)
    told = [
        (
            f"the search at ten budgets over {found['students']} students of Fashion-MNIST that brute force trained and "
            "measured: validation accuracy below the best that brute force can prove inside the budget, share of its "
            "training, proven in three new sessions",
            f"0.5 points or less at {near} of {len(below)} (worst {max(below):.2f}), {min(shares):.0%} to "
            f"{max(shares):.0%}, {found['proven']} of the {found['provable']} at which brute force can prove anything; "
            f"random search for as much training is {min(chance):.1f} to {max(chance):.1f} points below the best inside, "
            f"and prediction alone is outside the budget at {found['prediction_alone_outside']}",
            command,
        )
    ]
    by_trials: dict[int, dict[str, dict[str, Any]]] = {}
    for one in found["resampled"]:
        by_trials.setdefault(one["trials"], {})[one["kind"]] = one
    for trials, kinds in sorted(by_trials.items()):
        with_model, by_size = kinds["search"], kinds["by_size"]
        told.append(
            (
                f"the same over draws of three quarters of them, at most {trials} candidates ({with_model['searches']} "
                "searches), beside the search without its quality model",
                f"{with_model['points_below_mean']:.2f} points below on average{_nothing(with_model)}, "
                f"{by_size['points_below_mean']:.2f} without{_nothing(by_size)}",
                "the same",
            )
        )
    return told


def _nothing(one: dict[str, Any]) -> str:
    """Searches that are in no mean."""
    return f" ({one['nothing']} ended with nothing)" if one.get("nothing") else ""


def ranked_row(found: dict[str, Any]) -> Figures:
    """Ranking a large space."""
    return (
        f"{found['candidates']:,} candidates counted and ranked, cold and from the stored ones",
        f"{found['cold_seconds']:.0f} s, {found['warm_seconds']:.1f} s",
        "`python benchmarks/rank_space.py --json FILE`",
    )
