"""Sections on formats and quantisation, and the whole of docs/benchmarks/models.md, from what their scripts left in
`benchmarks/results/`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sections import Section, result

FORMATS = {"onnx": "ONNX", "coreml": "Core ML", "tensorrt": "TensorRT", "litert": "LiteRT", "executorch": "ExecuTorch"}
TIMED = ("onnx", "litert", "executorch")
ZOO = "python benchmarks/zoo.py --models benchmarks/zoo_models.txt --keep DIR --measure --json FILE"
LADDER = "python benchmarks/ladder.py --work DIR --measure --json FILE"


def sections() -> list[Section]:
    return [_zoo_summary(), _families(), _cat(), _ladder_summary(), _operators(), _times(), _hostile()]


def _zoo_summary() -> Section:
    rows = result("zoo")["rows"]
    models = {row["model"] for row in rows}
    of = {form: [row for row in rows if row["format"] == form] for form in FORMATS}
    return Section(
        "timm's models in five formats",
        f"{len(models)} of timm's models for devices, with random weights. Each is exported, and each file is run beside"
        " its model where this machine can run it; an engine is built. [Model by model](models.md).",
        ZOO,
        ("format", "#models", "#files"),
        tuple((FORMATS[form], str(len(found)), str(sum(row["ok"] for row in found))) for form, found in of.items()),
    )


def _families() -> Section:
    rows = result("families")["rows"]
    sides = sorted({row["resolution"] for row in rows})
    names = {row["family"] for row in rows}
    cells = []
    for form, title in FORMATS.items():
        of = [[row["ok"] for row in rows if row["format"] == form and row["resolution"] == side] for side in sides]
        cells.append((title, *(f"{sum(ok)} of {len(ok)}" for ok in of)))
    return Section(
        "Families of students in five formats",
        f"The smallest student of each of {len(names)} families. Each file is run beside its model where this machine "
        "can run it.",
        "python benchmarks/families.py --json FILE",
        ("format", *(f"#{side} px" for side in sides)),
        tuple(cells),
    )


def _cat() -> Section:
    rows = [row for row in result("imagenet_cat")["rows"] if "top" in row]
    cells = [
        (
            FORMATS[row["format"]],
            row["precision"],
            row["top"][0]["label"] if "label" in row["top"][0] else str(row["top"][0]["index"]),
            f"{row['top'][0]['probability']:.0%}",
        )
        for row in rows
    ]
    return Section(
        "A photograph of a cat",
        "timm:efficientnet_lite0 with ImageNet weights: the most probable class by each file that this machine can run."
        " Classes 281 to 285 are cats.",
        "python benchmarks/imagenet_cat.py --json FILE",
        ("format", "precision", "class", "#probability"),
        tuple(cells),
    )


def _ladder_summary() -> Section:
    rows = result("ladder")["rows"]
    cells = []
    for rung, count in Counter(row["needed"] for row in rows).most_common():
        losses = [row["winner"]["loss"] for row in rows if row["needed"] == rung and row["winner"]]
        largest = f"{100 * max(losses):.2f} points" if losses else "-"
        cells.append((rung or "none", str(count), largest))
    return Section(
        "The quantisation ladder",
        "Six networks on Fashion-MNIST in four formats: the rung of the ladder that was taken, and the largest loss on the "
        "validation split. [Network by network](models.md#the-quantisation-ladder-on-fashion-mnist).",
        LADDER,
        ("rung", "#files", "#largest loss"),
        tuple(cells),
    )


def _operators() -> Section:
    found = result("coreml_operators")
    parts = {"all": found, **found["precisions"]}
    rows = [
        (name, f"{one['compared']:,}", f"{one['passed']:,}", f"{one['share_passed']:.1%}")
        for name, one in parts.items()
    ]
    return Section(
        "The Core ML reference interpreter",
        "coremltools' own tests of operators need a Mac. Here the reference interpreter computes them.",
        "python benchmarks/coreml_operators.py --json FILE",
        ("precision", "#comparisons", "#passed", "#share"),
        tuple(rows),
    )


def _times() -> Section:
    return Section(
        "How long an export takes",
        "Wall time of a fresh process, without the run that compares the file with its model; beside the vendor's own "
        "converter as its documentation shows it (`benchmarks/plain_converters.py`). Medians of several rounds.",
        "python benchmarks/export_time.py --json FILE",
        ("model", "format", "#edgedistill", "#vendor's converter", "#ratio"),
        tuple(
            (f"`{row['model']}`", FORMATS[row["format"]], f"{row['ours_s']:.1f} s", f"{row['plain_s']:.1f} s",
             f"{row['ratio']:.2f}")
            for row in result("export_time")["rows"]
        ),
    )  # fmt: skip


def _hostile() -> Section:
    found = result("hostile_models")
    bad = len(found["not_as_they_should_be"])
    return Section(
        "Hostile and broken model files",
        "Commands on damaged and hostile files. Each should end with a cause and a fix, within its limits, without a "
        "traceback, and without running code of the file or leaving anything behind.",
        "python benchmarks/hostile_models.py --json FILE",
        ("#files", "#commands", "#not as they should be", "#largest process"),
        ((str(found["cases"]), str(found["runs"]), str(bad), f"{found['peak_memory_mib'] / 1024:.1f} GiB"),),
    )


# -- docs/benchmarks/models.md ----------------------------------------------------------------------------------------


def page() -> str:
    head = ["# Which model becomes which format", "", "`python benchmarks/figures.py write` writes this page from"]
    return "\n".join([*head, "`benchmarks/results/`.", "", *_zoo(), *_ladder().lines()])


def _zoo() -> list[str]:
    zoo = result("zoo")
    rows = {(row["model"], row["format"]): row for row in zoo["rows"]}
    names = list(dict.fromkeys(row["model"] for row in zoo["rows"]))
    section = Section(
        f"{len(names)} of timm's models for devices",
        "Weights are random, batch norms have seen data; fp32. `p50` is the median latency in ms at the model's own "
        "resolution, on one thread of a rented machine: compare it within a row alone. `left` counts operations that "
        "are left to other kernels than XNNPACK's. `error` is the largest difference of a logit, computed by the "
        "reference interpreter. `engine` counts the operations of the engine, which was built and needs its GPU to run.",
        ZOO,
        ("model", "#parameters", "#ONNX p50", "#LiteRT p50", "#LiteRT left", "#ExecuTorch p50", "#ExecuTorch left",
         "#Core ML error", "#TensorRT engine"),
        tuple(_zoo_row(name, {form: rows[name, form] for form in FORMATS}) for name in names),
    )  # fmt: skip
    lines = section.lines()
    if failed := [f"- {r['model']}, {FORMATS[r['format']]}: {r['cause']}" for r in zoo["rows"] if not r["ok"]]:
        lines += ["What failed:", "", *failed, ""]
    if magnifying := sorted(
        {r["model"] for r in zoo["rows"] if any("magnifies rounding" in said for said in r["remarks"])}
    ):
        told = ", ".join(f"`{name}`" for name in magnifying)
        lines += [
            f"With these weights {told} magnify rounding: torch's own fp32 is as far from fp64 as the files are.",
            "",
        ]
    return lines


def _zoo_row(name: str, row: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    cells = [f"`{name}`", f"{row['onnx']['parameters'] / 1e6:.1f} M"]
    for form in TIMED:
        p50 = row[form]["p50_ms"]
        cells.append("failed" if not row[form]["ok"] else "not measured" if p50 is None else f"{p50:.3g}")
        if form != "onnx":
            cells.append(str(sum(((row[form]["fallbacks"] or {}).get("elsewhere") or {}).values())))
    core, engine = row["coreml"], row["tensorrt"]
    cells.append(f"{core['parity']['max_abs_error']:.1g}" if core["ok"] else "failed")
    cells.append(str(engine["fallbacks"]["operations"]) if engine["ok"] else "failed")
    return tuple(cells)


def _ladder() -> Section:
    document = result("ladder")
    return Section(
        "The quantisation ladder on Fashion-MNIST",
        "Three student families at 32 px and three timm models at 64 px, after short trainings. The ladder may lose "
        f"{100 * document['max_loss']:.1f} points of the validation split to the fp32 file of the same format; the test "
        "split is only reported. Core ML is computed by the reference interpreter, on 256 images of each split, and is "
        "not timed. p50 in ms is the median of interleaved sessions. Losses are in points.",
        LADDER,
        ("model", "format", "#plain int8 loses", "rung taken", "#it loses", "#test, fp32", "#test, int8", "#size, fp32",
         "#size, of fp32's", "#p50, fp32", "#p50, int8"),
        tuple(map(_ladder_row, document["rows"])),
    )  # fmt: skip


def _ladder_row(row: dict[str, Any]) -> tuple[str, ...]:
    full, won = row["kept"]["fp32"], row["kept"].get("winner")
    first = row["rungs"][0]["loss"]
    cells = [f"`{row['model']}`", FORMATS[row["format"]], "unknown" if first is None else f"{100 * first:+.2f}"]
    cells.append(row["needed"] or "none")
    if won is None:
        return (*cells, *["-"] * 7)
    timed = [f"{one['p50_ms']:.3f}" if "p50_ms" in one else "-" for one in (full, won)]
    return (
        *cells,
        f"{100 * row['winner']['loss']:+.2f}",
        f"{full['quality_test']:.2%}",
        f"{won['quality_test']:.2%}",
        f"{full['file']['bytes'] / 2**20:.2f} MiB",
        f"{won['file']['bytes'] / full['file']['bytes']:.0%}",
        *timed,
    )
