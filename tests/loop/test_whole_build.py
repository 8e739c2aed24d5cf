"""The whole loop on the null runtime: met, again, another budget, not met, not measured, and candidates that fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dying
import pytest

from edgedistill.base.errors import EdgedistillError, ExitCode, InputError, UnreachableError
from edgedistill.base.store import file_sha256
from edgedistill.base.units import format_ms
from edgedistill.devices.proof import ProofPlan, aim
from edgedistill.devices.stats import measured_latency, percentile_ms, ratio
from edgedistill.documents.artifacts import Trial, answers_of
from edgedistill.documents.measurements import MeasuredLatency, Profile, UnknownLatency
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Percentile, ProofLevel
from edgedistill.outputs.package.package import package_problems
from edgedistill.pipeline import workers

NULL_TARGET = Path(__file__).with_name("null.toml")
AWAY = """name = "away"
title = "A board far away"
runtime = "null"
formats = ["null"]
precisions = ["fp32", "int8"]
transport = "adb"
how_to_measure = "Attach the board."
"""


@pytest.fixture(scope="session")
def away(loop: Any) -> Path:
    """A target that nothing here reaches."""
    path: Path = loop.root / "away.toml"
    path.write_text(AWAY)
    return path


def test_met(loop: Any, met: Any) -> None:
    result = met.result
    assert result.status == "met"
    assert [a for a in result.artifacts if isinstance(a.latency, MeasuredLatency)]
    for artifact in result.artifacts:
        assert artifact.latency.at(result.budget.percentile) <= result.budget.latency_ms
        low, high = artifact.quality_interval
        assert low < artifact.quality <= high
        assert file_sha256(met.out / artifact.path) == artifact.sha256
        assert (met.out / artifact.path).stat().st_size == artifact.bytes
    assert package_problems(met.out, result) == ()
    assert BuildResult.model_validate_json((met.out / "build.json").read_text()) == result
    for name in ("report.html", "package/labels.txt", "package/contract.json", "package/MODEL_CARD.md"):
        assert (met.out / name).stat().st_size > 0
    assert loop.damaged() == []


def test_how_it_was_asked_for_is_recorded_and_told(met: Any) -> None:
    """By the options that were given, `target` alone, and from within the output folder."""
    result, report = met.result, (met.out / "report.html").read_text()
    ((option, (target,)),) = result.overrides.items()
    assert (result.build_file, option) == ("../build.toml", "--target")
    assert Path(target).name == NULL_TARGET.name
    assert f"edgedistill build ../build.toml --target {target} --out ." in report


def test_the_mistakes_are_those_of_the_proven_file(met: Any) -> None:
    told = met.result.predictions_on_test
    (proven,) = [a for a in met.result.artifacts if a.as_measured == met.result.proof.artifact_sha256]
    assert (told.artifact_sha256, told.images) == (proven.sha256, met.result.data.test)
    right = sum(entry.count for entry in told.confusion if entry.label == entry.predicted)
    assert right / told.images == proven.quality
    assert len(told.mistakes) == min(24, told.images - right)
    shown = sorted(path.name for path in (met.out / "mistakes").glob("*"))
    assert shown == [Path(mistake.thumbnail).name for mistake in told.mistakes]


def test_the_budget_is_the_teachers_share_of_a_measurement(met: Any) -> None:
    budget, teacher = met.result.budget, met.result.teacher
    assert budget.share_of_teacher == 0.5
    assert budget.latency_ms == pytest.approx(0.5 * teacher.latency.comparable(budget.percentile))
    assert teacher.latency.relative.anchor_sha256 == met.result.scale.anchor_sha256
    assert teacher.latency.relative.anchor_ms == met.result.scale.anchor_ms


def test_the_proof_is_of_the_shipped_file_and_inside_the_budget(met: Any) -> None:
    result, proof = met.result, met.result.proof
    plan = ProofPlan.at(ProofLevel.QUICK)
    assert proof.met
    assert len(proof.values) == plan.looks[0].sessions, "a law differs little from session to session"
    assert max(proof.values) <= proof.limit and proof.bound <= proof.limit
    assert (proof.claimed, proof.alpha, proof.over) == (plan.claimed, plan.looks[0].alpha, 0)
    (shipped,) = [a for a in result.artifacts if a.as_measured == proof.artifact_sha256]
    assert shipped.proof == proof
    assert proof.sentence in result.verdict
    (limit,) = [limit for limit in result.constraints if limit.kind == "latency"]
    assert limit.kept and limit.proof == proof and limit.aim_ms <= result.budget.latency_ms


def profile_of(built: Any, sha256: str) -> Profile:
    """The raw samples of a shipped file."""
    found = [Profile.model_validate_json(p.read_text()) for p in (built.out / "profiles").glob("*.json")]
    (own,) = [profile for profile in found if profile.artifact_sha256 == sha256]
    return own


def test_a_share_is_proven_in_turn_with_the_teachers_file_that_lies_beside_the_package(met: Any) -> None:
    proof, (teacher,) = met.result.proof, met.result.teacher.files
    assert (proof.share, proof.limit, proof.anchor_sha256) == (True, 0.5, teacher.sha256)
    assert file_sha256(met.out / teacher.path) == teacher.sha256
    profile = profile_of(met, proof.artifact_sha256)
    assert profile.anchor_sha256 == teacher.sha256
    assert [ratio(session, proof.percentile) for session in profile.sessions] == list(proof.values)


def test_a_budget_in_milliseconds_is_proven_alone(loop: Any, met: Any) -> None:
    built = loop.build(loop.write("milliseconds", f"{met.result.budget.latency_ms * 1.1}ms"))
    proof = built.result.proof
    assert (built.result.status, proof.share, proof.anchor_sha256) == ("met", False, None)
    assert proof.limit == built.result.budget.latency_ms > max(proof.values)
    profile = profile_of(built, proof.artifact_sha256)
    assert profile.anchor_sha256 is None
    fraction = proof.percentile.fraction
    assert [percentile_ms(session.samples_ns, fraction) for session in profile.sessions] == list(proof.values)


def test_files_of_the_search_are_compared_with_the_anchor(met: Any) -> None:
    """Every file that was measured is, and at its own law: ratios times the anchor's are milliseconds again."""
    scale = met.result.scale
    measured = [s for trial in met.result.trials for s in trial.schemes if isinstance(s.latency, MeasuredLatency)]
    assert measured
    for scheme in measured:
        relative = scheme.latency.relative
        assert relative.anchor_sha256 == scale.anchor_sha256
        assert scheme.latency.comparable(Percentile.P95) == pytest.approx(scheme.latency.p95_ms, rel=0.01)


def test_the_winner_is_the_fastest_as_accurate_as_any_that_fits(met: Any) -> None:
    result, margin = met.result, 0.005
    files = [
        scheme
        for trial in result.trials
        if trial.state == "complete"
        for scheme in trial.schemes
        if not scheme.dropped and scheme.latency.comparable(result.budget.percentile) <= result.budget.latency_ms
    ]
    best = max(file.verification.quality_validation for file in files)
    most_accurate = [file for file in files if file.verification.quality_validation == best]
    won = next(file for file in files if file.artifact.sha256 == result.proof.artifact_sha256)
    bounds = [answers_of(won).lower_difference(answers_of(file)) for file in most_accurate]
    assert won in most_accurate or max(bounds) > -margin
    faster = [f for f in most_accurate if f.latency.comparable(Percentile.P95) < won.latency.comparable(Percentile.P95)]
    assert not faster
    winner = next(t for t in result.trials if t.reason.startswith("proven inside the budget"))
    assert winner.spec == result.student.spec


def test_every_trial_past_the_first_rung_was_measured(met: Any) -> None:
    assert met.result.trials
    for trial in met.result.trials:
        assert trial.reason, trial.number
        if len(trial.rungs) > 1:
            assert any(isinstance(s.latency, MeasuredLatency) for s in trial.schemes)
        if trial.state == "over_budget":
            assert "budget" in trial.reason


def test_the_test_split_shows_in_the_last_figures_alone(met: Any) -> None:
    """`quality` is the test split's, and stands nowhere but on shipped files and the teacher."""

    def places(value: Any, where: str) -> list[str]:
        if isinstance(value, dict):
            return [p for key, inner in value.items() for p in places(inner, f"{where}.{key}")]
        if isinstance(value, list):
            return [p for inner in value for p in places(inner, f"{where}[]")]
        return [where]

    named = {p for p in places(met.document(), "") if p.endswith(".quality")}
    assert named == {".artifacts[].quality", ".teacher.quality"}
    bounded = {p.rstrip("[]") for p in places(met.document(), "") if ".quality_interval" in p}
    assert bounded == {".artifacts[].quality_interval", ".teacher.quality_interval"}
    images = met.result.data.test
    for quality in (met.result.teacher.quality, *(a.quality for a in met.result.artifacts)):
        assert (quality * images) == pytest.approx(round(quality * images))


def test_again_does_nothing(loop: Any, met: Any) -> None:
    before = loop.done(met.path)
    stamp = (met.out / "build.json").stat().st_mtime_ns
    shown = "print(sorted({'torch', 'timm'} & set(sys.modules)), file=sys.stderr)"
    code = f"import atexit, sys\natexit.register(lambda: {shown})"
    done = loop.run("build", met.path, "--target", NULL_TARGET, code=code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["nothing has changed since this build", "[]"]
    assert loop.done(met.path) == before
    assert (met.out / "build.json").stat().st_mtime_ns == stamp


def test_a_file_missing_from_the_package_is_made_good(loop: Any, met: Any, tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    shutil.copy(met.path, path)
    shutil.copytree(met.out, tmp_path / "out")
    (tmp_path / "out" / met.result.artifacts[0].path).unlink()
    built = loop.build(path)
    assert "nothing has changed since this build" not in built.notes
    assert package_problems(built.out, built.result) == ()
    assert loop.done(path) == loop.done(met.path), "every stage is in the cache"


def test_another_budget_reuses_views_teacher_and_students(loop: Any, met: Any) -> None:
    built = loop.build(loop.write("tighter", "35%"))
    assert built.result.status == "met"
    assert built.result.budget.latency_ms < met.result.budget.latency_ms
    earlier = {stage.key: stage for stage in loop.done(met.path)}
    for kind in ("teacher", "views", "space"):
        # Not of the first build's log: another test of this process may have made it before that.
        assert any((loop.cache / kind / key).is_dir() for key in built.reused), kind
    assert not [s for s in loop.done(built.path) if s.stage in ("teacher", "views", "space")]
    assert not {s.key for s in loop.done(built.path)} & earlier.keys()
    # A student of both builds is trained once.
    both = {t.spec.label for t in met.result.trials} & {t.spec.label for t in built.result.trials}
    trained_before = {s.subject for s in earlier.values() if s.stage == "train"}
    assert both
    assert not [s for s in loop.done(built.path) if s.stage == "train" and s.subject in trained_before]


@pytest.fixture(scope="session")
def tight(loop: Any, met: Any) -> Any:
    """A build whose budget nothing can meet, run once: run again it would do nothing and say so."""
    return loop.build(loop.write("tight", "1us"))


def test_not_met(loop: Any, met: Any, tight: Any) -> None:
    built = tight
    result = built.result
    assert result.status == "not_met"
    assert (result.student, result.proof, result.artifacts) == (None, None, ())
    latencies = [p.latency_ms for p in result.frontier]
    assert latencies == sorted(latencies)
    assert result.fastest_ms == latencies[0]
    # Sessions differ, and a budget has to be that much above what was measured.
    limit = result.constraints[0]
    assert limit.aim_ms <= aim(limit.budget.latency_ms, result.scale.spread)
    assert result.budget_that_would_do_ms == pytest.approx(result.fastest_ms * limit.budget.latency_ms / limit.aim_ms)
    assert {t.state for t in result.trials} <= {"over_budget", "pruned", "failed"}
    assert not (built.out / "package").exists()
    assert not any(s.stage == "train" and s.key in {d.key for d in loop.done(met.path)} for s in loop.done(built.path))


def test_not_met_reports_the_fastest_of_all_that_was_measured(loop: Any, tight: Any) -> None:
    """No file measured in this build is faster than the one reported, those with random weights included: the fastest
    candidates are tried before a budget is called impossible."""
    built = tight
    keys = built.reused | {s.key for s in loop.done(built.path)}
    profiles = [p for p in loop.cache.glob("profile/*/profile.json") if p.parent.name in keys]
    scale = built.result.scale
    taken = [Profile.model_validate_json(p.read_text()) for p in profiles]
    measured = [measured_latency(p, scale.anchor_ms) for p in taken if p.anchor_sha256 == scale.anchor_sha256]
    assert built.result.fastest_ms == pytest.approx(min(latency.comparable(Percentile.P95) for latency in measured))


def test_not_met_by_the_command_line_and_what_would_do(loop: Any) -> None:
    path = loop.write("tight", "1us")
    done = loop.run("build", path, "--target", NULL_TARGET, "--json")
    assert done.returncode == ExitCode.BUDGET_NOT_MET
    document = json.loads(done.stdout)
    would_do_ms = document["budget_that_would_do_ms"]
    assert f"measured {format_ms(document['fastest_ms'])}" in document["verdict"]
    assert f"A budget of {format_ms(would_do_ms)} should be provable." in document["verdict"]
    again = loop.build(loop.write("loosened", f"{would_do_ms * 1.01}ms"))
    assert again.result.status == "met"
    spoken = loop.run("build", path, "--target", NULL_TARGET)
    assert spoken.returncode == ExitCode.BUDGET_NOT_MET
    assert "should be provable" in spoken.stdout


def test_a_device_that_is_not_attached(loop: Any, met: Any, away: Path) -> None:
    built = loop.build(loop.write("away", "3ms"), target=away)
    result = built.result
    assert result.status == "unmeasured"
    assert result.proof is None
    assert result.artifacts
    assert "Attach the board." in result.verdict
    for artifact in result.artifacts:
        assert not isinstance(artifact.latency, MeasuredLatency)
        assert isinstance(artifact.latency, UnknownLatency)
        assert artifact.latency.reason
        assert file_sha256(built.out / artifact.path) == artifact.sha256
    for trial in result.trials:
        assert all(not isinstance(s.latency, MeasuredLatency) for s in trial.schemes)
        assert not isinstance(trial.predicted, MeasuredLatency)
    assert not [s for s in loop.done(built.path) if s.stage == "profile"]


def test_exit_codes_of_a_device_that_is_not_attached(loop: Any, met: Any, away: Path) -> None:
    path = loop.write("away", "3ms")
    loop.build(path, target=away)
    done = loop.run("build", path, "--target", away)
    assert done.returncode == 0, done.stderr
    assert "Attach the board." in done.stdout
    required = loop.run("build", path, "--target", away, "--require-measured")
    assert required.returncode == ExitCode.UNREACHABLE
    with pytest.raises(UnreachableError, match="A board far away is not attached"):
        loop.build(loop.write("away-required", "3ms"), target=away, require_measured=True)


def test_a_share_of_a_teacher_that_cannot_be_measured(loop: Any, met: Any, away: Path) -> None:
    with pytest.raises(InputError, match="cannot be measured on away") as caught:
        loop.build(loop.write("away-share", "20%"), target=away)
    assert "milliseconds" in caught.value.fix
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_a_candidate_that_fails_is_a_trial_with_its_reason(
    loop: Any, met: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = next(t.spec for t in met.result.trials if t.reason.startswith("proven"))
    failing = partial(dying.fail_training_of, victim, "the loss is not finite in epoch 1")
    monkeypatch.setattr(workers, "do_apart", failing)
    built = loop.build(loop.write("failing", "50%"), apart=True)
    failed = [t for t in built.result.trials if t.state == "failed"]
    assert [(t.spec, t.reason) for t in failed] == [(victim, "the loss is not finite in epoch 1")]
    assert built.result.status == "met"
    assert built.result.student.model_dump(include={"family", "width", "depth", "resolution"}) != victim.model_dump()
    assert "the loss is not finite in epoch 1" in (built.out / "report.html").read_text()


@pytest.mark.slow
def test_a_crash_in_one_students_step_costs_that_student(
    loop: Any, met: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A segmentation fault in native code. In a cache of its own: what is trained already cannot crash."""
    victim = next(t.spec for t in met.result.trials if t.reason.startswith("proven"))
    monkeypatch.setattr(workers, "do_apart", partial(dying.crash_in_a_step_of, victim))
    built = replace(loop, cache=tmp_path / "cache").build(loop.write("crashing", "50%"), apart=True)
    failed = [(t.spec, t.reason) for t in built.result.trials if t.state == "failed"]
    assert failed == [(victim, "its process was ended by SIGSEGV, 3 times")]
    assert built.result.status == "met"


@pytest.mark.slow
def test_a_crash_in_every_fit_of_the_teacher_is_told(
    loop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workers, "do_apart", partial(dying.crash_in_a_step_of, None))
    with pytest.raises(
        EdgedistillError, match=r"cannot be fitted: its process was ended by SIGSEGV, 3 times"
    ) as caught:
        replace(loop, cache=tmp_path / "cache").build(loop.write("no-teacher", "50%"), apart=True)
    assert "[teacher.fit]" in caught.value.fix


def test_where_every_candidate_fails_the_build_says_so(loop: Any, met: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = partial(dying.fail_training_of, None, "no student can be trained today")
    monkeypatch.setattr(workers, "do_apart", failing)
    built = loop.build(loop.write("all-failing", "50%"), apart=True)
    assert built.result.status == "not_met"
    assert built.result.trials
    assert all(t.state == "failed" and t.reason == "no student can be trained today" for t in built.result.trials)
    assert built.result.fastest_ms is None
    assert "No candidate could be measured" in built.result.verdict


def test_trial_numbers_are_those_of_the_journal(met: Any) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(met.out / "study.journal")))
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    by_number: dict[int, Trial] = {t.number: t for t in met.result.trials}
    assert [t.number for t in study.trials] == sorted(by_number)
    for kept in study.trials:
        trial = by_number[kept.number]
        assert kept.params == trial.spec.model_dump()
        assert kept.user_attrs["state"] == trial.state
        assert kept.user_attrs["reason"] == trial.reason
        assert kept.intermediate_values == {r.epochs: r.quality_validation for r in trial.rungs}
