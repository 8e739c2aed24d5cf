"""Measurements taken again: a new, dated proof beside the one before, of the same student or with what differs; the
teacher's file in the output folder or not."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from null_format import NullFormat

import edgedistill as api
from edgedistill.base.store import file_sha256
from edgedistill.documents.measurements import Profile
from edgedistill.documents.results import BuildResult
from edgedistill.pipeline.build import OCCASION

NULL_TARGET = Path(__file__).with_name("null.toml")

# On the null device no clock runs: sessions are dated here, so that one proof can be told from another.
DATED = """
from datetime import UTC, datetime
from edgedistill.documents.measurements import Moment
from null_format import NullFormat
def profile(self, artifact, inputs, protocol, real=NullFormat.profile):
    found = real(self, artifact, inputs, protocol)
    at = Moment(at=datetime.now(UTC).isoformat(timespec="microseconds"))
    sessions = tuple(session.model_copy(update={"start": at, "end": at}) for session in found.sessions)
    return found.model_copy(update={"sessions": sessions})
NullFormat.profile = profile
"""
# Ends the process with signal 9 right after its n-th session.
KILLER = """
import os, signal
left = {number}
def killing(self, artifact, inputs, protocol, real=NullFormat.profile):
    global left
    found = real(self, artifact, inputs, protocol)
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
NullFormat.profile = killing
"""


@pytest.fixture
def dated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NullFormat, "profile", NullFormat.profile)  # put back afterwards
    exec(DATED, {})


@pytest.fixture
def again(met: Any, tmp_path: Path) -> Path:
    """The build file of a build that is done, in a folder of its own."""
    shutil.copy(met.path, tmp_path / "build.toml")
    shutil.copytree(met.out, tmp_path / "out")
    return tmp_path / "build.toml"


def kinds(loop: Any, path: Path, before: int) -> set[str]:
    """What was done since there were so many stages."""
    return {stage.stage for stage in loop.done(path)[before:]}


@pytest.mark.usefixtures("dated")
def test_a_new_proof_stands_beside_the_one_before(loop: Any, met: Any, again: Path) -> None:
    before = len(loop.done(again))
    first = loop.build(again, remeasure=True)
    assert first.result.status == "met"
    assert kinds(loop, again, before) == {"profile"}, "nothing but measurements is done again"
    assert first.result.student == met.result.student
    assert [t.spec for t in first.result.trials] == [t.spec for t in met.result.trials]
    assert first.result.occasion and met.result.occasion == ""
    assert first.result.earlier == (met.result.proof,)
    assert first.result.proof.began_at[:10] >= first.result.occasion[:10] > "2026"
    assert first.result.proof.artifact_sha256 == met.result.proof.artifact_sha256
    assert not (first.out / OCCASION).exists()

    second = loop.build(again, remeasure=True)
    assert second.result.earlier == (met.result.proof, first.result.proof)
    assert second.result.proof.began_at > first.result.proof.began_at
    assert second.result.occasion > first.result.occasion
    assert BuildResult.model_validate_json((second.out / "build.json").read_text()) == second.result

    third = loop.build(again)
    assert third.notes == ["nothing has changed since this build"] and third.result == second.result


@pytest.mark.usefixtures("dated")
def test_a_build_after_it_goes_by_the_measurements_that_were_taken_last(loop: Any, met: Any, again: Path) -> None:
    """A file missing from the package is made good: without another session, and without another proof."""
    measured = loop.build(again, remeasure=True)
    before = len(loop.done(again))
    (measured.out / measured.result.artifacts[0].path).unlink()
    made_good = loop.build(again)
    assert kinds(loop, again, before) == set()
    assert (made_good.result.proof, made_good.result.earlier) == (measured.result.proof, measured.result.earlier)
    assert made_good.result.occasion == measured.result.occasion


@pytest.mark.usefixtures("dated")
def test_where_another_student_wins_the_measurement_that_differs_is_named(
    loop: Any, met: Any, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the student that won take three times as long this time."""
    old = next(trial for trial in met.result.trials if trial.spec == met.result.student.spec)
    slower = {scheme.artifact.sha256 for scheme in old.schemes}
    real = NullFormat.profile

    def profile(self: NullFormat, artifact: Any, inputs: Any, protocol: Any) -> Profile:
        found = real(self, artifact, inputs, protocol)
        if artifact.sha256 not in slower:
            return found
        sessions = [s.model_copy(update={"samples_ns": tuple(3 * n for n in s.samples_ns)}) for s in found.sessions]
        return found.model_copy(update={"sessions": tuple(sessions)})

    monkeypatch.setattr(NullFormat, "profile", profile)
    result = loop.build(again, remeasure=True).result
    assert result.student is None or result.student.spec != old.spec
    assert result.earlier == (met.result.proof,)
    if result.student is not None:
        share = r"[\d.]+% of the teacher's"
        (told,) = [note for note in result.notes if note.startswith("another student than before")]
        assert re.search(rf"p95 of {old.spec.label} was {share} and is {share} \(measured [\d.]+", told)
    new = next(trial for trial in result.trials if trial.spec == old.spec)
    assert new.state == "over_budget" and "measured " in new.reason


@pytest.mark.slow
def test_one_that_was_killed_goes_on_with_its_own_measurements(loop: Any, met: Any, again: Path) -> None:
    before = len(loop.done(again))
    arguments = ("build", again, "--target", NULL_TARGET, "--remeasure")
    killed = loop.run(*arguments, code=DATED + KILLER.format(number=12))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    occasion = (again.parent / "out" / OCCASION).read_text()
    assert kinds(loop, again, before) == {"profile"}
    done = loop.run(*arguments, code=DATED)
    assert done.returncode == 0, done.stderr
    result = BuildResult.model_validate_json((again.parent / "out" / "build.json").read_text())
    assert (result.status, result.occasion, result.earlier) == ("met", occasion, (met.result.proof,))
    assert result.student == met.result.student
    assert max(Counter(stage.key for stage in loop.done(again)[before:]).values()) == 1, "no session twice"
    assert not (again.parent / "out" / OCCASION).exists()
    # A proof that began before the kill is one proof all the same.
    assert result.proof.start.at >= occasion[:10] and result.proof.met


def test_a_search_measures_again_too(loop: Any, met: Any, again: Path) -> None:
    found = api.search(again, target=NULL_TARGET, remeasure=True)
    assert found.occasion and found.student == met.result.student
    assert api.search(again, target=NULL_TARGET) == found
    once_more = api.search(again, target=NULL_TARGET, remeasure=True)
    assert once_more.occasion > found.occasion
    before = len(loop.done(again))
    built = loop.build(again)
    assert built.result.occasion == once_more.occasion, "the build ships what the last search found"
    assert kinds(loop, again, before) <= {"profile"}
    assert not (built.out / "search.json").exists()
    assert loop.build(again).notes == ["nothing has changed since this build"]


# -- the teacher's file ---------------------------------------------------------------------------------------------


def test_the_teachers_file_lies_beside_the_package_unless_it_is_not_wanted(loop: Any, met: Any, again: Path) -> None:
    out = again.parent / "out"
    (kept,) = met.result.teacher.files
    before = len(loop.done(again))
    without = loop.build(again, keep_teacher=False)
    assert without.result.teacher.files == () and not list(out.glob("teacher.*"))
    assert without.result.proof == met.result.proof and without.result.earlier == ()
    assert loop.build(again, keep_teacher=False).notes == ["nothing has changed since this build"]
    spoken = loop.run("build", again, "--target", NULL_TARGET, "--no-teacher")
    assert spoken.returncode == 0 and "nothing has changed" in spoken.stderr
    once_more = loop.build(again)
    assert once_more.result.teacher.files == (kept,)
    assert file_sha256(out / kept.path) == kept.sha256
    assert loop.done(again)[before:] == [], "neither takes any work"


def test_a_teachers_file_that_was_removed_is_laid_there_again(loop: Any, met: Any, again: Path) -> None:
    (kept,) = met.result.teacher.files
    (again.parent / "out" / kept.path).unlink()
    built = loop.build(again)
    assert "nothing has changed since this build" not in built.notes
    assert file_sha256(built.out / kept.path) == kept.sha256
