"""The figures of formats and quantisation: rows of README's table, and the whole of docs/models.md.

`figures.py` writes both, from what the benchmarks left in `benchmarks/results/`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FORMATS = ("onnx", "coreml", "tensorrt", "litert", "executorch")
TITLES = {"onnx": "ONNX", "coreml": "Core ML", "tensorrt": "TensorRT", "litert": "LiteRT", "executorch": "ExecuTorch"}
ZOO = "python benchmarks/zoo.py --models benchmarks/zoo_models.txt --keep DIR --measure --json FILE"
LADDER = "python benchmarks/ladder.py --work DIR --measure --json FILE"
TIMES = "python benchmarks/export_time.py --json FILE"


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows() -> list[tuple[str, str, str]]:
    """Rows of README's table: what, figure, command."""
    zoo, ladder, times = result("zoo"), result("ladder")["rows"], result("export_time")
    operators, hostile, cat = result("coreml_operators"), result("hostile_models"), result("imagenet_cat")
    models = len({row["model"] for row in zoo["rows"]})
    made = ", ".join(f"{TITLES[form]} {zoo['summary'][form].partition(' ')[0]}" for form in FORMATS)
    halves = " and ".join(f"{kind} {operators['precisions'][kind]['share_passed']:.1%}" for kind in ("fp16", "fp32"))
    losses = [row["winner"]["loss"] for row in ladder if row["winner"]]
    needed = Counter(row["needed"] for row in ladder)
    cats = [row for row in cat["rows"] if "top" in row]
    tops = Counter(row["top"][0]["index"] for row in cats)
    return [
        (
            f"{models} of timm's device models with random weights, exported, and each file run beside its model where "
            "something here runs it ([docs/models.md](docs/models.md))",
            made,
            f"`{ZOO}`",
        ),
        (
            "coremltools' own operator tests, which need a Mac, through the reference interpreter",
            f"{operators['passed']:,} of {operators['compared']:,} comparisons pass ({operators['share_passed']:.1%}; "
            f"{halves})",
            "`python benchmarks/coreml_operators.py --json FILE`",
        ),
        (
            "six networks on Fashion-MNIST, int8 in ONNX, LiteRT, ExecuTorch and Core ML: rung that the ladder took, "
            "largest loss on the validation split",
            f"{'; '.join(f'{rung}: {count}' for rung, count in needed.most_common())}; {100 * max(losses):.2f} points",
            f"`{LADDER}`",
        ),
        (
            "a photograph of a cat through timm:efficientnet_lite0 with ImageNet weights, every format and precision that "
            "runs here",
            f"{sum(count for index, count in tops.items() if 281 <= index <= 285)} of {len(cats)} files say a cat",
            "`python benchmarks/imagenet_cat.py --json FILE`",
        ),
        (
            "export of one model, beside the vendor's plain converter, both as fresh processes, verification excluded",
            f"{min(row['ratio'] for row in times['rows']):.2f} to {times['largest_ratio']:.2f} times",
            f"`{TIMES}`",
        ),
        (
            "hostile and broken model files",
            f"{hostile['cases']} files, {hostile['runs']} commands, "
            f"{len(hostile['not_as_they_should_be'])} not as they should be, largest process "
            f"{hostile['peak_memory_mib'] / 1024:.1f} GiB",
            "`python benchmarks/hostile_models.py --json FILE`",
        ),
    ]


def page() -> str:
    """docs/models.md."""
    return "\n".join(
        [
            "# Which model becomes which format",
            "",
            "This page is written by `python benchmarks/figures.py write` from `benchmarks/results/`.",
            "",
            *_zoo(),
            *_ladder(),
            *_times(),
        ]
    )


def _zoo() -> list[str]:
    zoo = result("zoo")
    rows = {(row["model"], row["format"]): row for row in zoo["rows"]}
    names = list(dict.fromkeys(row["model"] for row in zoo["rows"]))
    counts = "; ".join(f"{TITLES[form]} {zoo['summary'][form]}" for form in FORMATS)
    failed = [f"- {r['model']}, {TITLES[r['format']]}: {r['cause']}" for r in zoo["rows"] if not r["ok"]]
    magnifying = sorted({r["model"] for r in zoo["rows"] if any("magnifies rounding" in said for said in r["remarks"])})
    lines = [
        f"## {len(names)} of timm's models for devices",
        "",
        f"`{ZOO}`",
        "",
        f"{counts}. Weights are random, batch norms have seen data; fp32.",
        "",
        "- ONNX, LiteRT, ExecuTorch: median latency in ms at the model's own resolution, one thread of a rented machine;",
        "  and how many operations are left to other kernels than XNNPACK's. Compare within a row, and no farther.",
        "- Core ML: the largest difference of a logit, by the reference interpreter.",
        "- TensorRT: operations in the engine, which was built, and needs its GPU to run.",
        "",
        "| model | parameters | ONNX | LiteRT | ExecuTorch | Core ML | TensorRT |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_zoo_line(name, {form: rows[name, form] for form in FORMATS}) for name in names),
        "",
    ]
    if failed:
        lines += ["What failed:", "", *failed, ""]
    if magnifying:
        told = ", ".join(f"`{name}`" for name in magnifying)
        lines += [
            f"With these weights {told} magnify rounding: torch's own fp32 is as far from fp64 as the files are.",
            "",
        ]
    return lines


def _zoo_line(name: str, row: dict[str, dict[str, Any]]) -> str:
    cells = [f"`{name}`", f"{row['onnx']['parameters'] / 1e6:.1f} M"]
    cells += [_timed(row[form]) for form in ("onnx", "litert", "executorch")]
    core, engine = row["coreml"], row["tensorrt"]
    cells.append(f"{core['parity']['max_abs_error']:.1g}" if core["ok"] else "failed")
    cells.append(str(engine["fallbacks"]["operations"]) if engine["ok"] else "failed")
    return f"| {' | '.join(cells)} |"


def _timed(row: dict[str, Any]) -> str:
    if not row["ok"]:
        return "failed"
    left = sum(((row["fallbacks"] or {}).get("elsewhere") or {}).values())
    p50 = "not measured" if row["p50_ms"] is None else f"{row['p50_ms']:.3g}"
    return f"{p50} ({left} left)" if left else p50


def _ladder() -> list[str]:
    document = result("ladder")
    return [
        "## The quantisation ladder on Fashion-MNIST",
        "",
        f"`{LADDER}`",
        "",
        "Three student families at 32 px and three timm models at 64 px, after short trainings. The ladder may lose",
        f"{100 * document['max_loss']:.1f} points of the validation split to the fp32 file of the same format; the test",
        "split is only reported. Core ML is computed by the reference interpreter, on 256 images of each split, and not",
        "timed. p50 in ms is the median of interleaved sessions.",
        "",
        "| model | format | plain int8 loses | rung taken | it loses | test accuracy, fp32 and int8 | size | p50, both |",
        "|---|---|--:|---|--:|--:|--:|--:|",
        *(_ladder_line(row) for row in document["rows"]),
        "",
    ]


def _ladder_line(row: dict[str, Any]) -> str:
    full, won = row["kept"]["fp32"], row["kept"].get("winner")
    first = row["rungs"][0]["loss"]
    cells = [f"`{row['model']}`", TITLES[row["format"]], "unknown" if first is None else f"{100 * first:+.2f}"]
    cells.append(row["needed"] or "none")
    if won is None:
        return f"| {' | '.join([*cells, '', '', '', ''])} |"
    cells += [f"{100 * row['winner']['loss']:+.2f}", f"{full['accuracy_test']:.2%}, {won['accuracy_test']:.2%}"]
    cells.append(f"{won['file']['bytes'] / full['file']['bytes']:.0%} of {full['file']['bytes'] / 2**20:.2f} MiB")
    timed = "p50_ms" in full
    cells.append(f"{full['p50_ms']:.3f}, {won['p50_ms']:.3f}" if timed else "not measured")
    return f"| {' | '.join(cells)} |"


def _times() -> list[str]:
    return [
        "## How long an export takes",
        "",
        f"`{TIMES}`",
        "",
        "Wall time of a fresh process, median of the rounds, without running the file for parity; beside the vendor's own",
        "converter as its documentation shows it (`benchmarks/plain_converters.py`).",
        "",
        "| model | format | edgedistill | plain | ratio |",
        "|---|---|--:|--:|--:|",
        *map(_times_line, result("export_time")["rows"]),
        "",
    ]


def _times_line(row: dict[str, Any]) -> str:
    cells = (f"`{row['model']}`", TITLES[row["format"]], f"{row['ours_s']:.1f} s", f"{row['plain_s']:.1f} s")
    return f"| {' | '.join(cells)} | {row['ratio']:.2f} |"
