"""Builds that are killed, interrupted or run side by side: the same command goes on, and no stage is done twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import ExitCode
from edgedistill.documents.results import BuildResult
from edgedistill.outputs.package.package import package_problems
from edgedistill.pipeline.build import JOURNAL

NULL_TARGET = Path(__file__).with_name("null.toml")

# Ends the process with signal 9 at its n-th event (right after the listener heard it), or right before its n-th rename of
# a file or folder: what was being written is then complete under a temporary name.
KILLER = """
import os, signal
from pathlib import Path
from edgedistill.pipeline import build as building
kind, left = {kind!r}, {number}
def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def logged(listener, path, real=building._logged):
    def hear(event):
        listener(event)
        step()
    return real(hear, path)
def replace(self, target, real=Path.replace):
    step()
    return real(self, target)
if kind == "event":
    building._logged = logged
else:
    Path.replace = replace
"""
FIRST_KILLS = (("rename", 12), ("event", 60))


def unique(stages: list[Any]) -> bool:
    """Whether no stage was done twice."""
    return max(Counter(stage.key for stage in stages).values(), default=1) == 1


def upstream(stages: list[Any]) -> set[str]:
    """Keys of the stages up to the exported file."""
    return {stage.key for stage in stages if stage.stage in ("space", "teacher", "views", "train", "export")}


def subjects(stages: list[Any]) -> Counter[str]:
    """How often something was done with each subject, but for compiling, whose keys differ from process to process."""
    return Counter(stage.subject for stage in stages if stage.stage != "compile")


@pytest.fixture(scope="session")
def alone(loop: Any) -> Any:
    """A build with a cache of its own, so that no other build has done a part of it."""
    own = replace(loop, cache=loop.root / "alone-cache")
    return own.build(own.write("alone", "1000ms", *own.few))


def kill_and_go_on(loop: Any, met: Any, path: Path, cache: Path, kills: tuple[tuple[str, int], ...]) -> int:
    """Kill the build at each of these places in turn, then let it finish. Returns how many kills came before its end."""
    effective = 0
    for kind, number in kills:
        code = KILLER.format(kind=kind, number=number)
        done = loop.run("build", path, "--target", NULL_TARGET, code=code, cache=cache)
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr
        assert loop.damaged(cache) == []
        effective += done.returncode != 0
    done = loop.run("build", path, "--target", NULL_TARGET, "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    result = BuildResult.model_validate_json(done.stdout)
    out = path.parent / "out"
    assert result.status == "met"
    # No clock runs on the null device, so nothing may come out otherwise than in a build that was not killed.
    assert result.student == met.result.student
    assert [t.spec for t in result.trials] == [t.spec for t in met.result.trials]
    assert package_problems(out, result) == ()
    assert loop.damaged(cache) == []
    assert unique(loop.done(path))
    assert subjects(loop.done(path)) == subjects(loop.done(met.path))
    # Weights are in the key of what is exported: training went on to the very same ones. (torch.export writes other bytes
    # in each process, so the keys of what comes after it differ on the null runtime.)
    assert upstream(loop.done(path)) == upstream(loop.done(met.path))
    assert not list(out.rglob("*.tmp*"))
    return effective


@pytest.mark.slow
def test_killed_at_one_place_after_another(loop: Any, alone: Any, tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    shutil.copy(alone.path, path)
    assert kill_and_go_on(loop, alone, path, tmp_path / "cache", FIRST_KILLS) == len(FIRST_KILLS)


def test_what_a_killed_build_was_writing_goes_and_a_users_file_stays(loop: Any, met: Any) -> None:
    left = [met.out / name for name in (".build.99.tmp.json", ".search.99.tmp.json", ".report.99.tmp.html")]
    own = met.out / ".notes.99.tmp"
    for file in (*left, own):
        file.write_text("{")
    assert loop.build(met.path).result.status == "met"
    assert not [file for file in left if file.exists()]
    assert own.exists()
    own.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_places(loop: Any, alone: Any, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "build.toml"
    shutil.copy(alone.path, path)
    draw = random.Random(seed)
    kills = tuple(
        ("event", draw.randrange(1, len(alone.events))) if draw.random() < 0.5 else ("rename", draw.randrange(1, 60))
        for _ in range(5)
    )
    assert kill_and_go_on(loop, alone, path, tmp_path / "cache", kills) >= 1


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted(loop: Any, met: Any, number: signal.Signals) -> None:
    seed = ("[train]", f"[train]\nseed = {100 + number}")
    path = loop.write(f"interrupted-{number.name}", "1000ms", seed, *loop.few)
    # A process started in the background of a script inherits that Ctrl-C is ignored.
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    process = loop.start("build", path, "--target", NULL_TARGET, code=code)
    heard = []
    for line in process.stderr:
        heard.append(line)
        if line.startswith("trial 0"):
            process.send_signal(number)
            break
    stdout, rest = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, [*heard, rest]
    assert "run the same command to go on where it stopped" in rest
    assert "Traceback" not in rest
    assert stdout == ""
    before = loop.done(path)
    again = loop.build(path)
    assert again.result.status == "met"
    assert unique(loop.done(path))
    assert loop.done(path)[: len(before)] == before
    assert loop.damaged() == []


def test_two_builds_in_one_folder(loop: Any, met: Any) -> None:
    path = loop.write("twice", "1000ms", ("[train]", "[train]\nseed = 7"), *loop.few)
    first = loop.start("build", path, "--target", NULL_TARGET, "--json")
    lock = path.parent / "out" / ".lock"
    while not (lock.exists() and (path.parent / "out" / JOURNAL).exists()):
        assert first.poll() is None
        time.sleep(0.05)
    second = loop.start("build", path, "--target", NULL_TARGET, "--json")
    first_out, first_err = first.communicate(timeout=200)
    second_out, second_err = second.communicate(timeout=200)
    assert (first.returncode, second.returncode) == (0, 0), first_err + second_err
    assert "another build in" in second_err
    assert "nothing has changed since this build" in second_err
    assert json.loads(first_out) == json.loads(second_out)
    assert json.loads(first_out)["status"] == "met"
    assert unique(loop.done(path))
    assert loop.damaged() == []


@pytest.mark.slow
def test_two_builds_of_one_cache_share_what_they_make(loop: Any, met: Any) -> None:
    paths = [loop.write(f"beside-{number}", "50%", ("[train]", "[train]\nseed = 8")) for number in (1, 2)]
    processes = [loop.start("build", path, "--target", NULL_TARGET, "--json") for path in paths]
    results = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
        results.append(BuildResult.model_validate_json(stdout))
    assert results[0].student == results[1].student
    assert unique([stage for path in paths for stage in loop.done(path)])
    assert loop.damaged() == []


def test_a_torn_last_line_of_the_journal(loop: Any, met: Any, tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    shutil.copy(met.path, path)
    shutil.copytree(met.out, tmp_path / "out")
    (tmp_path / "out" / "build.json").unlink()
    journal = tmp_path / "out" / JOURNAL
    whole = journal.read_bytes()
    # In the midst of the last line: the end of the last trial is lost.
    journal.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 20])
    built = loop.build(path)
    assert built.result.status == "met"
    assert [t.number for t in built.result.trials] == [t.number for t in met.result.trials]
    assert [t.spec for t in built.result.trials] == [t.spec for t in met.result.trials]
    assert all(isinstance(json.loads(line), dict) for line in journal.read_text().splitlines())


@pytest.mark.slow
def test_a_stage_of_another_size_than_stated_is_made_again(loop: Any, met: Any, tmp_path: Path) -> None:
    """As after a power cut that lost what was written last."""
    cache = tmp_path / "cache"
    shutil.copytree(loop.cache, cache)
    shutil.copy(met.path, tmp_path / "build.toml")
    stage = next(s for s in loop.done(met.path) if s.stage == "verify" and "teacher" not in s.subject)
    file = cache / "verify" / stage.key / "verification.json"
    whole = file.read_bytes()
    os.truncate(file, len(whole) // 2)
    done = loop.run("build", tmp_path / "build.toml", "--target", NULL_TARGET, cache=cache)
    assert done.returncode == 0, done.stderr
    assert [s.key for s in loop.done(tmp_path / "build.toml")] == [stage.key]
    assert file.read_bytes() == whole
