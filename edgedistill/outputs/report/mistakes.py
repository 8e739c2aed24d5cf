"""What the student's file answers wrongly on the test split: which classes it confuses, and its most confident mistakes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgedistill.base.units import format_percent
from edgedistill.documents.results import BuildResult, Confidence, Mistake, PredictionsOnTest
from edgedistill.outputs.report.table import Column, Row, Table, cell

MATRIX_CLASSES = 30
"""Of more classes a matrix would be too large to read."""

LISTED = 20
_COLUMNS = (
    Column("label"),
    Column("taken for"),
    Column("images", number=True),
    Column("share of the label's images", number=True),
)
_SHADES = ((0.5, "s4"), (0.2, "s3"), (0.05, "s2"), (0.0, "s1"))
"""From which share of a row on a cell has which class of the style sheet."""


@dataclass(frozen=True)
class Shown:
    """A mistake as the page shows it. `picture` is a data URI, empty where there is none."""

    picture: str
    caption: str
    image: str


@dataclass(frozen=True)
class MistakesShown:
    """What the section holds: a `matrix` (for each label the count and the style of every class's cell), or for many
    classes a list of the most frequent confusions. `gone` counts the mistakes without a picture. `confidence` says how far
    probabilities can be taken at their word, empty where that is not known."""

    taken: str
    classes: tuple[str, ...]
    matrix: tuple[tuple[str, tuple[tuple[int, str], ...]], ...]
    listed: Table | None
    mistakes: tuple[Shown, ...]
    gone: int
    confidence: str = ""


def read_thumbnails(out: Path, result: BuildResult) -> dict[str, bytes]:
    """The pictures of the mistakes that can be read, by their path in the result. Nothing outside `out` is read."""
    root = out.resolve()
    found: dict[str, bytes] = {}
    for mistake in result.predictions_on_test.mistakes if result.predictions_on_test else ():
        with suppress(OSError, RuntimeError, ValueError):  # it is gone, or a link to itself, or no path
            path = (root / mistake.thumbnail).resolve()
            if path.is_relative_to(root):
                found[mistake.thumbnail] = path.read_bytes()
    return found


def mistakes_shown(result: BuildResult, thumbnails: Mapping[str, bytes]) -> MistakesShown | None:
    """The section with these pictures, by their path in the result; None where the file did not run on the test split."""
    told = result.predictions_on_test
    if told is None:
        return None
    few = len(told.classes) <= MATRIX_CLASSES
    mistakes = tuple(_shown(mistake, told.classes, thumbnails) for mistake in told.mistakes)
    return MistakesShown(
        taken=_taken(result, told),
        classes=told.classes,
        matrix=_matrix(told) if few else (),
        listed=None if few else confusion_table(told),
        mistakes=mistakes,
        gone=sum(not shown.picture for shown in mistakes),
        confidence=_confidence(told.confidence) if told.confidence else "",
    )


def _confidence(found: Confidence) -> str:
    """How far probabilities can be taken at their word, and what the answer "none of these" does."""
    said = (
        f"Probabilities are the softmax of the logits divided by {found.temperature:.3f}. They are off by "
        f"{format_percent(found.calibration_error)} in the mean (expected calibration error, 15 bins); without that number "
        f"it would be {format_percent(found.raw_calibration_error)}."
    )
    if found.none_below is None:
        return said
    kept, caught = (
        "none" if share is None else format_percent(share) for share in (found.right_kept, found.wrong_caught)
    )
    least = format_percent(found.none_below)
    return f"{said} Below {least} an app answers none of these: {kept} of the right answers stay, {caught} of the wrong go."


def confusion_table(told: PredictionsOnTest) -> Table | None:
    """The most frequent confusions, those first; None where no answer is wrong."""
    totals = told.images_of
    wrong = sorted((c for c in told.confusion if c.label != c.predicted), key=lambda c: -c.count)
    rows = tuple(
        Row(
            (
                cell(told.classes[c.label]),
                cell(told.classes[c.predicted]),
                cell(f"{c.count:,}", key=c.count),
                cell(format_percent(c.count / totals[c.label]), key=c.count / totals[c.label]),
            )
        )
        for c in wrong[:LISTED]
    )
    caption = f"The {len(rows)} most frequent of {len(wrong):,} confusions, in test images"
    return Table("Confusions", caption, _COLUMNS, rows) if rows else None


def _matrix(told: PredictionsOnTest) -> tuple[tuple[str, tuple[tuple[int, str], ...]], ...]:
    counts = {(c.label, c.predicted): c.count for c in told.confusion}
    totals = told.images_of
    places = range(len(told.classes))
    return tuple(
        (told.classes[label], tuple(_cell(counts.get((label, p), 0), totals[label], hit=p == label) for p in places))
        for label in places
    )


def _cell(count: int, total: int, *, hit: bool) -> tuple[int, str]:
    """A count, and its style by its share of the row: empty for nothing."""
    if not count:
        return 0, ""
    shade = next(style for least, style in _SHADES if count / total >= least)
    return count, f"{shade} hit" if hit else shade


def _taken(result: BuildResult, told: PredictionsOnTest) -> str:
    """How the answers were taken, and how many are wrong."""
    path = next((a.path for a in result.artifacts if a.sha256 == told.artifact_sha256), "the student's file")
    wrong = sum(entry.count for entry in told.confusion if entry.label != entry.predicted)
    return (
        f"Measured on {told.images:,} test images with {path}, on the machine of the build: "
        f"{wrong:,} of the answers are wrong ({format_percent(wrong / told.images)})."
    )


def _shown(mistake: Mistake, classes: tuple[str, ...], thumbnails: Mapping[str, bytes]) -> Shown:
    data = thumbnails.get(mistake.thumbnail)
    label, predicted = classes[mistake.label], classes[mistake.predicted]
    of_label = format_percent(mistake.probability_of_label)
    return Shown(
        picture=f"data:image/webp;base64,{b64encode(data).decode()}" if data else "",
        caption=f"{label}, taken for {predicted}: {format_percent(mistake.probability)} ({label}: {of_label})",
        image=mistake.image,
    )
