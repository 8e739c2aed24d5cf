"""What a build's students learn from, without a build: made ahead, told, and held against the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Listener
from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.distill.hardware import choose_device, labelling_autocast
from edgedistill.distill.recipes.choice import REPEATS, Known, options_for
from edgedistill.distill.stored.filtering import agreement_with, certainty
from edgedistill.distill.stored.mixing import MixedSignal, Signal
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.documents.answers import CheckedSignal, LogitsSummary, SignalSummary, ViewsCheck, ViewsInfo
from edgedistill.documents.recipes import DEFAULT_EMBEDDING, LOGITS
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.choice import has_features, look, use_recipe
from edgedistill.pipeline.jobs import Order
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.prepare import open_store
from edgedistill.pipeline.teacher import missing_fits, open_labelling, open_teacher
from edgedistill.pipeline.work import fit_all
from edgedistill.pipeline.workbench import Executor, Made, Result, Workbench, WorkItem
from edgedistill.pipeline.working import keep_copies

_CHUNK: Final = 8192


class Finds:
    """An executor that makes nothing: only what the cache has is used."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Holds nothing."""

    def run(self, items: Sequence[WorkItem[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        """Raises InputError."""
        raise _nothing_yet("the views are not labelled yet")


def _nothing_yet(what: str) -> InputError:
    return InputError(what, fix="make them first: edgedistill views build BUILD.toml")


def open_views(
    order: Order, listener: Listener, executor: Callable[[Store], Executor] | None
) -> tuple[Workbench, SplitStore]:
    """What the students of a build learn from, found, or made by `executor`; nothing is measured. Raises InputError, also
    where it is not there and there is no executor."""
    store = Store(listener=listener)
    dataset = load_dataset(order.config.data, listener, need_labels=order.config.task == "classification")
    data = Data(dataset, *channel_statistics(dataset, listener))
    bench = Workbench.of(
        order.config, order.target, data, store, Meter(order.target, None, "nothing is measured for views"), order.base
    )
    default = not bench.recipe_is_settled
    if default:
        # With a teacher, whatever it comes to.
        use_recipe([bench], "kd" if bench.vector is None else DEFAULT_EMBEDDING)
    if executor is None and bench.recipe.taps and any(missing_fits(one) for one in (bench, *bench.others)):
        raise _nothing_yet("the teacher is not fitted yet")
    if executor is not None:
        keep_copies(bench)
    with Finds() if executor is None else executor(store) as doing:
        bench.executor = doing
        if bench.recipe.taps:
            fit_all(bench, doing)
        if default and bench.vector is None:
            return bench, look([bench], has_features(bench.config.teacher, open_teacher(bench)))
        return bench, open_store(bench)


def info_of(bench: Workbench, stored: SplitStore) -> ViewsInfo:
    """What is stored, and what it says of the teacher."""
    views, labels = stored.stored_views, bench.taught.labels[bench.taught.splits.train]
    logits = stored.signal(LOGITS)
    said, advice = None, []
    if not stored.signals:
        advice = ["The recipe asks no teacher: images without a label are not learnt from."]
    if logits is not None:
        said = summary_of(logits, views.count, labels)
        features = has_features(bench.config.teacher, open_teacher(bench))
        advice = [*_advice(bench, said), _default(Known.of(labels, stored, None, features=features))]
    return ViewsInfo(
        path=str(views.folder),
        data=bench.dataset.name,
        views=views.count,
        images=views.images,
        labelled=int((labels != UNLABELLED).sum()),
        learnt=len(stored.positions()),
        bytes=_bytes(views.folder),
        signals=tuple(
            SignalSummary(
                tap=signal.tap,
                path=str(signal.folder),
                width=signal.encoding.width,
                bytes_per_view=signal.encoding.record.itemsize,
                bytes=_bytes(signal.folder),
            )
            for signal in _parts(stored)
        ),
        logits=said,
        advice=tuple(advice),
    )


def _parts(stored: SplitStore) -> Iterator[StoredSignal]:
    """All that is stored, of an ensemble what each teacher gave."""
    for signal in stored.signals:
        yield from signal.parts if isinstance(signal, MixedSignal) else (signal,)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def summary_of(logits: Signal, views: int, labels: Indices) -> LogitsSummary:
    """What `logits` on `views` view indices say of the teacher; `labels` [n] are those of the training split."""
    sure = certainty(logits, views)
    entropy = 0.0
    for start in range(0, logits.images, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, logits.images), dtype=np.int64)
        for view in range(views):
            rows = logits.at(view, positions).astype(np.float64)
            logs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
            entropy -= float((np.exp(logs) * logs).sum())
    free = labels == UNLABELLED
    errors = logits.stated_errors(views)
    return LogitsSummary(
        agreement_labels=agreement_with(labels, logits, views),
        agreement_views=float(sure.agreement.mean()),
        confidence=float(sure.confidence.mean()),
        confidence_unlabelled=float(sure.confidence[free].mean()) if free.any() else None,
        entropy_nats=entropy / (views * logits.images),
        error_mean=None if errors is None else float(errors.mean()),
        error_largest=None if errors is None else float(errors.max()),
    )


def _default(known: Known) -> str:
    first, *others = options_for(known)
    names = " or ".join(other.recipe for other in others)
    pilot = f", unless a pilot shows that {names} does better" if others else ""
    return f'recipe = "default" takes {first.recipe} here{pilot}: {first.reason}.'


def _advice(bench: Workbench, said: LogitsSummary) -> Iterator[str]:
    """What a recipe can make of it."""
    fit = bench.config.teacher.fit
    if said.agreement_labels is not None and said.agreement_labels >= REPEATS:
        text = "The teacher repeats the labels of the images that it was fitted to"
        if fit is not None and fit.crossfit is None:
            other = "[teacher.fit] crossfit = 2 lets it label images that it has not seen"
            yield f"{text}: the recipe srd learns its features, which say more of an image; or {other}."
        elif fit is None:
            yield f"{text}: views that are harder (operations, magnitude, mix) make it say more."
    if said.confidence_unlabelled is not None and said.agreement_views < 0.9:
        yield "The teacher wavers between the views of some images: [train] min_agreement leaves out those without a label."
    if said.entropy_nats < 0.05:
        yield "The teacher is almost always sure: kl learns little beside the labels; try srd or dist."


def check_of(bench: Workbench, stored: SplitStore, images: int) -> ViewsCheck:
    """What the live teacher says of `images` of the training images in each view, held against what is stored."""
    chosen = np.sort(np.random.default_rng(0).permutation(stored.stored_views.images)[:images]).astype(np.int64)
    found = []
    for signal in stored.signals:
        autocast = labelling_autocast(bench.config.train)
        # The parts of an ensemble are in the order of its teachers.
        parts = zip((bench, *bench.others), signal.parts if isinstance(signal, MixedSignal) else (signal,))
        for one, part in parts:
            if open_teacher(one).outputs is not None:  # what is stored is what there is
                continue
            labeller = open_labelling(one, stored.stored_views, (part.tap,), autocast).labeller
            found.append(_checked(labeller, part, chosen))
    return ViewsCheck(images=len(chosen), views=stored.stored_views.count, signals=tuple(found))


def _checked(labeller: Labeller, signal: StoredSignal, chosen: Indices) -> CheckedSignal:
    largest = total = scale = 0.0
    differing, encoding = 0, labeller.encodings[signal.tap]
    with labeller.on_device(choose_device(labeller.device)) as device:
        for view in range(labeller.views.count):
            for start in range(0, len(chosen), labeller.batch_size):
                positions = chosen[start : start + labeller.batch_size]
                live = encoding.comparable(labeller.live(view, positions, device)[signal.tap])
                read = signal.at(view, positions).astype(np.float32)
                error = np.abs(live - read)
                largest, total = max(largest, float(error.max())), total + float(error.mean(axis=1).sum())
                scale = max(scale, float(np.abs(live).max()))
                differing += int((live.argmax(axis=1) != read.argmax(axis=1)).sum())
    rows = labeller.views.count * len(chosen)
    return CheckedSignal(
        tap=signal.tap,
        error_mean=total / rows,
        error_largest=largest,
        value_largest=scale,
        top_differs=differing if signal.tap == LOGITS else None,
        rows=rows,
    )
