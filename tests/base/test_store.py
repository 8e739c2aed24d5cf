"""The cache: whole or absent, resumable, locked, and cleared without touching anything else."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Note, StageFinished, StageStarted, silent
from edgedistill.base.source_code import code_version
from edgedistill.base.store import (
    MANIFEST,
    Store,
    default_root,
    digest,
    file_sha256,
    lock,
    size_bytes,
    stage_key,
    tool_version,
    write_atomic,
)

KEY = digest("a key")
OTHER = digest("another key")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def writes(name: str = "data", text: str = "hello") -> Any:
    return lambda folder: (folder / name).write_text(text)


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `code` with `arguments` in `sys.argv[1:]`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# -- hashes -----------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_digest_ignores_the_order_of_keys(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(JSON, JSON)
def test_digest_tells_values_apart(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) is same


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_digest_refuses_what_json_cannot_hold(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"loss": value})


def test_folder_hash_sees_names_and_contents(tmp_path: Path) -> None:
    hashes = set()
    for number, (name, text) in enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("sub/a", "x")]):
        folder = tmp_path / str(number)
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        hashes.add(file_sha256(folder))
    assert len(hashes) == 4


def test_stage_key_sees_inputs_code_and_tools() -> None:
    plain = stage_key({"seed": 0})
    assert plain == stage_key({"seed": 0})
    assert len({plain, stage_key({"seed": 1}), stage_key({"seed": 0}, code=["edgedistill.base.units"])}) == 3
    assert stage_key({"seed": 0}, tools=["numpy"]) != stage_key({"seed": 0}, tools=["not-a-package"])


def test_versions_do_not_import() -> None:
    code = (
        "import sys; from edgedistill.base.source_code import code_version;"
        "from edgedistill.base.store import tool_version;"
        "code_version('edgedistill.distill'); tool_version('torch'); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
    assert tool_version("no-such-distribution") == "absent"
    assert len(code_version("edgedistill.base.units")) == 64


# -- whole or not at all ----------------------------------------------------------------------------------------


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_write_atomic_keeps_the_old_file_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_stage_is_made_once_and_found_again(tmp_path: Path) -> None:
    events: list[Event] = []
    store = Store(tmp_path, events.append)
    first = store.stage("train", KEY, writes(), subject="a student", total=3)
    second = store.stage("train", KEY, lambda folder: pytest.fail("made twice"), subject="a student")
    assert first == second == store.find("train", KEY)
    assert (first / "data").read_text() == "hello"
    assert events[0] == StageStarted("train", "a student", 3)
    assert [event.reused for event in events if isinstance(event, StageFinished)] == [False, True]


def test_failed_stage_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def breaks(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        store.stage("train", KEY, breaks)
    assert store.find("train", KEY) is None
    folder = store.stage("train", KEY, writes())
    assert sorted(p.name for p in folder.iterdir()) == ["data", MANIFEST]


def test_resumable_stage_finds_what_was_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[list[str]] = []

    def counts(folder: Path) -> None:
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / str(len(seen))).write_text("x")
        (folder / ".3.99.tmp").write_text("what a killed atomic write leaves")
        if len(seen) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            store.stage("views", KEY, counts, resumable=True)
    folder = store.stage("views", KEY, counts, resumable=True)
    assert seen == [[], [".3.99.tmp", "1"], [".3.99.tmp", "1", "2"]]
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "3", MANIFEST]


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "manifest list", "no manifest"])
def test_damaged_stage_is_made_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    folder = store.stage("train", KEY, writes())
    match damage:
        case "truncate":
            (folder / "data").write_text("hell")
        case "remove":
            (folder / "data").unlink()
        case "manifest":
            (folder / MANIFEST).write_text('{"files": {"da')
        case "manifest list":
            (folder / MANIFEST).write_text("[]")
        case "no manifest":
            (folder / MANIFEST).unlink()
    assert store.find("train", KEY) is None
    assert (store.stage("train", KEY, writes()) / "data").read_text() == "hello"


MAKES_SLOWLY = """
import sys, time
from pathlib import Path
from edgedistill.base.store import Store
def make(folder):
    for number in range(20):
        if not (folder / str(number)).exists():
            (folder / str(number)).write_bytes(b"x" * 5000)
            time.sleep(0.002)
print("ready", flush=True)
Store(Path(sys.argv[1])).stage("views", sys.argv[2], make, resumable=sys.argv[3] == "resumable")
"""


@pytest.mark.parametrize("kind", ["resumable", "fresh"])
def test_killed_at_any_moment_then_goes_on(tmp_path: Path, kind: str) -> None:
    chance = random.Random(kind)
    store = Store(tmp_path)
    for attempt in range(6):
        key = digest(attempt)
        process = child(MAKES_SLOWLY, str(tmp_path), key, kind)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = store.find("views", key)
        assert found is None or sum(p.stat().st_size == 5000 for p in found.iterdir()) == 20
        done = child(MAKES_SLOWLY, str(tmp_path), key, kind)
        done.communicate(timeout=20)
        whole = store.find("views", key)
        assert done.returncode == 0
        assert whole is not None
        assert {p.name for p in whole.iterdir()} == {*map(str, range(20)), MANIFEST}


# -- locks ------------------------------------------------------------------------------------------------------


def test_second_build_waits_and_reuses(tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()
    made: list[str] = []
    events: list[Event] = []

    def slow(folder: Path) -> None:
        entered.set()
        assert go_on.wait(10)
        made.append("first")
        writes()(folder)

    first = threading.Thread(target=lambda: Store(tmp_path).stage("train", KEY, slow))
    first.start()
    assert entered.wait(10)
    second = threading.Thread(
        target=lambda: Store(tmp_path, events.append).stage("train", KEY, lambda folder: made.append("second"))
    )
    second.start()
    while not events:
        time.sleep(0.01)
    go_on.set()
    first.join(10)
    second.join(10)
    assert made == ["first"]
    assert isinstance(events[0], Note)
    assert f"process {os.getpid()}" in events[0].text
    assert isinstance(events[-1], StageFinished)
    assert events[-1].reused


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    process = child(
        """
        import sys, time
        from pathlib import Path
        from edgedistill.base.progress import silent
        from edgedistill.base.store import lock
        with lock(Path(sys.argv[1]), silent, "x"):
            print("held", flush=True)
            time.sleep(60)
        """,
        str(path),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    events: list[Event] = []
    with lock(path, events.append, "x"):
        assert path.read_text() == str(os.getpid())
    assert events == []


# -- the whole cache --------------------------------------------------------------------------------------------


def test_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here"
    assert Store().root == tmp_path / "here"
    monkeypatch.delenv("EDGEDISTILL_CACHE")
    assert default_root().name == "edgedistill"


def test_root_that_cannot_be_made_says_how_to_move_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        Store(tmp_path / "file" / "cache")
    assert "EDGEDISTILL_CACHE" in caught.value.fix


def test_usage_and_clear_touch_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    done = store.stage("train", KEY, writes(text="x" * 100))
    with pytest.raises(ZeroDivisionError):
        store.stage("views", KEY, lambda folder: (folder / "half").write_text("x" * 10) and 1 / 0, resumable=True)
    mine = tmp_path / "photos" / "me.png"
    mine.parent.mkdir()
    mine.write_text("precious")
    (tmp_path / "train" / "notes.txt").write_text("precious")
    taken = size_bytes(done)
    assert store.usage() == {"train": (1, taken), "views": (0, 10)}
    assert store.clear() == taken + 10
    assert store.usage() == {}
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["photos/me.png", "train/notes.txt"]


def test_drop_removes_one_stage_and_none_in_work(tmp_path: Path) -> None:
    store, other = Store(tmp_path), "1" * 64
    kept, freed = store.stage("train", other, writes()), list[int]()
    taken = size_bytes(store.stage("train", KEY, writes()))
    assert store.drop("train", KEY) == taken
    assert not list((tmp_path / "train").glob(f"{KEY}*"))
    assert store.drop("train", KEY) == store.drop("never", KEY) == 0
    assert store.find("train", other) == kept

    def drops_itself(folder: Path) -> None:
        (folder / "data").write_text("here")
        freed.append(store.drop("train", KEY))

    assert (store.stage("train", KEY, drops_itself) / "data").read_text() == "here"
    assert freed == [0]


def test_clear_leaves_a_stage_in_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.stage("train", OTHER, writes())

    def clears_meanwhile(folder: Path) -> None:
        (folder / "data").write_text("x")
        store.clear()
        assert (folder / "data").exists()

    folder = store.stage("train", KEY, clears_meanwhile)
    assert (folder / "data").read_text() == "x"
    assert store.find("train", OTHER) is None


def test_waiting_for_a_lock_that_is_cleared_away_takes_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    events: list[Event] = []
    held = threading.Event()

    def waits() -> None:
        with lock(path, events.append, "x"):
            held.set()

    with lock(path, events.append, "x"):
        waiter = threading.Thread(target=waits)
        waiter.start()
        while not events:
            time.sleep(0.01)
        path.unlink()
    waiter.join(10)
    assert held.is_set()
    assert path.exists()


@settings(max_examples=25)
@given(files=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=50), min_size=1, max_size=4))
def test_manifest_tells_sizes_and_hashes(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("store"))

    def make(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    folder = store.stage("train", KEY, make)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": file_sha256(folder / name)} for name, data in files.items()
    }


def test_waiting_for_those_that_share_a_lock_tells_of_no_process_that_had_it_before(tmp_path: Path) -> None:
    notes: list[str] = []

    def listen(event: Event) -> None:
        assert isinstance(event, Note)
        notes.append(event.text)

    path = tmp_path / "turn"
    with lock(path, silent, "others"):
        held = path.read_text()

    def wait() -> None:
        with lock(path, listen, "those that train"):
            pass

    waiting = threading.Thread(target=wait, daemon=True)
    with lock(path, silent, "others", shared=True):
        waiting.start()
        while not notes:
            time.sleep(0.01)
    waiting.join(10)
    assert held == str(os.getpid()) and notes == ["waiting for those that train"]
