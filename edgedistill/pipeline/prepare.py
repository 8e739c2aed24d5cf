"""What a build needs before its first candidate: data, teacher, the teacher's own latency, the budget in milliseconds,
what students learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgedistill.base.errors import EdgedistillError, InputError, TrialFailure
from edgedistill.base.intervals import SMALL_SPLIT, lower_bound
from edgedistill.base.progress import Listener, Note, StageAdvanced
from edgedistill.base.store import Store, stage_key, write_atomic
from edgedistill.base.units import format_percent
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.devices.latency.model import prior_from_published
from edgedistill.distill.hardware import choose_device, labelling_autocast, require_processes
from edgedistill.distill.stored.filtering import filtered, without_label
from edgedistill.distill.stored.mixing import MixedSignal, Signal
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import StoredViews, stored_views
from edgedistill.distill.teachers.making import STAGE
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.artifacts import CompiledArtifact, Verified
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.measurements import Latency, MeasuredLatency, Profile, UnknownLatency
from edgedistill.documents.recipes import LOGITS
from edgedistill.documents.specs import Budget, BudgetRequest, Format, Precision, QuantScheme, Target, scored
from edgedistill.formats import SHIPPED
from edgedistill.networks.counting import structure_of
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import code_of
from edgedistill.networks.space import Candidate, Space, enumerate_space
from edgedistill.networks.tasks import CLASSIFICATION
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Bench, Data, Source
from edgedistill.pipeline.crossing import mixing_groups
from edgedistill.pipeline.ensemble import open_ensemble
from edgedistill.pipeline.jobs import Order
from edgedistill.pipeline.judge import verified
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.measure import compared, latency_of, scale_alone, scale_beside
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.pretrained import require_starts
from edgedistill.pipeline.space import executable
from edgedistill.pipeline.teacher import open_labelling, open_teacher
from edgedistill.pipeline.teacher_file import source_of
from edgedistill.pipeline.teacher_outputs import signals_of_outputs, split_outputs
from edgedistill.pipeline.work import LabelItem, do_all
from edgedistill.pipeline.workbench import Place, Workbench, score_of
from edgedistill.selection.expectations import Expectation

HEADROOM = 4.0


@dataclass(frozen=True, eq=False)
class PreparedTeacher:
    """The teacher, its fp32 file as ONNX (which gives its quality) and what is known of its latency on the target. One of
    which there are outputs alone has no file."""

    teacher: Teacher
    source: Source | None
    artifact: CompiledArtifact | None
    quality_validation: float
    latency: Latency
    profile: Profile | None


def open_bench(
    config: BuildConfig, target: Target, store: Store, *, base: Path, require_measured: bool, device: str = ""
) -> Workbench:
    """Load the data and reach the target's device, or the user's that `device` names. Raises UnreachableError if it is
    required and does not answer, InputError for what is wrong with the data, or where the budget cannot do without the
    device, UnsupportedError for more `[train] processes` than there are GPUs."""
    if config.train.processes > 1:
        require_processes(config.train.processes, choose_device(config.train.device))
    meter = Meter.attached(config, target, store, required=require_measured, named=device)
    classified = config.task == "classification"
    dataset = load_dataset(config.data, store.listener, need_labels=classified)
    by_labels = classified or score_of(config, dataset) != "neighbours"
    if not by_labels:
        why = "" if dataset.classes else "no image has a label: "
        told = f"{why}students are judged by whether they find the nearest neighbour that the teacher finds"
        store.listener(Note(told))
    _warn_of_small_split(dataset, config.search.folds, store.listener, crossing=by_labels)
    data = Data(dataset, *channel_statistics(dataset, store.listener))
    return Workbench.of(config, target, data, store, meter, base)


def _warn_of_small_split(dataset: Dataset, folds: int | None, listener: Listener, *, crossing: bool = True) -> None:
    if (count := len(dataset.splits.validation)) < SMALL_SPLIT:
        told = f"the validation split has {count} images, of which one is {100 / count:.1f} points"
        chance = "students that differ by a few of them are ranked by chance"
        fix = "give it more, by [data.split] validation too" + ", or set [search] folds = 5" * crossing
        what = f"{chance} before the last rung; finalists are ranked by cross-validation of {folds} parts"
        listener(Note(f"{told}: {f'{chance}; {fix}' if folds is None else what}", warning=folds is None))


def open_benches(orders: Sequence[Order], store: Store) -> tuple[Workbench, ...]:
    """A bench for each order, all with the data and the images of the first. Raises what `open_bench` does."""
    order, *others = orders
    how = order.how
    first = open_bench(
        order.config, order.target, store, base=order.base, require_measured=how.require_measured, device=how.device
    )
    beside = (
        replace(
            first,
            config=other.config,
            target=other.target,
            meter=Meter.attached(other.config, other.target, store, required=other.how.require_measured),
            export=other.config.export,
            space=other.config.space,
        )
        for other in others
    )
    return (first, *beside)


def prepare_teacher(bench: Workbench) -> PreparedTeacher:
    """Load the teacher, fit it where the build file asks for it, and run and measure its fp32 file."""
    teacher = open_teacher(bench)
    if teacher.outputs is not None:
        return _unmeasured(bench, teacher)
    source = source_of(teacher) or Source(
        f"teacher {teacher.name}", teacher.key, teacher.contract, partial(deploy, teacher.module)
    )
    fp32 = QuantScheme(precision=Precision.FP32)
    form = Format.ONNX if bench.target.runtime in SHIPPED else bench.target.runtime
    artifact = compiled(bench, portable(bench, source, fp32, form), form)
    verification = verified(bench, artifact, source)
    if not isinstance(verification, Verified):
        raise EdgedistillError(f"the teacher's file cannot run here: {verification.reason}")
    _tell_quality(bench, teacher, verification.quality_validation)
    latency, profile = _teacher_latency(bench, source, artifact)
    return PreparedTeacher(teacher, source, artifact, verification.quality_validation, latency, profile)


def _unmeasured(bench: Workbench, teacher: Teacher) -> PreparedTeacher:
    """A teacher of which there are outputs alone. Raises InputError where the budget is a share of its latency."""
    if bench.config.budget.share_of_teacher is not None:
        raise InputError(
            f"a budget of {format_percent(bench.config.budget.share_of_teacher)} of the teacher needs the teacher itself",
            fix="give the budget in milliseconds, e.g. --budget 5ms@p95",
        )
    quality = bench.task.score(split_outputs(bench, teacher, "validation"), bench.truth("validation"))
    _tell_quality(bench, teacher, quality)
    scale_alone(bench)
    reason = bench.meter.not_measurable or "there is a file of its outputs alone"
    latency = UnknownLatency(reason=reason, device=bench.target.name)
    return PreparedTeacher(teacher, None, None, quality, latency, None)


def _tell_quality(bench: Workbench, teacher: Teacher, quality: float) -> None:
    """What is distilled is no better than this. A teacher that only guesses mostly has its classes in another order than the
    data, or sees other pixels than it was trained on."""
    truth, task = bench.truth("validation"), bench.task
    told = f"the teacher {teacher.name} " + scored(
        task.metric, format_percent(quality), f"{len(truth):,} validation images"
    )
    guessed, what = task.guessing(truth)
    if lower_bound(quality, len(truth)) > guessed:
        bench.store.listener(Note(told))
        return
    what = f"{what} {format_percent(guessed)}"
    classes = " the order of its classes," if task == CLASSIFICATION else ""
    fix = f"check its weights,{classes} and mean, std and resolution in [teacher]"
    if guessed == 1:
        fix = "give the split more images"
    bench.store.listener(Note(f"{told}, and {what}; {fix}", warning=True))


def _teacher_latency(bench: Workbench, source: Source, artifact: CompiledArtifact) -> tuple[Latency, Profile | None]:
    """The teacher's fp32 latency in the target's own runtime, and with it the scale of all comparisons: in sessions in turn
    with the anchor where the budget is a share of it, else in one, beside sessions of the anchor alone. These first
    measurements also tell whether the device can be measured at all (`bench.meter.not_measurable` afterwards)."""
    share = bench.config.budget.share_of_teacher
    if artifact.format is not bench.target.runtime and bench.meter.device is not None:
        try:
            artifact = compiled(bench, portable(bench, source, artifact.scheme, bench.target.runtime))
        except EdgedistillError as error:
            reason = f"the teacher's file cannot be made in {bench.target.runtime}: {error.message}"
            if share is not None:
                raise InputError(
                    f"a budget of {format_percent(share)} of the teacher needs its file, to run in turn with the student's; "
                    f"{reason}",
                    fix="give the budget in milliseconds, e.g. --budget 5ms@p95",
                ) from None
            scale_alone(bench)
            return UnknownLatency(reason=bench.meter.not_measurable or reason, device=bench.target.name), None
    bench.meter.teacher_file = artifact
    if share is not None:
        profile = scale_beside(bench, artifact, source)
    else:
        scale_alone(bench)
        profile = compared(bench, artifact, source)
    return latency_of(bench, profile), profile


def resolve_budget(bench: Workbench, request: BudgetRequest, teacher: PreparedTeacher) -> Budget:
    """The budget in milliseconds. Raises InputError for a share of a teacher that cannot be measured here."""
    latency = teacher.latency
    if not isinstance(latency, MeasuredLatency):
        request.require_measurable(bench.target.name)
    budget = request.resolve(latency.comparable(request.percentile) if isinstance(latency, MeasuredLatency) else None)
    bench.store.listener(Note(f"budget {budget.claim} on {bench.target.name}"))
    if isinstance(latency, UnknownLatency) and bench.meter.not_measurable:
        bench.store.listener(Note(f"{bench.target.title} is not measured: {bench.meter.not_measurable}", warning=True))
    return budget


def plausible_multiply_adds(teacher: PreparedTeacher, budget: Budget) -> float:
    """How much work a student may do and still be thought of near the budget: what the teacher does in that time, with
    `HEADROOM` for students that are faster for their work (fewer bytes, int8). Infinite where its latency or its work is not
    known."""
    work = multiply_adds_of(teacher.teacher)
    if not isinstance(teacher.latency, MeasuredLatency) or work is None:
        return math.inf
    limit = HEADROOM * work * budget.latency_ms / teacher.latency.comparable(budget.percentile)
    # Up to a power of two, so that a budget changed a little finds the same probes measured.
    return 2.0 ** math.ceil(math.log2(limit))


def multiply_adds_of(teacher: Teacher) -> int | None:
    """What a teacher computes for an image; None where there is a file alone."""
    if teacher.file is not None or teacher.outputs is not None:
        return None
    return structure_of(deploy(teacher.module), teacher.contract.resolution).multiply_adds


def beside_teacher(budget: Budget, teacher: PreparedTeacher) -> MeasuredLatency | None:
    """The teacher's latency where the budget is a share of it, so that files are proven in turn with its file; else None."""
    latency = teacher.latency
    return latency if budget.share_of_teacher is not None and isinstance(latency, MeasuredLatency) else None


def prior_of(target: Target) -> dict[Precision, Expectation]:
    """What published figures give of a device's latencies, for one that is not attached."""
    return {precision: Expectation(model) for precision, model in prior_from_published(target).items()}


def open_store(bench: Workbench) -> SplitStore:
    """What the build's students learn from: the views of its data and augmentation, and what the teacher gives on them at
    each tap that the recipe asks for: found, or labelled."""
    augmentation, groups = bench.config.view_augmentation, mixing_groups(bench)
    views = stored_views(bench.store, bench.taught, augmentation, bench.working_side, groups)
    stored = SplitStore(views, all_signals(bench, views) if bench.recipe.taps else ())
    return replace(stored, kept=_kept(bench, stored))


def _kept(bench: Workbench, stored: SplitStore) -> Path | None:
    """The file of what is learnt from, where images without a label may be left out."""
    config, logits, free = bench.config.train, stored.signal(LOGITS), without_label(bench.dataset)
    if logits is None or not len(free) or not (config.min_confidence or config.min_agreement):
        return None
    kept = filtered(bench.store, bench.dataset, logits, stored.stored_views.count, config)
    stays = int(np.isin(free, np.load(kept)).sum())
    text = f"{stays:,} of {len(free):,} images without a label are learnt from: the teacher is not sure of the others"
    bench.store.listener(Note(text))
    return kept


def all_signals(bench: Workbench, views: StoredViews) -> tuple[Signal, ...]:
    """Of `[teacher]` at each tap of the recipe; of several teachers the outputs are those of all of them together."""
    taps, output = bench.recipe.taps, bench.task.output
    own = _signals(bench, views, taps)
    ensemble = open_ensemble(bench) if output in taps else None
    if ensemble is None:
        return own
    (first,) = (signal for signal in own if signal.tap == output)
    further = (signal for other in bench.others for signal in _signals(other, views, (output,)))
    config = bench.config.ensemble
    mixed = MixedSignal((first, *further), ensemble.weights, config.drop, config.seed)
    return tuple(mixed if signal is first else signal for signal in own)


def _signals(bench: Workbench, views: StoredViews, taps: tuple[str, ...]) -> tuple[StoredSignal, ...]:
    teacher = open_teacher(bench)
    if teacher.outputs is not None:
        return signals_of_outputs(bench, views, teacher, taps)
    autocast = labelling_autocast(bench.config.train)
    labelling = open_labelling(bench, views, taps, autocast)
    left = labelling.left()
    items = [
        LabelItem(
            place=Place.of(bench),
            views=views,
            view=view,
            autocast=autocast,
            signal_keys=left.keys,
        )
        for view in labelling.views
    ]

    def ahead(everything: bool) -> None:
        done = 0
        with closing(do_all(bench.doing, items, wait=everything)) as results:
            for _, result in results:
                if isinstance(result, TrialFailure):
                    raise EdgedistillError(
                        f"the views cannot be labelled: {result.message}",
                        fix="see what ended them, most often memory, of which fewer --jobs need less",
                    )
                done += labelling.labeller.images
                bench.store.listener(StageAdvanced(STAGE, done, labelling.total))

    return labelling.build(ahead)


def open_space(*benches: Bench) -> tuple[Candidate, ...]:
    """The candidates with their static figures, found or counted, that every target can take: of the families whose
    operations its runtime has, with channels in multiples that all of them like. Notes say how many were left out for what.
    Raises InputError where none is left, and for weights that do not fit the model that is to start from them."""
    channel_multiple = math.lcm(*(bench.target.channel_multiple for bench in benches))
    counted = [_counted(bench, channel_multiple).candidates for bench in benches]
    require_starts(benches[0], counted[0])
    spaces = [executable(bench, candidates) for bench, candidates in zip(benches, counted, strict=True)]
    common = set.intersection(*({candidate.spec for candidate in space} for space in spaces))
    if not common:
        names = ", ".join(bench.target.name for bench in benches)
        counts = ", ".join(f"{len(space)} on {b.target.name}" for b, space in zip(benches, spaces, strict=True))
        raise InputError(
            f"no candidate can run on all of {names}: there are {counts}, none of them the same",
            fix="name other families in [space] families, or build a student for each target",
        )
    return tuple(candidate for candidate in spaces[0] if candidate.spec in common)


def _counted(bench: Bench, channel_multiple: int) -> Space:
    """The candidates that pass the static checks of one target."""
    side, classes = bench.source_side, bench.task.head_width(len(bench.dataset.classes))
    config = bench.space
    precisions = tuple(scheme.precision for scheme in bench.schemes)
    target = bench.target.model_copy(update={"precisions": precisions, "channel_multiple": channel_multiple})
    key = stage_key(
        {
            "space": config.model_dump(mode="json", exclude={"pretrained", "checkpoints"}),
            "classes": classes,
            "side": side,
            "channel_multiple": channel_multiple,
            "memory_bytes": target.memory_bytes,
            "precisions": target.precisions,
        },
        code=(*code.SPACE, *(package for name in config.families for package in code_of(name))),
        tools=("torch", "timm", "torch-pruning"),
    )

    def make(folder: Path) -> None:
        found = enumerate_space(config, classes, side, target)
        write_atomic(folder / "space.json", found.model_dump_json())

    folder = bench.store.stage("space", key, make, subject="candidates")
    space = Space.model_validate_json((folder / "space.json").read_bytes())
    bench.store.listener(Note(space.sentence))
    return space
