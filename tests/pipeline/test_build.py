"""What lies beside the folders of several targets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.base.progress import silent
from edgedistill.documents.results import BuildIndex
from edgedistill.pipeline import build as building
from edgedistill.pipeline.build import Means, build_each, search_each
from edgedistill.pipeline.jobs import Changes, Job, jobs_of

TEXT = 'targets = ["host", "host-litert"]\nbudget = "5ms"\n[teacher]\nmodel = "timm:resnet18"\npretrained = true\n'


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, ...]:
    """Two builds that end at once."""

    def ended(job: Job, *_: Any) -> list[Any]:
        return [SimpleNamespace(target=o.target.name, status="met", verdict="proven") for o in job.orders]

    monkeypatch.setattr(building, "build", ended)
    monkeypatch.setattr(building, "search", ended)
    (tmp_path / "build.toml").write_text(TEXT)
    return jobs_of(tmp_path / "build.toml", (), Changes(), None)


def beside(out: Path) -> set[str]:
    """What lies there, without the lock of the folder itself."""
    return {path.name for path in out.iterdir()} - {".lock"}


def test_what_a_build_for_one_target_left_there_does_not_pass_for_that_of_several(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for folder in ("package", "profiles", "mistakes", "host/package"):
        (out / folder).mkdir(parents=True)
    for name in ("build.json", "search.json", "report.html", "study.journal", "notes.txt"):
        (out / name).write_text("{}")
    index = build_each(jobs, Means(), silent)
    assert BuildIndex.model_validate_json((out / "build.json").read_text()) == index
    assert beside(out) == {"build.json", "host", "study.journal", "notes.txt"}
    assert (out / "host" / "package").is_dir()


def test_a_search_leaves_an_earlier_build_where_it_is(jobs: tuple[Job, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "package").mkdir(parents=True)
    (out / "build.json").write_text("{}")
    search_each(jobs, Means(), silent)
    assert beside(out) == {"build.json", "package", "search.json"}
    assert (out / "build.json").read_text() == "{}"


def test_an_index_is_written_again_over_an_earlier_one(jobs: tuple[Job, ...], tmp_path: Path) -> None:
    build_each(jobs, Means(), silent)
    (tmp_path / "out" / "package").mkdir()  # of the user's own making: an index has none
    build_each(jobs[:1], Means(), silent)
    index = BuildIndex.model_validate_json((tmp_path / "out" / "build.json").read_text())
    assert [entry.target for entry in index.targets] == ["host"]
    assert (tmp_path / "out" / "package").is_dir()


@pytest.mark.parametrize("one", [api.build, api.search])
def test_what_serves_one_target_asks_which_of_several(jobs: tuple[Job, ...], tmp_path: Path, one: Any) -> None:
    with pytest.raises(InputError, match="host, host-litert") as caught:
        one(tmp_path / "build.toml")
    assert "`target`" in caught.value.fix and "build_all" in caught.value.fix
