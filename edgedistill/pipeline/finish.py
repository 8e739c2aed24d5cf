"""After the winner is fixed: its files in every format, the test split's figures, the package, build.json.

This is the one place that reads the test split, with `mistakes.py`, and nothing after it decides anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.base.intervals import wilson_interval
from edgedistill.base.store import copy_atomic, write_atomic
from edgedistill.data.datasets import Dataset
from edgedistill.devices.stats import percentile_ms
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.results import (
    BuildResult,
    PredictionsOnTest,
    ShippedArtifact,
    SplitSizes,
    SustainedLoad,
    TeacherFile,
    TeacherSummary,
)
from edgedistill.documents.specs import ComputedBy
from edgedistill.formats import format_for
from edgedistill.formats.running import test_logits, test_quality
from edgedistill.networks.tasks import CLASSIFICATION, task_of
from edgedistill.outputs.explain.winner import winning_artifact
from edgedistill.outputs.package.package import PACKAGE, write_package
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.contents import contents_of
from edgedistill.pipeline.describe import Finding, describe
from edgedistill.pipeline.ensemble import open_ensemble
from edgedistill.pipeline.measure import Manner, profiled
from edgedistill.pipeline.mistakes import MISTAKES, AnswersOnTest, predictions_on_test
from edgedistill.pipeline.prepare import PreparedTeacher
from edgedistill.pipeline.ship import Files, Made, make_files, name_of
from edgedistill.pipeline.shipped import Shipped, as_shipped
from edgedistill.pipeline.teacher_outputs import split_outputs
from edgedistill.pipeline.train import lessons_of, source_of
from edgedistill.pipeline.truth import hold_against_teacher
from edgedistill.pipeline.workbench import Workbench

PROFILES = "profiles"


def finish(
    finding: Finding, teacher: PreparedTeacher, stored: SplitStore, out: Path, *, keep_teacher: bool = True
) -> BuildResult:
    """Write the package, the profiles, pictures of mistakes, the teacher's files unless they are not to be kept, and
    build.json into `out`, and return the result."""
    bench, outcome = finding.bench, finding.outcome
    hold_against_teacher(bench, "test")
    files = Files()
    shipped: tuple[Shipped, ...] = ()
    source: Source | None = None
    if outcome.winner is not None:
        source = source_of(bench, outcome.winner.trained)
        files = make_files(bench, source, finding.goal, outcome.winner, stored)
        shipped = as_shipped(bench, source, files)
    tested = [_tested(bench, source, one) for one in shipped] if source else []
    artifacts = tuple(_shipped(bench, one, found) for one, found in zip(shipped, tested, strict=True))
    result = BuildResult(
        **dict(describe(finding)),
        data=split_sizes(bench.dataset),
        teacher=_teacher_summary(bench, teacher, out, keep=keep_teacher),
        artifacts=artifacts,
        dropped=tuple(files.dropped),
        sustained=_sustained(bench, source, files) if source else None,
    )
    if (told := _on_test(bench, source, result, tested, out)) is not None:
        result = result.model_copy(update={"predictions_on_test": told})
    _write_profiles(teacher, files.made, out)
    (out / "report.html").unlink(missing_ok=True)  # an earlier build's, like a package: it would pass for this one's
    if outcome.winner is None or source is None or not artifacts:
        shutil.rmtree(out / PACKAGE, ignore_errors=True)
    else:
        lessons = lessons_of(bench, outcome.winner.trained.spec, stored)
        write_package(out, contents_of(bench, source, files, shipped, result, lessons, out))
    (out / "search.json").unlink(missing_ok=True)  # an earlier search's; all that it said stands in build.json
    write_atomic(out / "build.json", result.model_dump_json(indent=2))
    return result


@dataclass(frozen=True, eq=False)
class _Tested:
    """What a file comes to on the test split: its `quality` on so many `images`, and of a classifier its `answers`."""

    quality: float
    images: int
    answers: AnswersOnTest | None


def _tested(bench: Workbench, source: Source, file: Shipped) -> _Tested | None:
    """None for a file that cannot run here."""
    verification = file.made.result.verification
    if not isinstance(verification, Verified) or verification.computed_by is not ComputedBy.DEVICE:
        return None
    outputs = test_logits(format_for(file.artifact.format), file.artifact, bench.images("test", source.contract))
    task, answers = bench.task, None
    if task == CLASSIFICATION and (own := file.probabilities) is not None:
        answers = AnswersOnTest.of(outputs, bench.labels("test"), own.temperature, own.none_below)
    return _Tested(task.score(outputs, bench.truth("test")), len(outputs), answers)


def _on_test(
    bench: Workbench, source: Source | None, result: BuildResult, tested: Sequence[_Tested | None], out: Path
) -> PredictionsOnTest | None:
    """The answers of the file that the report is about, with pictures of its mistakes in the place of an earlier build's;
    None where it cannot run here, or answers with vectors. `tested` are in the order of the result's artifacts."""
    shutil.rmtree(out / MISTAKES, ignore_errors=True)
    winner = winning_artifact(result)
    found = next((f for artifact, f in zip(result.artifacts, tested, strict=True) if artifact is winner), None)
    if source is None or winner is None or found is None or found.answers is None:
        return None
    return predictions_on_test(bench, source.contract, winner.sha256, found.answers, out)


def _shipped(bench: Workbench, file: Shipped, tested: _Tested | None) -> ShippedArtifact:
    made, artifact, verification = file.made, file.artifact, file.made.result.verification
    ran = verification if isinstance(verification, Verified) else None
    sessions = made.profile.sessions if made.profile else ()
    return ShippedArtifact(
        format=artifact.format,
        precision=artifact.scheme.precision,
        scheme=artifact.scheme,
        path=f"{PACKAGE}/{name_of(bench, artifact)}",
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        measured_sha256=file.measured.sha256,
        quality=tested.quality if tested else None,
        quality_interval=wilson_interval(tested.quality, tested.images) if tested else None,
        quality_validation=ran.quality_validation if ran and tested else None,
        parity=ran.parity if ran else None,
        verification=verification,
        latency=made.result.latency,
        peak_memory_bytes=made.profile.peak_memory_bytes if made.profile else None,
        load_ms=sorted(s.load_ms for s in sessions)[len(sessions) // 2] if sessions else None,
        record=artifact.record,
        fallbacks=(made.profile and made.profile.fallbacks) or artifact.fallbacks,
        proof=made.result.proof,
    )


def _sustained(bench: Workbench, source: Source, files: Files) -> SustainedLoad | None:
    """The proven file under load for as long as the build file says; None where it says nothing, or nothing is proven."""
    wanted_ms = bench.meter.settings.sustained
    proven = next((m.result.artifact for m in files.made if m.result.proof is not None and m.result.proof.met), None)
    if wanted_ms is None or proven is None:
        return None
    if (profile := profiled(bench, proven, source, Manner(wanted_ms / 1000))) is None:
        return None
    (session,) = profile.sessions
    third, fraction = max(1, len(session.samples_ns) // 3), bench.meter.percentile.fraction
    return SustainedLoad(
        seconds=wanted_ms / 1000,
        first_third_ms=percentile_ms(session.samples_ns[:third], fraction),
        last_third_ms=percentile_ms(session.samples_ns[-third:], fraction),
        start=session.start,
        end=session.end,
    )


def split_sizes(dataset: Dataset) -> SplitSizes:
    """How many classes the data have, and how many images each split."""
    splits = dataset.splits
    return SplitSizes(
        source=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=len(dataset.classes),
        train=len(splits.train),
        unlabelled=len(splits.train) - len(dataset.labelled.splits.train),
        validation=len(splits.validation),
        test=len(splits.test),
        seed=splits.seed,
    )


def _teacher_summary(bench: Workbench, teacher: PreparedTeacher, out: Path, *, keep: bool) -> TeacherSummary:
    truth, artifact, ensemble = bench.truth("test"), teacher.artifact, open_ensemble(bench)
    contract = teacher.teacher.contract
    if artifact is None:
        quality = task_of(contract).score(split_outputs(bench, teacher.teacher, "test"), truth)
    else:
        form = format_for(artifact.format)
        quality = test_quality(form, artifact, task_of(contract), bench.images("test", contract), truth)
    return TeacherSummary(
        name=teacher.teacher.name,
        quality=quality,
        quality_interval=wilson_interval(quality, len(truth)),
        quality_validation=teacher.quality_validation,
        parameters=teacher.teacher.parameters,
        bytes=artifact.bytes if artifact else None,
        resolution=contract.resolution if artifact else None,
        latency=teacher.latency,
        files=_teacher_files(bench, teacher, out, keep=keep),
        ensemble=ensemble.members if ensemble else (),
        ensemble_quality_validation=ensemble.quality_validation if ensemble else None,
    )


def _teacher_files(bench: Workbench, teacher: PreparedTeacher, out: Path, *, keep: bool) -> tuple[TeacherFile, ...]:
    """The teacher's files copied into `out`, in the place of an earlier build's."""
    for old in out.glob("teacher.*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    files = {artifact.path: artifact for artifact in (teacher.artifact, bench.meter.teacher_file) if artifact}
    written = []
    for artifact in files.values() if keep else ():
        path = out / f"teacher{artifact.path.suffix}"
        copy_atomic(artifact.path, path)
        written.append(TeacherFile(path=path.name, format=artifact.format, sha256=artifact.sha256))
    return tuple(written)


def _write_profiles(teacher: PreparedTeacher, made: Sequence[Made], out: Path) -> None:
    """Raw samples of the teacher and of every shipped file into `out/profiles/`, for the report and for the user."""
    folder = out / PROFILES
    shutil.rmtree(folder, ignore_errors=True)
    if teacher.profile is not None:
        write_atomic(folder / "teacher.json", teacher.profile.model_dump_json())
    for one in made:
        if one.profile is not None:
            name = f"{one.artifact.format}-{one.artifact.scheme.label}.json"
            write_atomic(folder / name, one.profile.model_dump_json())
