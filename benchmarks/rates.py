"""What one learning rate for all families costs each of them, and the rate that suits it.

    python benchmarks/rates.py /usr/share/datasets/fashion-mnist --work DIR --json FILE [--images 12000] [--steps 1500]
                               [--seeds 2] [--families vit,resnet] [--sizes 3,10] [--rates 0.001,0.002,0.004,0.008,0.016]
                               [--batch 128] [--jobs 2]

Of each family two students for 28-pixel images: those nearest to the `--sizes` in million multiply-adds, so that families
are compared at about one size. Each is trained with labels alone at each rate and seed, in batches of `--batch` for the same
steps, all else as in a build; what counts is the accuracy of the averaged weights on the validation split. The test split
is not used.

By family: the mean accuracy at each rate over students and seeds, the best of these rates, and what DEFAULT loses against it
in points: the mean of the paired differences over students and seeds, and its 95% interval by Student's t. As the
best rate is chosen from the same runs, that is too much by a little; `held out` chooses it from the other seeds, and is too
little by a little. The optimum lies where a parabola through the scores by the logarithm of the rate is highest; a score is
-log(share of errors), and the parabola goes through the best rate and those within a factor of REACH of it. Runs are written
to FILE as they end; a second start goes on from there.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from trainings import Row, Rows, interval, listen, open_images, shown, workers

from edgedistill.base.errors import TrialFailure
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.distill.loop import Stretch
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.train import Lessons, train_student
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, SpaceConfig, TrainConfig
from edgedistill.documents.targets import load_target
from edgedistill.networks.families.registry import FAMILIES
from edgedistill.networks.space import Candidate, enumerate_space
from edgedistill.selection.quality import scored

SIDE: Final = 28
REACH: Final = 4.0
DEFAULT: Final = 4e-3
"""One rate for all families: what others are held against."""
Pair: TypeAlias = tuple[str, int]
"""A student and a seed."""


@dataclass(eq=False)
class Bench:
    """What students learn from, and for how many steps."""

    dataset: Dataset
    stored: SplitStore
    students: list[Candidate]
    steps: int
    batch: int

    def begin(self) -> None:
        """Nothing is needed in a worker."""

    def run(self, number: int, rate: float, seed: int) -> list[Row]:
        """Train a student; its accuracy is None, with the problem, where that fails."""
        candidate = self.students[number]
        spec = candidate.spec
        config = TrainConfig(
            recipe="labels", batch_size=self.batch, learning_rate=rate, seed=seed, workers=0, threads=1, device="cpu"
        )
        mean, std = channel_statistics(self.dataset)
        contract = make_contract(DataConfig(), self.dataset.classes, spec.resolution, mean, std)
        lessons = Lessons(self.dataset, config, self.stored)
        epochs = max(1, round(self.steps / lessons.batches(contract).steps_per_epoch))
        row: Row = {"family": spec.family, "student": spec.label, "multiply_adds": candidate.multiply_adds}
        row |= {"rate": rate, "seed": seed, "epochs": epochs}
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                trained = train_student(spec, contract, lessons, Stretch(epochs, Path(folder)), epochs)
                row |= {"validation": trained.quality_validation}
            except TrialFailure as error:
                row |= {"validation": None, "problem": error.message}
        return [row | {"processor_seconds": round(time.process_time() - began, 1)}]


def choose(families: Sequence[str], sizes: Sequence[float], classes: int) -> list[Candidate]:
    """Of each family a student for each size: of those not taken yet the nearest, by ratio."""
    found: list[Candidate] = []
    for family in families:
        config = SpaceConfig(families=(family,), resolutions=(SIDE,))
        left = list(enumerate_space(config, classes, SIDE, load_target("host")).candidates)
        for size in sizes:
            nearest = min(left, key=lambda c: (abs(math.log(c.multiply_adds / (size * 1e6))), c.spec.label))
            left.remove(nearest)
            found.append(nearest)
    return found


def by_rate(rows: Iterable[Row]) -> dict[float, dict[Pair, float | None]]:
    """Validation accuracies by rate, and by student and seed, of the pairs that have every rate."""
    found: dict[float, dict[Pair, float | None]] = {}
    for row in rows:
        found.setdefault(row["rate"], {})[row["student"], row["seed"]] = row["validation"]
    whole = set.intersection(*(set(runs) for runs in found.values())) if found else set()
    return {rate: {pair: runs[pair] for pair in sorted(whole)} for rate, runs in sorted(found.items())}


def means(runs: Mapping[float, Mapping[Pair, float | None]], pairs: Iterable[Pair]) -> dict[float, float | None]:
    """Mean accuracy of `pairs` by rate; None where one of them failed."""
    chosen = list(pairs)
    found: dict[float, float | None] = {}
    for rate, values in runs.items():
        whole = [value for pair in chosen if (value := values[pair]) is not None]
        found[rate] = statistics.fmean(whole) if whole and len(whole) == len(chosen) else None
    return found


def best_of(quality: Mapping[float, float | None]) -> float | None:
    """The rate of the largest mean; None where every rate failed."""
    known = {rate: value for rate, value in quality.items() if value is not None}
    return max(known, key=lambda rate: known[rate]) if known else None


def optimum(quality: Mapping[float, float | None]) -> float | None:
    """Where the parabola is highest, inside the rates tried; the best of these where it has no top."""
    best = best_of(quality)
    near = {
        math.log2(rate): scored(value)
        for rate, value in quality.items()
        if value is not None and best is not None and max(rate / best, best / rate) <= REACH * 1.001
    }
    if best is None or len(near) < 3:
        return best
    square, slope, _ = np.polyfit(list(near), list(near.values()), 2)
    if square >= 0:
        return best
    return float(2 ** np.clip(-slope / (2 * square), min(near), max(near)))


def losses(runs: Mapping[float, Mapping[Pair, float | None]], chosen: Mapping[Pair, float | None]) -> Row:
    """By how many points the default is below the rate that was chosen for each pair, where both trained."""
    pairs = [(runs[rate][pair], runs[DEFAULT][pair]) for pair, rate in chosen.items() if rate is not None]
    mean, half = interval([100 * (a - b) for a, b in pairs if a is not None and b is not None])
    return {"points": mean, "half_width_points": half}


def compared(rows: Iterable[Row]) -> list[Row]:
    """By family, the one that the default rate costs most first."""
    rows = list(rows)
    found: list[Row] = []
    for family in dict.fromkeys(row["family"] for row in rows):
        runs = by_rate(row for row in rows if row["family"] == family)
        pairs = list(runs[DEFAULT]) if DEFAULT in runs else []
        if not pairs:
            continue
        quality = means(runs, pairs)
        best = best_of(quality)
        others = {pair: [other for other in pairs if other[1] != pair[1]] for pair in pairs}
        students = dict.fromkeys(student for student, _ in pairs)
        row = {
            "family": family,
            "pairs": len(pairs),
            "quality": {f"{rate:g}": value for rate, value in quality.items()},
            "best": best,
            "loss": losses(runs, dict.fromkeys(pairs, best)),
            "loss_held_out": losses(runs, {pair: best_of(means(runs, rest)) for pair, rest in others.items() if rest}),
            "optimum": optimum(quality),
            "optimum_by_student": {
                student: optimum(means(runs, [pair for pair in pairs if pair[0] == student])) for student in students
            },
            "failed": sum(value is None for values in runs.values() for value in values.values()),
        }
        found.append(row)
    return sorted(found, key=lambda row: -(row["loss"]["points"] or 0.0))


def show(table: Sequence[Row]) -> None:
    """One line a family."""
    for row in table:
        quality = "  ".join("failed" if v is None else f"{v:.2%}" for v in row["quality"].values())
        found = (row[name] for name in ("loss", "loss_held_out"))
        cost, held_out = (shown(loss["points"], loss["half_width_points"], "points") for loss in found)
        each = ", ".join("-" if rate is None else f"{rate:.2g}" for rate in row["optimum_by_student"].values())
        best, top = ("-" if rate is None else f"{rate:.2g}" for rate in (row["best"], row["optimum"]))
        print(f"{row['family']:17} {quality}  best {best}, optimum {top} ({each}); loses {cost}, held out {held_out}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--sizes", default="3,10")
    parser.add_argument("--rates", default="0.001,0.002,0.004,0.008,0.016")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rates = [float(rate) for rate in arguments.rates.split(",")]
    if DEFAULT not in rates:
        parser.error(f"--rates must have the default, {DEFAULT:g}")
    dataset = open_images(arguments.data, arguments.images)
    store = Store(arguments.work / "cache", listen)
    views = SplitStore(stored_views(store, dataset, AugmentationConfig(views=4, mix=0.0)))
    sizes = [float(size) for size in arguments.sizes.split(",")]
    students = choose(arguments.families.split(","), sizes, len(dataset.classes))
    # Families may be run one after the other into one file.
    settings = {"images": arguments.images, "steps": arguments.steps, "batch": arguments.batch, "default": DEFAULT}
    rows = Rows.open(arguments.json, ("student", "rate", "seed"), settings)
    jobs = [
        (number, rate, seed)
        for seed in range(arguments.seeds)
        for number, candidate in sorted(enumerate(students), key=lambda item: -item[1].multiply_adds)
        for rate in rates
        if not rows.have(candidate.spec.label, rate, seed)
    ]
    with workers(Bench(dataset, views, students, arguments.steps, arguments.batch), arguments.jobs) as done:
        for made in done(jobs):
            rows.add(made)
    table = compared(rows)
    rows.write(compared=table)
    show(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
