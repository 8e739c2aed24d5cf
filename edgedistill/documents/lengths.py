"""How long a training is, and on how much: batches and rungs, in images, steps or epochs, and the views of an image."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field

LARGEST_BATCH: Final = 128
SMALLEST_BATCH: Final = 16
STEPS_AN_EPOCH: Final = 16
"""With few images a batch is made smaller, down to SMALLEST_BATCH, until an epoch has so many steps."""
FEWEST_STEPS: Final = (320, 640, 1280)
"""Steps that the rungs are at least apart from the start where the build file names none."""
EPOCHS: Final = (4, 8, 16)
"""Epochs of the rungs where it names none and the images are many enough."""
LONGEST_STEPS: Final = 5120
"""Steps of one more rung where it is at least twice as long as the last of those: of few images, up to about 20,000,
students gain much by it (docs/benchmarks, "Recipes: longer trainings")."""
FEWEST_VIEWS: Final = 4
MOST_VIEWS: Final = 40
VIEWED_IMAGES: Final = 40_000
"""With few images each has more stored views, up to MOST_VIEWS, until the teacher labels so many images in all."""
_STEPS = re.compile(r"(\d{1,9}) steps?")


BatchSize: TypeAlias = Annotated[int, Field(ge=1)] | Literal["auto"]


def batch_size_of(batch_size: int | Literal["auto"], images: int) -> int:
    """Images in a batch of a training on so many."""
    if batch_size != "auto":
        return batch_size
    largest = 1 << (max(images // STEPS_AN_EPOCH, 1).bit_length() - 1)
    return max(SMALLEST_BATCH, min(LARGEST_BATCH, largest))


Views: TypeAlias = Annotated[int, Field(ge=1, le=1000)] | Literal["auto"]


def views_of(views: int | Literal["auto"], images: int) -> int:
    """Stored views of each of so many training images."""
    if views != "auto":
        return views
    return min(MOST_VIEWS, max(FEWEST_VIEWS, VIEWED_IMAGES // max(images, 1)))


def _rising(value: tuple[int | str, ...] | None) -> tuple[int | str, ...] | None:
    if value is None:
        return None
    counts = [_count(one) for one in value]
    kinds = {type(one) for one in value}
    if not value or len(kinds) > 1 or counts != sorted(set(counts)) or min(counts) < 1 or max(counts) > 100_000_000:
        raise ValueError('rungs are not rising in one unit; write them like [4, 8, 16] or ["500 steps", "1000 steps"]')
    return value


def _count(rung: int | str) -> int:
    if isinstance(rung, int):
        return rung
    found = _STEPS.fullmatch(rung)
    if found is None:
        raise ValueError(f'{rung!r} is no rung; write epochs like 4, or steps like "500 steps"')
    return int(found[1])


Rungs: TypeAlias = Annotated[tuple[int | str, ...] | None, AfterValidator(_rising)]


def epochs_of(rungs: tuple[int | str, ...] | None, steps_per_epoch: int) -> tuple[int, ...]:
    """The rungs in epochs, each at least one later than the one before. Where none are named they are EPOCHS, or as many
    more as FEWEST_STEPS take, and one of LONGEST_STEPS where that is long enough."""
    if rungs is None:
        wanted = [max(epochs, -(-steps // steps_per_epoch)) for epochs, steps in zip(EPOCHS, FEWEST_STEPS, strict=True)]
        if (longest := -(-LONGEST_STEPS // steps_per_epoch)) >= 2 * wanted[-1]:
            wanted.append(longest)
    else:
        wanted = [one if isinstance(one, int) else -(-_count(one) // steps_per_epoch) for one in rungs]
    found: list[int] = []
    for epochs in wanted:
        found.append(max(epochs, found[-1] + 1 if found else 1))
    return tuple(found)
