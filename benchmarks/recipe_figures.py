"""Sections and plots of what recipes.py and distillation_gain.py found: what each recipe gains over labels alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from sections import RESULTS, Section, result

Row = dict[str, Any]
COMMAND = "python benchmarks/recipes.py {folder} --work DIR --json FILE --labels {labels} --teacher {teacher}"
TEACHERS = {
    "fitted": "The teacher was fitted to the labels of all training images",
    "pretrained": "The teacher has ImageNet weights and was fitted to the same labels as the student",
    "crossfit": "Two teachers were each fitted to one half of the images and label the other. A third was fitted to all",
}
PADDING = (
    "It is timm's `efficientnet_lite0`. The weights were trained with another padding, that of `tf_efficientnet_lite0`."
)
IN_SHORT = {
    "fitted": "all-label teacher",
    "pretrained": "ImageNet teacher",
    "crossfit": "half-label teachers",
}
PEER = "torchdistill_"
PICTURES = "recipes_clip_art"
WHOLE = "recipes_clip_art_whole"
OTHERS = "recipes_clip_art_others"
PICTURE_TITLES = {
    PICTURES: "Recipes: pictures",
    WHOLE: "Recipes: pictures, a whole pretrained student",
    OTHERS: "Recipes: pictures of other classes",
}
OTHERS_FILE = "benchmarks/clip_art_others.toml"
OTHER_CLASSES = " --out build/others --classes computer education electronics geography shapes signs_and_symbols"
_ROW, _LEFT, _WIDE, _TOP = 22, 190, 720, 30


@dataclass(frozen=True)
class Comparison:
    """A result of `benchmarks/recipes.py`: `name` is its file in benchmarks/results, without the suffix."""

    name: str

    @property
    def found(self) -> bool:
        return (RESULTS / f"{self.name}.json").is_file()

    def section(self) -> Section:
        document = result(self.name)
        labels, against = document["labels"], document["against"]
        columns: tuple[str, ...] = ("learnt by", "#learning rate", "#test accuracy", "#gain", "#95% interval")
        rows: list[tuple[str, ...]] = [
            (
                f"`{row['condition']}`",
                f"{row['rate']:g}",
                f"{row['test_mean']:.2%}",
                f"{row['gain_points']:+.2f}",
                _interval(row["gain_points"], row["half_width_points"]) if row["condition"] != "labels" else "-",
            )
            for row in _sorted(document)
        ]
        if against != "labels":
            columns = (*columns, f"#to `{against}`")
            rows = [
                (*row, _interval(one["against_points"], one["against_half_width_points"]))
                for row, one in zip(rows, _sorted(document), strict=True)
            ]
        options = " --weights WEIGHTS" if document["teacher"] == "pretrained" else ""
        options += "".join(
            f" --{name} {value}"
            for name, value, usual in (
                ("steps", document["steps"], 3000),
                ("side", document.get("side", 28), 28),
                ("images", document["images"], None),
                ("rates", ",".join(f"{rate:g}" for rate in document["rates"]), "0.004,0.008,0.016"),
                ("against", against, "labels"),
            )
            if value != usual
        )
        folder = "FASHION_MNIST" if document["data"] == "fashion-mnist" else "GLYPHS"
        return Section(
            self._title(document),
            " ".join([*self._sentences(document), f"![Gain of each recipe over labels alone]({self.name}.svg)"]),
            COMMAND.format(folder=folder, labels=labels, teacher=document["teacher"]) + options,
            columns,
            tuple(rows),
        )

    def _title(self, document: Row) -> str:
        some = "all labels" if document["labels"] >= document["train_images"] else f"{document['labels']:,} labels"
        return f"Recipes: {some}, {document['teacher']} teacher"

    def _sentences(self, document: Row) -> Iterator[str]:
        labels, images = document["labels"], document["train_images"]
        yield f"One student (`{document['student']}`), {document['steps']:,} steps."
        if labels < images:
            yield f"Of {images:,} training images of {document['data']} {labels:,} have a label."
        else:
            yield f"All {images:,} training images of {document['data']} have their labels."
        yield f"{TEACHERS[document['teacher']]}; it gets {document['teacher_test']:.2%} of the test split right."
        if document["teacher"] == "pretrained":
            yield PADDING
        seeds = min(row["seeds"] for row in document["compared"])
        yield (
            "Each row had the same tuning of its learning rate, on the validation split. Test accuracy is the mean of "
            f"{seeds} seeds. The gain is the mean difference to `labels` by pairs of a seed, in points, with its 95% "
            "interval."
        )
        if document["against"] != "labels":
            yield f"The last column is that interval for the difference to `{document['against']}`."
        named = {row["condition"] for row in document["compared"]}
        if "kd_sure" in named:
            yield "`kd_sure`, which `--only` names, leaves out unlabelled images of which the teacher is less than 90% sure."
        if any(name.startswith(PEER) for name in named):
            yield (
                "`torchdistill_` stands before the losses of torchdistill 1.1.5, with the weights of its own "
                "configurations, in the same training; `--only` names them."
            )
        yield f"`default` takes `{document['default']['recipe']}` here."

    def plot(self) -> str:
        """An SVG: a row a recipe, its gain as a dot, the interval as a line."""
        rows = _sorted(result(self.name))
        ends = [row["gain_points"] + sign * (row["half_width_points"] or 0) for row in rows for sign in (-1, 1)]
        low, high = min(0.0, *ends), max(0.0, *ends)
        margin = 0.05 * (high - low or 1)
        low, high = float(low - margin), float(high + margin)

        def x(points: float) -> float:
            return _LEFT + (_WIDE - _LEFT - 20) * (points - low) / (high - low)

        height = _TOP + _ROW * len(rows) + 40
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}" width="{_WIDE}" height="{height}" '
            'font-family="sans-serif" font-size="13" role="img">',
            "<title>Gain of each recipe over labels alone</title>",
            f'<rect width="{_WIDE}" height="{height}" fill="white"/>',
            f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{_TOP - 8}" y2="{height - 34}" stroke="#888"/>',
        ]
        for place, row in enumerate(rows):
            y, half = _TOP + _ROW * place + 6, row["half_width_points"] or 0
            left, right = x(row["gain_points"] - half), x(row["gain_points"] + half)
            parts += [
                f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(row["condition"])}</text>',
                f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}" stroke="#1f6feb" stroke-width="2"/>',
                f'<circle cx="{x(row["gain_points"]):.1f}" cy="{y}" r="4" fill="#1f6feb"/>',
            ]
        for points in _ticks(low, high):
            parts.append(f'<text x="{x(points):.1f}" y="{height - 18}" text-anchor="middle">{points:+g}</text>')
        middle = (_LEFT + _WIDE) / 2
        parts.append(
            f'<text x="{middle}" y="{height - 2}" text-anchor="middle">points of test accuracy over labels</text>'
        )
        return "\n".join([*parts, "</svg>", ""])

    def path(self, folder: Path) -> Path:
        """Where the plot goes."""
        return folder / f"{self.name}.svg"


COMPARISONS = tuple(
    Comparison(f"recipes_{labels}_{teacher}")
    for labels, teacher in ((600, "fitted"), (600, "pretrained"), (54000, "fitted"))
)


def found() -> list[Comparison]:
    """Those that have results."""
    return [one for one in COMPARISONS if one.found]


def pictures() -> list[Section]:
    """What `benchmarks/distillation_gain.py` found on pictures, where it has results: on those of the example, with students
    made small and with a whole one, and on those of other classes."""
    return [_picture_section(name) for name in PICTURE_TITLES if (RESULTS / f"{name}.json").is_file()]


def _picture_section(name: str) -> Section:
    document, others = result(name), name == OTHERS
    rows = document["compared"]
    students, recipes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("student", "recipe"))
    options = "".join(
        f" --{name} {value}"
        for name, value, usual in (
            ("against", document["against"], None),
            ("rates", ",".join(map(str, document["rates"])), "auto"),
            ("seeds", document["seeds"], 5),
            ("test", document["test_share"], None),
            ("epochs", ",".join(map(str, document["rungs"])), None),
        )
        if value != usual
    )
    command = (
        f"python examples/clipart/prepare.py{OTHER_CLASSES if others else ''}\n"
        f"    python benchmarks/distillation_gain.py {OTHERS_FILE if others else 'examples/clipart/build.toml'} "
        f"--students {' '.join(students)} --recipes {','.join(recipes)}{options} --json FILE"
    )
    columns: tuple[str, ...] = ("student", "learnt by", "#test accuracy", "#gain", "#95% interval")
    against = document["against"]
    if against is not None:
        columns = (*columns, f"#to `{against}`")
    rows = sorted(rows, key=lambda row: (students.index(row["student"]), -row["points"]))
    table = tuple(_picture_row(row, recipes[0], against) for row in rows)
    return Section(PICTURE_TITLES[name], " ".join(_of_pictures(document, recipes[0], others)), command, columns, table)


def _picture_row(row: Row, first: str, against: str | None) -> tuple[str, ...]:
    took = row.get("took", {})
    of = "" if len(took) == 1 else f" of {row['seeds']}"
    taken = ", ".join(f"`{name}` {count}{of}" if of else f"`{name}`" for name, count in took.items())
    cells = (
        f"`{row['student']}`",
        f"`{row['recipe']}`" + (f" ({taken})" if took else ""),
        f"{row['test_mean']:.2%}",
        f"{row['points']:+.2f}",
        "-" if row["recipe"] == first else _interval(row["points"], row["half_width_points"]),
    )
    if against is None:
        return cells
    own = row["recipe"] == against
    return (*cells, "-" if own else _interval(row["against_points"], row["against_half_width_points"]))


def _of_pictures(document: Row, first: str, others: bool) -> Iterator[str]:
    rows, seeds, share = document["compared"], document["seeds"], document["test_share"]
    yield (
        f"Students as a build trains them, but for {document['epochs']} epochs: {document['train_images']:,} pictures of "
        f"clip art in {document['classes']} classes, all with a label. `examples/clipart/README.md` says what the first "
        "command needs."
    )
    teachers = [row["test"] for row in document["teachers"] if row["seed"] is None or row["seed"] < seeds]
    right = f"{statistics.fmean(teachers):.2%} of the {document['test_images']:,} pictures of the test split right"
    if share is None:
        yield "All seeds share the splits and the teacher, which has ImageNet weights and was fitted to the same labels."
        yield f"It gets {right}."
    else:
        yield f"Each seed has its own splits, with {share:.0%} of the pictures for the test, and its own teacher."
        yield "The teachers have ImageNet weights and were fitted to the same labels as the students."
        yield f"In the mean they get {right}."
    yield (
        f"Test accuracy is the mean of {seeds} seeds. The gain is the mean difference to `{first}` by pairs of a seed of "
        "the same student, in points, with its 95% interval."
    )
    if document["against"] is not None:
        yield f"The last column is that interval for the difference to `{document['against']}`."
    yield "A student is named by family, width, depth and resolution."
    names = {row["student"] for row in rows}
    if any(name.startswith("timm:") for name in names):
        yield "A student of timm starts from the ImageNet weights that the build file names."
    if any(name.startswith("timm:") and not _is_whole(name) for name in names):
        yield "Of width or depth below 1 it is cut from the network with these weights."
    if any(name.endswith(",random") for name in names):
        yield "With `random` behind its name it starts from random weights."
    if any("took" in row for row in rows):
        yield (
            "Behind `default` stands what it took, by a pilot of the same student in each seed, of "
            f"{document['rungs'][:2][-1]} epochs. Another length may take another recipe."
        )
        yield (
            "The rule by which it chooses was settled before these pictures were looked at."
            if others
            else "The rule by which it chooses was settled with these pictures, so that only others can judge it."
        )


def _is_whole(student: str) -> bool:
    """Whether a student named `family,width,depth,resolution` keeps all units and blocks."""
    width, depth = student.split(",")[1:3]
    return float(width) == float(depth) == 1


def readme_rows() -> list[tuple[str, str]]:
    """A row of the README for each number of labels: labels alone, then what `default` takes, by teacher."""
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for one in found():
        document = result(one.name)
        of = {row["condition"]: f"{row['test_mean']:.1%}" for row in document["compared"]}
        labels, images = document["labels"], document["train_images"]
        some = f"{labels:,} of {images:,}" if labels < images else f"all {images:,}"
        named, figures = rows.setdefault(some, ([], [of["labels"]]))
        named.append(IN_SHORT[document["teacher"]])
        figures.append(of[document["default"]["recipe"]])
    return [
        (f"accuracy, {some} labelled: {'; '.join(['labels alone', *named])}", "; ".join(figures))
        for some, (named, figures) in rows.items()
    ]


def _sorted(document: Row) -> list[Row]:
    return sorted(document["compared"], key=lambda row: -row["gain_points"])


def _interval(mean: float | None, half: float | None) -> str:
    if mean is None or half is None or half == 0:
        return "-"
    return f"{mean - half:+.2f} to {mean + half:+.2f}"


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, five or so."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= 8)
    first = int(low / step) - 1
    return [k * step for k in range(first, first + 12) if low <= k * step <= high]
