"""Sections and plots of what `benchmarks/recipes.py` found: what each recipe gains over labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from sections import RESULTS, Section, result

Row = dict[str, Any]
COMMAND = "python benchmarks/recipes.py FASHION_MNIST --work DIR --json FILE --labels {labels} --teacher {teacher}"
TEACHERS = {
    "fitted": "The teacher was fitted to the labels of all training images",
    "pretrained": "The teacher has ImageNet weights and was fitted to the same labels as the student",
    "crossfit": "Two teachers were each fitted to one half of the images and label the other half",
}
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
        labels, teacher = document["labels"], document["teacher"]
        rest = "" if labels >= document["train_images"] else " The other training images have no label."
        rows = [
            (
                f"`{row['condition']}`",
                f"{row['rate']:g}",
                f"{row['test_mean']:.2%}",
                f"{row['gain_points']:+.2f}",
                _interval(row),
            )
            for row in _sorted(document)
        ]
        seeds = min(row["seeds"] for row in document["compared"])
        return Section(
            f"Recipes: {labels:,} labels, {teacher} teacher",
            f"One student of Fashion-MNIST (`{document['student']}`), {labels:,} images with a label, "
            f"{document['steps']:,} steps.{rest} {TEACHERS[teacher]}; it gets {document['teacher_test']:.2%} of the test "
            "split right. Each row had the same tuning of its learning rate, on the validation split. Test accuracy is the "
            f"mean of {seeds} seeds. The gain is the mean difference to `labels` by pairs of a seed, in points, "
            f"with its 95% interval. `default` takes `{document['default']['recipe']}` here. "
            f"![Gain of each recipe over labels alone]({self.name}.svg)",
            COMMAND.format(labels=labels, teacher=teacher),
            ("learnt by", "#learning rate", "#test accuracy", "#gain", "#95% interval"),
            tuple(rows),
        )

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
    for labels, teacher in ((600, "fitted"), (600, "pretrained"), (54000, "crossfit"))
)


def found() -> list[Comparison]:
    """Those that have results."""
    return [one for one in COMPARISONS if one.found]


def readme_rows() -> list[tuple[str, str]]:
    """A row of the README, where the comparison with few labels is there."""
    few = COMPARISONS[0]
    if not few.found:
        return []
    document = result(few.name)
    of = {row["condition"]: f"{row['test_mean']:.1%}" for row in document["compared"]}
    what = f"{document['labels']} labels, {document['train_images']:,} images: accuracy from labels alone, distilled"
    return [(what, f"{of['labels']}, {of[document['default']['recipe']]}")]


def _sorted(document: Row) -> list[Row]:
    return sorted(document["compared"], key=lambda row: -row["gain_points"])


def _interval(row: Row) -> str:
    if row["half_width_points"] is None or row["condition"] == "labels":
        return "-"
    return (
        f"{row['gain_points'] - row['half_width_points']:+.2f} to {row['gain_points'] + row['half_width_points']:+.2f}"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, five or so."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= 8)
    first = int(low / step) - 1
    return [k * step for k in range(first, first + 12) if low <= k * step <= high]
