"""Searches in processes of their own: workers, a shared storage with one of two killed, a Ray cluster with a worker lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dying import die

import edgedistill as api
from edgedistill.base.errors import TrialFailure
from edgedistill.documents.results import SearchResult
from edgedistill.pipeline import workers
from edgedistill.pipeline.build import LOG

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
    """How often each stage was really done, by whichever process."""
    lines = [json.loads(line) for out in outs if (out / LOG).exists() for line in (out / LOG).read_text().splitlines()]
    return Counter((line["stage"], line["key"]) for line in lines)


def same_but_for_time(result: SearchResult) -> Any:
    """What a search decided."""
    return [(t.number, t.spec, t.state, [r.quality_validation for r in t.rungs]) for t in result.trials]


def test_a_search_finds_what_the_build_ships(loop: Any, met: Any, cache: Path, tmp_path: Path) -> None:
    result = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out")
    assert (tmp_path / "out" / "search.json").is_file() and not (tmp_path / "out" / "package").exists()
    assert result.student == met.result.student and result.proof is not None
    assert result.status == "met"
    assert not stages(tmp_path / "out"), "everything was there already"
    again = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out")
    assert again == result


@pytest.mark.slow  # tests/pipeline/test_workers.py has the workers by themselves
def test_worker_processes_find_the_same(loop: Any, met: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    result = api.search(met.path, target=NULL_TARGET, out=tmp_path / "out", jobs=2)
    assert same_but_for_time(result) == same_but_for_time(met.result)
    assert {"signal", "train"} <= {stage for stage, _ in stages(tmp_path / "out")}, "workers are heard of"


@pytest.mark.slow
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


def kill_a_ray_worker_of_each(
    stages_to_hit: tuple[str, ...], out: Path, killed: list[str], over: threading.Event
) -> None:
    """Kill -9 a worker of Ray's while it labels, another while it trains. `stages.jsonl` tells which it is."""
    while len(killed) < len(stages_to_hit) and not over.is_set():
        now = "train" if any(stage == "signals" for stage, _ in stages(out)) else "signal"
        if now not in killed:
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if line.read_bytes().startswith(b"ray::_on_a_node") and now not in killed:
                        os.kill(int(line.parent.name), signal.SIGKILL)
                        killed.append(now)
        time.sleep(0.01)


@pytest.mark.slow
def test_on_ray_what_a_killed_worker_was_at_is_done_elsewhere(loop: Any, met: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out, killed, over = tmp_path / "out", list[str](), threading.Event()
    killer = threading.Thread(target=kill_a_ray_worker_of_each, args=(("signal", "train"), out, killed, over))
    killer.start()
    try:
        arguments = (met.path, "--target", NULL_TARGET, "--out", out, "--executor", "ray", "--json")
        done = loop.run("search", *arguments, cache=tmp_path / "cache")
    finally:
        over.set()
        killer.join()
    assert done.returncode == 0, done.stderr
    assert killed == ["signal", "train"]
    result = SearchResult.model_validate_json(done.stdout)
    (signal_made,) = (tmp_path / "cache" / "signals").glob("*/signal.json")
    for file in signal_made.parent.glob("*.records"):
        assert file.read_bytes() == (loop.cache / "signals" / signal_made.parent.name / file.name).read_bytes()
    assert same_but_for_time(result) == same_but_for_time(met.result)
    assert set(stages(out).values()) == {1}


def test_a_ray_cluster_that_is_not_there_is_told_in_words(loop: Any, met: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = "import os; os.environ['RAY_ADDRESS'] = '127.0.0.1:1'"
    arguments = (met.path, "--target", NULL_TARGET, "--out", tmp_path / "out", "--executor", "ray")
    done = loop.run("search", *arguments, code=code, cache=tmp_path / "cache")
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    assert "127.0.0.1:1 does not answer" in done.stderr and "check RAY_ADDRESS" in done.stderr
    assert not (tmp_path / "cache" / "views").exists(), "that was told before anything was done"


def test_a_task_at_which_every_worker_dies_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    executor = workers.Processes(2, heard.append)
    monkeypatch.setattr(workers, "do_apart", die)
    task: Any = SimpleNamespace(label="the training of resnet w1 d1 @8")
    ((_, done),) = executor.run([task])
    assert isinstance(done, TrialFailure) and "ended by SIGKILL, most often out of memory, 3 times" in done.message
    assert len(heard) == 2, "after the last death no worker goes on"
    assert "resnet w1 d1 @8" in heard[0].text
