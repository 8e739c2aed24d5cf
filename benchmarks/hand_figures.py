"""The sections of what `benchmarks/by_hand.py` found: a teacher and students by a script of timm alone, and by a build."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from sections import RESULTS, Section, duration, result

SCRIPT, BUILD = "by_hand_teacher", "by_hand_fitted"
AS_FAST = 0.05
"""Two files are as fast as each other where their p95 differ by less."""
STUDENT, MEASURED = "by_hand_student", "by_hand_measured"


def sections() -> list[Section]:
    """Of the teachers and of the students, where there are results."""
    return [*_teachers(), *_students()]


def _teachers() -> list[Section]:
    if not all((RESULTS / f"{name}.json").is_file() for name in (SCRIPT, BUILD)):
        return []
    script, build = result(SCRIPT), result(BUILD)
    tried = list(dict.fromkeys(row["rate"] for row in script["rows"]))
    rates = ",".join(f"{rate:g}" for rate in tried)
    own = [(f"timm, rate {rate:g}", [row for row in script["rows"] if row["rate"] == rate]) for rate in tried]
    rows = tuple(
        (
            name,
            f"{len(found)}",
            *(f"{statistics.fmean(row[part] for row in found):.1%}" for part in ("validation", "test")),
        )
        for name, found in (*own, ("a build, default settings", build["rows"]))
    )
    if script["epochs"] != build["epochs"]:
        raise ValueError("the script and the build have fitted for different epochs")
    return [
        Section(
            "A teacher fitted by hand",
            f"`{script['model']}` with weights of ImageNet, fine-tuned at {script['resolution']} px to the clip art of "
            f"`examples/clipart` for {script['epochs']} epochs. `benchmarks/by_hand_timm.py` does it with timm alone: AdamW "
            f"with a layer decay of {script['layer_decay']:g}, RandAugment, random erasing, dropout, label smoothing and an "
            "average of the weights; the best epoch of each run is taken by the validation split. Each rate was tried with "
            f"seed 0, and the one that was best on validation, {script['tuned_rate']:g}, with the others. A build fits as "
            "`[teacher.fit]` does by default. "
            f"A point is {build['test_images'] / 100:.1f} of the {build['test_images']} pictures of the test split.",
            "C=examples/clipart; python $C/prepare.py\n"
            f"    python benchmarks/by_hand.py teacher $C/build.toml --model {script['model']} "
            f"--weights $C/lite2.safetensors --epochs {script['epochs']} --rates {rates} --json TEACHER\n"
            "    python benchmarks/by_hand.py fit $C/build.toml --json FITTED",
            ("fitted by", "#seeds", "#validation", "#test"),
            rows,
        )
    ]


def _students() -> list[Section]:
    """`by_hand_student_NAME.json` is how a student was trained, `by_hand_measured_NAME.json` what came of its files."""
    names = sorted(path.stem.removeprefix(f"{MEASURED}_") for path in RESULTS.glob(f"{MEASURED}_*.json"))
    if not names:
        return []
    trained, measured = ([result(f"{stage}_{name}") for name in names] for stage in (STUDENT, MEASURED))
    first, of_build = trained[0], measured[0]
    both = list(zip(trained, measured, strict=True))
    took = ", ".join(f"`{one['model']}` {duration(files['by_hand_core_seconds'])}" for one, files in both)
    commands = (f"python benchmarks/by_hand.py {line}" for one in trained for line in _commands(one))
    return [
        Section(
            "A student by hand",
            "The best teacher of the first command above with `--seeds 1`, by the validation split, is distilled by the "
            "script. Both see the same view, the student "
            f"a smaller copy of it (KL divergence at temperature {first['temperature']:g}, and cross entropy with weight "
            f"{first['label_weight']:g}). torch exports the student and ONNX Runtime quantises it. Of each student every "
            "rate was tried with seed 0, and the "
            "best one with the other seeds; the run that is best on the validation split is the one here. One core took for "
            f"the teachers {duration(of_build['by_hand_teacher_core_seconds'])}, and for the students: {took}. The whole "
            "build of the example, its teacher and its measurements among them, took both cores of the machine "
            f"{duration(of_build['build_seconds'])}; its student is {of_build['build_student']}. A student's files and the "
            "build's ran in turn in one loop of plain ONNX Runtime with one thread, so that they can be compared. Latencies "
            f"are medians of {len(of_build['rows'][0]['sessions_p95_ms'])} sessions. The lead is in points of the test "
            "split, with the interval of its pictures: it does not tell how another training would have come out. The build "
            f"itself states {of_build['build_states_test']:.1%} for its file: the script prepares the pictures in its own "
            "way, for all files alike.",
            "C=examples/clipart; python $C/prepare.py; edgedistill build $C/build.toml --target host\n    "
            + "\n    ".join(commands),
            (
                "student by hand",
                "file",
                "#p50 (ms)",
                "#p95 (ms)",
                "#validation",
                "#test",
                "#the build's lead, 95% interval",
            ),
            tuple(row for one, files in both for row in _files(one, files)),
        )
    ]


def readme_rows() -> list[tuple[str, str]]:
    """The clip art example in short: accuracy of the build's student and its teacher, and of the fastest file of each
    student by hand, with how much slower it is."""
    measured = [result(path.stem) for path in RESULTS.glob(f"{MEASURED}_*.json")]
    if not measured:
        return []
    names = ["proven student", "its teacher"]
    # The student's as the files by hand have theirs: one preparation of the pictures for all of them.
    (proven,) = (row["test"] for row in measured[0]["rows"] if row["file"] == "build")
    shares = [proven, measured[0]["build_teacher_test"]]
    found = []
    for one in measured:
        own = min((row for row in one["rows"] if row["file"] != "build"), key=lambda row: float(row["p95_ms"]))
        (build,) = (row for row in one["rows"] if row["file"] == "build")
        found.append((own["p95_ms"] / build["p95_ms"], own["test"]))
    for ratio, share in sorted(found):
        other = f"{abs(ratio - 1):.0%} {'slower' if ratio > 1 else 'faster'}"
        names.append("by hand, " + ("as fast" if abs(ratio - 1) < AS_FAST else other))
        shares.append(share)
    return [(f"clip art example: {'; '.join(names)}", "; ".join(f"{share:.1%}" for share in shares))]


def _commands(trained: dict[str, Any]) -> Iterator[str]:
    weights = "" if trained["weights"] == "None" else " --weights $C/lite0.safetensors"
    rates = ",".join(f"{rate:g}" for rate in dict.fromkeys(row["rate"] for row in trained["rows"]))
    name, seeds = trained["model"], len({row["seed"] for row in trained["rows"]})
    yield (
        f"student $C/build.toml --model {name}{weights} --resolution {trained['resolution']} --epochs {trained['epochs']} "
        f"--rates {rates} --seeds {seeds} --teacher TEACHER --json {name}.json"
    )
    yield f"measure $C/build.toml --student {name}.json --build $C/out --json {name}-measured.json"


def _files(trained: dict[str, Any], measured: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    of = f"`{trained['model']}` at {trained['resolution']} px" + ", random weights" * (trained["weights"] == "None")
    for row in sorted(measured["rows"], key=lambda row: row["p95_ms"]):
        name = "the build's" if row["file"] == "build" else f"its {row['file']}"
        figures = (f"{row['p50_ms']:.3f}", f"{row['p95_ms']:.3f}", f"{row['validation']:.1%}", f"{row['test']:.1%}")
        ahead, within = row["build_ahead"], row["build_ahead_within"]
        yield (
            of,
            name,
            *figures,
            "-" if row["file"] == "build" else f"{ahead:+.1f} ({ahead - within:+.1f} to {ahead + within:+.1f})",
        )
