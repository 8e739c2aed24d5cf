"""How well one order of students tells another: correlation of ranks with its interval, and the best that go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from trainings import Row

from edgedistill.documents.build_file import SearchConfig

BEST, SHARES = 10, {"half": SearchConfig().keep, "third": 1 / 3}
RESAMPLES: Final = 2000
DRAWS: Final = 10_000
Floats = NDArray[np.float64]


def ranks(values: Floats, end: Floats, base: Floats | None) -> Row:
    """Spearman's correlation of `values` with `end`, its interval, and the difference to that of `base`."""
    drawn = np.random.default_rng(0).integers(0, len(end), (RESAMPLES, len(end)))
    resampled = spearman(values[drawn], end[drawn])
    found: Row = {"spearman": float(spearman(values[None], end[None])[0]), "interval": bounds(resampled)}
    found |= {"difference": None, "difference_interval": None}
    if base is not None:
        found["difference"] = found["spearman"] - float(spearman(base[None], end[None])[0])
        found["difference_interval"] = bounds(resampled - spearman(base[drawn], end[drawn]))
    return found


def spearman(a: Floats, b: Floats) -> Floats:
    """Of each row of two arrays [n, students]; 0 where all are equal."""
    a, b = (stats.rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0))


def bounds(resampled: Floats) -> list[float]:
    """Of a 95% interval."""
    return [float(bound) for bound in np.quantile(resampled, (0.025, 0.975))]


def recalls(values: Floats, end: Floats) -> Row:
    """How many of the best at the end are in each share that goes on."""
    best = set(np.argsort(-end, kind="stable")[:BEST].tolist())
    order = np.argsort(-values, kind="stable").tolist()
    return {f"best_in_{name}": len(best & set(order[: round(share * len(end))])) for name, share in SHARES.items()}


def bracket(seen: Sequence[Floats], end: Floats, students: Sequence[int]) -> Row:
    """What a bracket loses beside training all of its students to the end: DRAWS brackets of `students[0]` drawn ones, of
    which the best `students[n + 1]` by what was `seen` of them at rung n go on."""
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(DRAWS):
        drawn = rng.permutation(len(end))[: students[0]]
        alive = drawn
        for values, count in zip(seen, students[1:], strict=True):
            alive = alive[np.argsort(-values[alive], kind="stable")[:count]]
        losses.append(float(end[drawn].max() - end[alive].max()))
    return {"loss_points": 100 * float(np.mean(losses)), "best_found": float(np.mean(np.array(losses) == 0))}
