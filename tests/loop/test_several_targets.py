"""Several targets in one build, a plan of it, and a search that begins with what earlier ones learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgedistill as api
from edgedistill import explain
from edgedistill.distill.teachers.load import load_teacher
from edgedistill.documents.results import BuildIndex, BuildResult, LatencyLimit, SearchResult
from edgedistill.pipeline import teacher as teaching
from edgedistill.pipeline.build import LOG

NULL_TARGET = Path(__file__).with_name("null.toml")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second device like the first."""
    path = tmp_path / "other.toml"
    text = NULL_TARGET.read_text()
    name = next(line for line in text.splitlines() if line.startswith("name"))
    path.write_text(text.replace(name, 'name = "other"'))
    return path


def done(out: Path) -> list[str]:
    return [json.loads(line)["stage"] for line in (out / LOG).read_text().splitlines()] if (out / LOG).exists() else []


def test_two_targets_share_teacher_views_and_training(loop: Any, met: Any, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    index = api.build_all(met.path, targets=(NULL_TARGET, other), out=out)
    assert isinstance(index, BuildIndex)
    assert BuildIndex.model_validate_json((out / "build.json").read_text()) == index
    assert [(entry.target, entry.status) for entry in index.targets] == [("null", "met"), ("other", "met")]
    for entry in index.targets:
        own = BuildResult.model_validate_json((out / entry.folder / "build.json").read_text())
        assert own.target == entry.target and own.verdict == entry.verdict
        assert (out / entry.folder / "report.html").is_file()
    assert not {"teacher", "views", "train"} & set(done(out / "other")), "all of that was there"
    again = api.build_all(met.path, targets=(NULL_TARGET, other), out=out)
    assert isinstance(again, BuildIndex) and again.targets == index.targets


def test_the_plan_counts_what_would_be_done_and_does_nothing(loop: Any, met: Any, other: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (loop.cache / "train").iterdir())
    plan = api.plan(met.path, targets=(NULL_TARGET, other), trials=2)
    assert [[target.target for target in search.targets] for search in plan.searches] == [["null"], ["other"]]
    first = plan.searches[0]
    assert plan.data == met.result.data
    assert plan.teacher.parameters == met.result.teacher.parameters and plan.teacher.multiply_adds > 0
    assert plan.teacher.fit_seconds is not None and plan.teacher.fit_seconds > 0, (
        "the cache has the fit of this teacher"
    )
    unfitted = loop.write("unfitted", "50%", ("epochs = 2", "epochs = 3"))
    assert api.plan(unfitted, targets=(NULL_TARGET,)).teacher.fit_seconds is None
    assert sum(first.families.values()) == first.candidates > 2
    assert [(rung.epochs, rung.students) for rung in first.rungs] == [(1, 2), (2, 1)]
    assert first.rungs[0].image_passes == 2 * met.result.data.train
    assert first.train_seconds is not None and first.train_seconds > 0, "the cache knows how fast this machine trains"
    assert sorted(path.name for path in (loop.cache / "train").iterdir()) == before
    spoken = loop.run("build", met.path, "--target", NULL_TARGET, "--dry-run")
    assert spoken.returncode == 0 and f"{first.candidates} candidates" in spoken.stdout


def test_one_student_is_proven_on_both_targets(loop: Any, met: Any, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = loop.run("build", met.path, "--target", NULL_TARGET, "--target", other, "--one-student", "--out", out)
    assert code.returncode == 0, code.stderr
    index = BuildIndex.model_validate_json((out / "build.json").read_text())
    assert [(entry.target, entry.status) for entry in index.targets] == [("null", "met"), ("other", "met")]
    own = {
        e.target: BuildResult.model_validate_json((out / e.folder / "build.json").read_text()) for e in index.targets
    }
    assert own["null"].student == own["other"].student is not None
    for name, result in own.items():
        assert result.proof is not None and result.proof.met
        limits = [limit for limit in result.constraints if isinstance(limit, LatencyLimit)]
        assert [limit.target for limit in limits] == [name, *(other for other in own if other != name)]
        assert all(limit.kept for limit in limits)
        assert (out / name / "report.html").is_file() and (out / name / "package" / "manifest.json").is_file()
        assert "one student was searched for null, other" in result.notes
        assert explain(out / name).constraints == result.constraints
    assert own["null"].build_key == own["other"].build_key != met.result.build_key
    assert (out / "study.journal").is_file() and not (out / "null" / "study.journal").exists()
    again = api.build_all(met.path, targets=(NULL_TARGET, other), one_student=True, out=out)
    assert isinstance(again, BuildIndex) and again.targets == index.targets


@pytest.mark.slow
def test_a_search_for_several_targets_leaves_what_a_build_ships(
    loop: Any, met: Any, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    loaded = []

    def counting(*asked: Any, **how: Any) -> Any:
        loaded.append(asked)
        return load_teacher(*asked, **how)

    monkeypatch.setattr(teaching, "load_teacher", counting)
    index = api.search_all(met.path, targets=(NULL_TARGET, other), one_student=True, out=out)
    assert isinstance(index, BuildIndex)
    assert len(loaded) == 1, "one teacher serves all targets"
    assert BuildIndex.model_validate_json((out / "search.json").read_text()) == index
    found = SearchResult.model_validate_json((out / "other" / "search.json").read_text())
    assert found.student is not None and not (out / "other" / "build.json").exists()
    built = api.build_all(met.path, targets=(NULL_TARGET, other), one_student=True, out=out)
    assert isinstance(built, BuildIndex)
    assert BuildResult.model_validate_json((out / "other" / "build.json").read_text()).student == found.student
    assert not list(out.rglob("search.json")), "all of it stands in the build's"


def test_a_search_begins_with_what_an_earlier_one_trained(loop: Any, met: Any, tmp_path: Path) -> None:
    path = loop.write("warm", "45%", ("[search]", "[search]\nwarm_start = true"))
    built = loop.build(path)
    notes = [event.text for event in built.events if hasattr(event, "text")]
    assert any("students of earlier searches" in note for note in notes)
    assert built.result.status == "met"
    cold = loop.build(loop.write("cold", "45%"))
    assert not any("earlier searches" in getattr(event, "text", "") for event in cold.events)
