"""Which early rungs rank students as the end does: ways of training to a rung, compared at equal epochs spent.

    python benchmarks/rungs.py /usr/share/datasets/fashion-mnist --work DIR --json FILE [--images 6000] [--rungs 4,8,16]
                               [--students 60] [--families mobilenetv4,resnet] [--most 10] [--recipe labels] [--seed 0]
                               [--validation 4000] [--jobs 2] [--only prefix]

Students are drawn from the default space of 28-pixel images on the target `host`, without those of more than `--most`
million multiply-adds: as many of each family, and of each as many small as large ones. They learn from `--images` and are
judged by `--validation` images, stratified both. Rungs are the defaults for so many images where none are named. The ways:

    today           a rung is a prefix of the whole schedule, as in a build
    cooled          the last quarter of each rung's epochs goes into a copy, whose rate falls to zero from where it was; the
                    copy is ranked, and the run goes on from before it
    own_schedule    each rung is a training of its own from the same random weights, its rate falling to zero at its end
    warm_restart    the same, but each rung goes on from the weights of the one before

Epochs spent are all that a student was trained for until it is ranked: those of copies and of rungs thrown away too. Each
way is held against `today` after as many epochs, whichever rung that is. What ranks is `quality`, `cross_entropy` or
`brier` on the validation split, of the averaged weights; the same of the last weights (`raw_`), and of the averaged ones on
SMALL images of the split (`small_`); or `train_loss`, the mean over the second half of the steps so far.

Each is held against the validation accuracy at the end of the whole schedule: Spearman's correlation over students, with a
95% interval by the bootstrap, the difference to the accuracy of `today` in the same resamples, and how many of the 10 best
at the end are in the better half and the better third. `brackets` is what drawn brackets of eight students lose beside
training all of them to the end. FILE also has the correlation with the end of the way itself. The
test split is not used. Rows are written to FILE as a student's runs end; a second start goes on from there. `--only` leaves
one group of runs: `prefix` (today, cooled) or `restarts`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np
import recipes
import torch
from numpy.typing import NDArray
from rank_statistics import bracket, ranks, recalls, spearman
from sections import within
from torch import Tensor
from torch.nn import functional as F
from trainings import Row, Rows, interval, listen, open_images, shown, workers

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract, prepare
from edgedistill.data.sources import Pixels
from edgedistill.data.splits import limited
from edgedistill.distill.batches import Batch, ViewBatches
from edgedistill.distill.evaluate import collected
from edgedistill.distill.hardware import Hardware, choose_hardware
from edgedistill.distill.loop import STATE, Schedule, Stretch, train
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.train import Lessons, schedule_of
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, SpaceConfig, TrainConfig
from edgedistill.documents.lengths import epochs_of
from edgedistill.documents.recipes import LOGITS, OF_CLASSES, RECIPES
from edgedistill.documents.specs import Contract
from edgedistill.documents.targets import load_target
from edgedistill.networks.build import build_student
from edgedistill.networks.space import Candidate, enumerate_space

SIDE: Final = 28
COOLED: Final = 0.25
"""Share of a rung's epochs that `cooled` spends on the copy."""
WARMUP: Final = 0.25
"""Share of a schedule of a rung's own that is warm-up, at most; `[train] warmup_epochs` otherwise."""
SMALL: Final = 900
GROUPS: Final = {"prefix": ("today", "cooled"), "restarts": ("own_schedule", "warm_restart")}
"""Ways by the runs that they share."""
SIGNALS: Final = (
    "quality",
    "cross_entropy",
    "brier",
    "raw_quality",
    "raw_cross_entropy",
    "raw_brier",
    "small_quality",
    "small_cross_entropy",
    "small_brier",
    "train_loss",
)
WAYS: Final = tuple(way for ways in GROUPS.values() for way in ways)
BRACKET: Final = 8
"""Students of a bracket, of which half go on at each rung."""
FEWEST: Final = 4
"""With fewer students than this, no correlation is computed."""


class Heard(Pupil):
    """A pupil that is heard: `losses` are those of its steps since they were last looked at."""

    losses: list[Tensor]

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """As that of any pupil."""
        value = super().loss(outputs, batch)
        self.losses.append(value.detach())
        return value


class BySteps(ViewBatches):
    """Batches of `inner` from number `first` on, each an epoch of its own to the loop: a schedule may then begin and end at
    any of them."""

    def __init__(self, inner: ViewBatches, first: int) -> None:
        self.inner, self.first = inner, first

    @property
    def steps_per_epoch(self) -> int:
        return 1

    def loader(self, steps: range, hardware: Hardware) -> Iterator[Batch]:
        return self.inner.loader(range(steps.start + self.first, steps.stop + self.first), hardware)


@dataclass(frozen=True, eq=False)
class Graded:
    """Images of the validation split as a contract has them, with their labels; `small` are some of them, stratified."""

    pixels: Pixels
    labels: NDArray[np.int64]
    small: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, contract: Contract) -> Graded:
        chosen = dataset.splits.validation
        labels = dataset.labels[chosen]
        small = limited(np.arange(len(chosen)), labels, min(SMALL, len(chosen)), seed=0)
        return cls(prepare(dataset.images, chosen, contract), labels, small)

    def signals(self, average: Pupil, last: Pupil) -> dict[str, float]:
        """Those of SIGNALS that validation gives, of the averaged and of the last weights."""
        everyone = np.arange(len(self.labels))
        outputs = {"": average, "raw_": last}
        logits = {name: collected(pupil, self.pixels)[LOGITS].double() for name, pupil in outputs.items()}
        parts = (("", "", everyone), ("raw_", "raw_", everyone), ("small_", "", self.small))
        found = {}
        for prefix, which, images in parts:
            given, labels = logits[which][images], torch.from_numpy(self.labels[images])
            truth = F.one_hot(labels, given.shape[1])
            found[f"{prefix}quality"] = float((given.argmax(1) == labels).double().mean())
            found[f"{prefix}cross_entropy"] = float(F.cross_entropy(given, labels))
            found[f"{prefix}brier"] = float((given.softmax(1) - truth).square().sum(1).mean())
        return found


@dataclass(eq=False)
class Run:
    """A student in training, from its random weights on, under one schedule after the other. `taken` steps were taken in
    all; `folder` holds the state after them, once there are any."""

    pupil: Heard
    batches: ViewBatches
    config: TrainConfig
    hardware: Hardware
    graded: Graded
    scratch: Path
    taken: int = 0
    folder: Path | None = None
    losses: list[float] = field(default_factory=list)
    average: Pupil | None = None
    schedule: Schedule | None = None
    began: int = 0

    def under(self, steps: int, warmup: int, rate: float) -> None:
        """Go on under a new schedule of so many steps. The optimiser's state stays, and the average of the weights begins
        anew."""
        self.schedule = Schedule(
            total_epochs=steps,
            learning_rate=rate,
            weight_decay=self.config.weight_decay,
            warmup_epochs=warmup,
            ema_decay=self.config.ema_decay,
            seed=self.config.seed,
            checkpoint_seconds=float("inf"),
        )
        self.began = self.taken
        if self.folder is not None:
            content = torch.load(self.folder / STATE, weights_only=True)
            self.folder = self._fresh_folder()
            torch.save(content | {"step": 0, "total_epochs": steps, "ema": content["pupil"]}, self.folder / STATE)

    @property
    def highest(self) -> float:
        """The highest learning rate of a schedule."""
        return schedule_of(self.config, 1).learning_rate

    def until(self, step: int) -> None:
        """Train up to a step, counted from the run's start, that the schedule reaches."""
        assert self.schedule is not None
        folder, batches = self._fresh_folder(), BySteps(self.batches, self.began)
        stretch = Stretch(step - self.began, folder, self.folder)
        self.pupil.losses = []
        self.average = train(self.pupil, batches, self.schedule, self.hardware, stretch).pupil
        self.losses += torch.stack(self.pupil.losses).tolist()
        self.taken, self.folder = step, folder

    def aside(self) -> Run:
        """A copy that goes a way of its own."""
        return replace(self, pupil=copy.deepcopy(self.pupil), losses=list(self.losses))

    @property
    def rate(self) -> float:
        """That of the last step."""
        assert self.folder is not None
        content = torch.load(self.folder / STATE, weights_only=True)
        return float(content["optimizer"]["param_groups"][0]["lr"])

    def signals(self) -> dict[str, float]:
        """Those of SIGNALS, now."""
        assert self.average is not None
        late = self.losses[len(self.losses) // 2 :]
        return self.graded.signals(self.average, self.pupil) | {"train_loss": statistics.fmean(late)}

    def _fresh_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))


@dataclass(eq=False)
class Bench:
    """What students learn from, and the rungs in epochs."""

    dataset: Dataset
    stored: SplitStore
    students: list[Candidate]
    config: TrainConfig
    rungs: tuple[int, ...]

    def begin(self) -> None:
        """Nothing is needed in a worker."""

    def run(self, number: int, group: str) -> list[Row]:
        """The rows of a student's runs of a group; for a training that fails one a way that says so."""
        candidate = self.students[number]
        spec = candidate.spec
        about: Row = {"student": spec.label, "family": spec.family, "multiply_adds": candidate.multiply_adds}
        began = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            start = self.start(candidate, Path(scratch))
            try:
                rows = list(self.prefix(start) if group == "prefix" else self.restarts(start))
            except TrialFailure as error:
                rows = [{"way": way, "rung": 0, "spent": 0, "problem": error.message} for way in GROUPS[group]]
        seconds = round(time.process_time() - began, 1)
        return [about | row | {"group_processor_seconds": seconds} for row in rows]

    def start(self, candidate: Candidate, scratch: Path) -> Run:
        """A student before its first step."""
        mean, std = channel_statistics(self.dataset)
        spec, classes = candidate.spec, self.dataset.classes
        contract = make_contract(DataConfig(), classes, spec.resolution, mean, std)
        lessons = Lessons(self.dataset, self.config, self.stored).rated(spec, None)
        torch.manual_seed(self.config.seed)
        pupil = Heard(build_student(spec, contract), recipe_of(self.config), len(classes), lessons.statistics())
        pupil.losses = []
        hardware = choose_hardware(self.config, self.dataset.images)
        batches, graded = lessons.batches(contract), Graded.of(self.dataset, contract)
        return Run(pupil, batches, lessons.config, hardware, graded, scratch)

    def prefix(self, run: Run) -> Iterator[Row]:
        """`today` and `cooled`: one run, from which copies branch off."""
        an_epoch, last = run.batches.steps_per_epoch, self.rungs[-1]
        seen = {epochs * an_epoch: epochs for epochs in self.epochs_today}
        branches = {}
        for rung, before in zip(self.rungs[:-1], (0, *self.rungs)):
            # As much of every rung goes into a copy, so that the run itself has come so far when the rung is spent.
            length = max(1, round(COOLED * (rung - before) * an_epoch))
            branches[max(1, round((1 - COOLED) * rung * an_epoch))] = (rung, length)
        run.under(last * an_epoch, round(self.config.warmup_epochs * an_epoch), run.highest)
        for step in sorted(seen.keys() | branches.keys()):
            run.until(step)
            if step in seen:
                yield {"way": "today", "rung": seen[step], "spent": seen[step], **run.signals()}
            if step in branches:
                rung, length = branches[step]
                cooled = run.aside()
                cooled.under(length, 0, run.rate)
                cooled.until(step + length)
                yield {"way": "cooled", "rung": rung, "spent": rung, **cooled.signals()}

    def restarts(self, start: Run) -> Iterator[Row]:
        """`own_schedule` and `warm_restart`, whose first rung is one and the same."""
        an_epoch, going = start.batches.steps_per_epoch, start.aside()
        for rung, spent, before in zip(self.rungs, accumulate(self.rungs), (0, *self.rungs)):
            self.whole_schedule(going, (rung - before) * an_epoch)
            found = going.signals()
            yield {"way": "warm_restart", "rung": rung, "spent": rung, **found}
            if before and rung < self.rungs[-1]:
                own = start.aside()
                self.whole_schedule(own, rung * an_epoch)
                found = own.signals()
            if rung < self.rungs[-1]:
                # Its last rung is the whole schedule, from the start: where `today` ends.
                yield {"way": "own_schedule", "rung": rung, "spent": spent, **found}

    def whole_schedule(self, run: Run, steps: int) -> None:
        """Train over a schedule of so many steps from where the run is."""
        warmup = min(self.config.warmup_epochs * run.batches.steps_per_epoch, WARMUP * steps)
        run.under(steps, round(warmup), run.highest)
        run.until(run.taken + steps)

    @property
    def epochs_today(self) -> set[int]:
        """After which `today` is looked at: the rungs, and what other ways have spent by theirs."""
        spent = {*self.rungs, *accumulate(self.rungs[:-1])}
        return {epochs for epochs in spent if epochs <= self.rungs[-1]}


def draw(candidates: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """So many candidates, as many of each family as far as it has them. Its own, sorted by multiply-adds, are cut into as
    many parts as are wanted of it, and one is drawn from each."""
    if len(candidates) < count:
        raise SystemExit(f"{len(candidates)} candidates are not {count}: raise --most")
    rng = np.random.default_rng(seed)
    by_family: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.multiply_adds, c.spec.label)):
        by_family.setdefault(candidate.spec.family, []).append(candidate)
    wanted = dict.fromkeys(by_family, 0)
    for _ in range(count):
        having = [family for family, members in by_family.items() if wanted[family] < len(members)]
        wanted[min(having, key=lambda family: wanted[family])] += 1
    found = []
    for family, members in by_family.items():
        parts = np.array_split(np.arange(len(members)), wanted[family]) if wanted[family] else []
        found += [members[int(rng.choice(part))] for part in parts]
    return found


def open_bench(arguments: argparse.Namespace) -> Bench:
    """With the views that students learn from, and for a recipe that needs them a teacher's outputs."""
    dataset = open_images(arguments.data, arguments.images)
    fewer = limited(dataset.splits.validation, dataset.labels, arguments.validation, seed=0)
    dataset = replace(dataset, splits=replace(dataset.splits, validation=fewer))
    config = TrainConfig(recipe=arguments.recipe, seed=arguments.seed, workers=0, threads=1, device="cpu")
    store = Store(arguments.work / "cache", listen)
    augmentation = AugmentationConfig(mix=RECIPES[arguments.recipe].mix or 0.0)
    views = stored_views(store, dataset, augmentation)
    stored = SplitStore(views)
    if taps := recipe_of(config).taps:
        work = arguments.work / f"{arguments.images}-images"
        teacher = recipes.open_teacher("fitted", dataset, dataset, None, work)
        stored = SplitStore(views, Labelling(store, Labeller(teacher, dataset, views, taps), silent).build())
    families = tuple(arguments.families.split(",")) if arguments.families else ()
    space = enumerate_space(SpaceConfig(families=families), len(dataset.classes), SIDE, load_target("host"))
    small = [candidate for candidate in space.candidates if candidate.multiply_adds <= arguments.most * 1e6]
    bench = Bench(dataset, stored, draw(small, arguments.students, arguments.seed), config, ())
    mean, std = channel_statistics(dataset)
    contract = make_contract(DataConfig(), dataset.classes, SIDE, mean, std)
    steps = Lessons(dataset, config, bench.stored).batches(contract).steps_per_epoch
    named = tuple(int(rung) for rung in arguments.rungs.split(",")) if arguments.rungs else None
    return replace(bench, rungs=epochs_of(named, steps))


def compared(rows: Iterable[Row], rungs: tuple[int, ...]) -> list[Row]:
    """By way, rung before the last and signal: how it ranks the students that every way has trained to that rung."""
    at: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        if "problem" not in row:
            at.setdefault((row["way"], row["rung"]), {})[row["student"]] = row
    ends = at.get(("today", rungs[-1]), {})
    found = []
    for (way, rung), here in sorted(at.items(), key=lambda item: (item[0][1], WAYS.index(item[0][0]))):
        if rung not in rungs[:-1]:
            continue
        spent = next(iter(here.values()))["spent"]
        today = at.get(("today", spent), {})
        students = sorted(here.keys() & ends.keys() & (today.keys() or here.keys()))
        if len(students) < FEWEST:
            continue
        end = np.array([ends[student]["quality"] for student in students])
        base = np.array([today[student]["quality"] for student in students]) if today else None
        for signal in SIGNALS:
            sign = 1 if signal.endswith("quality") else -1
            values = sign * np.array([here[student][signal] for student in students])
            ranking = {"way": way, "rung": rung, "spent": spent, "signal": signal, "students": len(students)}
            own = at.get((way, rungs[-1]), ends)
            if own.keys() >= set(students):
                own_end = np.array([own[student]["quality"] for student in students])
                ranking["spearman_own_end"] = float(spearman(values[None], own_end[None])[0])
            found.append(ranking | ranks(values, end, base) | recalls(values, end))
    return found


def costs(rows: Iterable[Row], rungs: tuple[int, ...]) -> list[Row]:
    """By way: the epochs of a student that goes all the way, and by how many points it ends above `today`."""
    last = rungs[-1]
    ends = {(row["way"], row["student"]): row.get("quality") for row in rows if row["rung"] == last}
    epochs = {
        "today": last,
        "cooled": last + COOLED * rungs[-2] if len(rungs) > 1 else last,
        "own_schedule": sum(rungs),
        "warm_restart": last,
    }
    found: list[Row] = []
    for way, spent in epochs.items():
        pairs = [(value, ends.get(("today", student))) for (own, student), value in ends.items() if own == way]
        mean, half = interval([100 * (a - b) for a, b in pairs if a is not None and b is not None])
        found.append({"way": way, "epochs": spent, "points": mean, "half_width_points": half})
    return found


def brackets(rows: Iterable[Row], rungs: tuple[int, ...]) -> list[Row]:
    """What brackets of eight students lose, of those that all ways have trained: by accuracy at the rungs of `today`, and at
    a first rung with a schedule of its own, from which fewer go on, so that as many epochs are spent."""
    at: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if "problem" not in row:
            at.setdefault((row["way"], row["rung"]), {})[row["student"]] = row["quality"]
    first, *later = rungs
    plans = [("today", [("today", rung) for rung in rungs[:-1]], [BRACKET >> n for n in range(len(rungs))])]
    if later:
        plans.append(("own_schedule", [("own_schedule", first)], [BRACKET, BRACKET >> 2]))
    found = []
    for way, places, counts in plans:
        everywhere = [at.get(place, {}) for place in (*places, ("today", rungs[-1]))]
        students = sorted(set.intersection(*(set(here) for here in everywhere)))
        if len(students) >= BRACKET:
            *seen, end = (np.array([here[student] for student in students]) for here in everywhere)
            found.append({"way": way, "counts": counts, "students": len(students), **bracket(seen, end, counts)})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rungs", default="")
    parser.add_argument("--students", type=int, default=60)
    parser.add_argument("--families", default="")
    parser.add_argument("--most", type=float, default=10.0)
    parser.add_argument("--validation", type=int, default=4000)
    parser.add_argument("--recipe", choices=OF_CLASSES, default="labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(GROUPS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    bench = open_bench(arguments)
    settings = {
        "images": arguments.images,
        "validation": arguments.validation,
        "rungs": list(bench.rungs),
        "most_million_multiply_adds": arguments.most,
        "recipe": arguments.recipe,
        "seed": arguments.seed,
        "students": [candidate.spec.label for candidate in bench.students],
    }
    rows = Rows.open(arguments.json, ("student", "way", "rung"), settings)
    groups = [arguments.only] if arguments.only else list(GROUPS)
    jobs = [(number, group) for number in range(len(bench.students)) for group in groups]
    # Large ones first, so that no process is left alone with one at the end.
    jobs.sort(key=lambda job: -bench.students[job[0]].multiply_adds)
    left = [(number, group) for number, group in jobs if not rows.have(settings["students"][number], GROUPS[group][0])]
    with workers(bench, arguments.jobs) as done:
        for made in done(left):
            rows.add(made)
    table, ends = compared(rows, bench.rungs), costs(rows, bench.rungs)
    problems = sorted({f"{row['student']} {row['way']}: {row['problem']}" for row in rows if "problem" in row})
    lost = brackets(rows, bench.rungs)
    rows.write(compared=table, ends=ends, brackets=lost, problems=problems)
    print(f"{'way':13} {'rung':>4} {'spent':>5} {'signal':20} {'Spearman':26} {'difference to today':26} half third")
    for row in table:
        told = [within(row["spearman"], row["interval"]), within(row["difference"], row["difference_interval"])]
        print(
            f"{row['way']:13} {row['rung']:4} {row['spent']:5} {row['signal']:20} {told[0]:26} {told[1]:26} "
            f"{row['best_in_half']:4} {row['best_in_third']:5}"
        )
    for row in ends:
        print(f"{row['way']:13} {row['epochs']:g} epochs, {shown(row['points'], row['half_width_points'], 'points')}")
    for row in lost:
        print(f"{row['way']:13} brackets {row['counts']} lose {row['loss_points']:.2f} points")
    print(*problems, sep="\n", end="\n" * bool(problems))
    return 0


if __name__ == "__main__":
    sys.exit(main())
