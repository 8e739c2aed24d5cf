"""Searches in processes of their own: workers, a shared storage with one of two killed, a Ray cluster with a worker lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dying import die

from edgedistill import api, workers
from edgedistill.building import LOG
from edgedistill.errors import TrialFailure
from edgedistill.results import SearchResult

NULL_TARGET = Path(__file__).with_name("null.toml")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As `met` was built and workers train: sums over other numbers of threads end in other last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stages(*outs: Path) -> Counter[tuple[str, str]]:
    """How often each stage was really done, by whom does not matter."""
    lines = [json.loads(line) for out in outs if (out / LOG).exists() for line in (out / LOG).read_text().splitlines()]
    return Counter((line["stage"], line["key"]) for line in lines)


def same_but_for_time(result: SearchResult) -> Any:
    """What a search decided."""
    return [(t.number, t.spec, t.state, [r.accuracy_validation for r in t.rungs]) for t in result.trials]


def test_a_search_finds_what_the_build_ships(loop: Any, met: Any, cache: Path, tmp_path: Path) -> None:
    result = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out")
    assert (tmp_path / "out" / "search.json").is_file() and not (tmp_path / "out" / "package").exists()
    assert result.student == met.result.student and result.proof is not None
    assert result.status == "met"
    assert not stages(tmp_path / "out"), "everything was there already"
    again = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out")
    assert again == result


def test_worker_processes_find_the_same(loop: Any, met: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    result = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out", jobs=2)
    assert same_but_for_time(result) == same_but_for_time(met.result)
    assert {"view", "train"} <= {stage for stage, _ in stages(tmp_path / "out")}, "workers are heard of"


def test_of_two_processes_on_one_storage_one_is_killed(loop: Any, met: Any, tmp_path: Path) -> None:
    """Nothing is lost, and nothing that either had finished is done again."""
    cache, storage = tmp_path / "cache", tmp_path / "shared.db"
    arguments = ("--target", NULL_TARGET, "--storage", f"sqlite:///{storage}", "--json", "--out")
    outs = tmp_path / "first", tmp_path / "second"
    running = [loop.start("search", met.path, *arguments, out, cache=cache) for out in outs]
    while not any(stage == "train" for stage, _ in stages(*outs)):
        assert running[0].poll() is None
        time.sleep(0.02)
    running[0].send_signal(signal.SIGKILL)
    shown, complaints = running[1].communicate(timeout=300)
    running[0].wait()
    assert running[1].returncode == 0, complaints
    result = SearchResult.model_validate_json(shown)
    assert same_but_for_time(result) == same_but_for_time(met.result)
    assert set(stages(*outs).values()) == {1}, "no finished stage was done twice"
    finished = [s for s in stages(*outs) if s[0] == "train"]
    assert len(finished) == sum(len(trial.rungs) for trial in result.trials)
    with sqlite3.connect(storage) as database:
        (count,) = database.execute("select count(*) from trials").fetchone()
    assert count == len(result.trials), "the study has every student once"


@pytest.mark.slow  # Ray leaves threads behind, beside which the converters' forked children of later tests may hang
def test_on_ray_a_lost_workers_view_and_training_are_done_elsewhere(
    loop: Any, met: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    lost = tmp_path / "lost"
    lost.mkdir()
    real = workers.do_apart

    def loses_the_first_of_each_stage(task: workers.Task[Any], threads: int) -> Any:
        try:
            (lost / task.stage).touch(exist_ok=False)
        except FileExistsError:
            return real(task, threads)
        return os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(workers, "do_apart", loses_the_first_of_each_stage)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        result = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out", executor="ray")
    finally:
        ray.shutdown()
    assert {file.name for file in lost.iterdir()} == {"view", "train"}
    (views,) = (tmp_path / "cache" / "views").glob("*/store.json")
    for file in views.parent.glob("*.records"):
        assert file.read_bytes() == (loop.cache / "views" / views.parent.name / file.name).read_bytes()
    assert same_but_for_time(result) == same_but_for_time(met.result)
    assert set(stages(tmp_path / "out").values()) == {1}


def test_a_task_at_which_every_worker_dies_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    executor = workers.Processes(2, heard.append)
    monkeypatch.setattr(workers, "do_apart", die)
    task: Any = SimpleNamespace(label="the training of resnet w1 d1 @8")
    ((_, done),) = executor.run([task])
    assert isinstance(done, TrialFailure) and "3 worker processes died" in done.message
    assert len(heard) == 3 and "resnet w1 d1 @8" in heard[0].text
