"""The cache of finished stages, keyed by the hash of what went in.

A stage is a folder `ROOT/<stage>/<key>/` with the files it made and a `manifest.json` of their sizes and hashes. It is
written under `<key>.part/`, synced, and renamed: a folder under its own name is whole. A killed stage leaves its part
folder; a resumable stage finds what it had written there. A lock a key keeps two builds from doing one stage twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import platformdirs

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Listener, Note, StageFinished, StageStarted, silent
from edgedistill.base.source_code import code_version

CACHE_VARIABLE = "EDGEDISTILL_CACHE"
MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{64}(\.part|\.lock)?")


def default_root() -> Path:
    """`$EDGEDISTILL_CACHE`, else the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("edgedistill")


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, independent of the order of keys. Paths and enums hash as their text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, or of a folder (its relative names and contents in sorted order)."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    hasher = hashlib.sha256()
    for inner in sorted(p for p in path.rglob("*") if p.is_file()):
        hasher.update(f"{inner.relative_to(path).as_posix()}\0{file_sha256(inner)}\n".encode())
    return hasher.hexdigest()


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size


@cache
def distribution_of(tool: str) -> tuple[str, str] | None:
    """Name and version of the installed distribution that provides `tool`, None without one. `tool` is mostly the
    distribution's own name; where it is not (`onnxruntime` of `onnxruntime-gpu`), the module's name tells. Does not import
    it."""
    try:
        return tool, importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        module = tool.replace("-", "_")
        # All distributions are read for their modules: not worth its time for a module that is not there.
        owners = importlib.metadata.packages_distributions() if importlib.util.find_spec(module) else {}
        return next(((name, importlib.metadata.version(name)) for name in owners.get(module, ())), None)


def tool_version(tool: str) -> str:
    """Installed version of what provides `tool` (`distribution_of`), `absent` where nothing does."""
    found = distribution_of(tool)
    return found[1] if found else "absent"


def stage_key(inputs: Mapping[str, Any], *, code: Sequence[str] = (), tools: Sequence[str] = ()) -> str:
    """Key of a stage: its inputs and options, the source of the modules that do it, the versions of its tools."""
    return digest(
        {
            "inputs": inputs,
            "code": {name: code_version(name) for name in code},
            "tools": {name: tool_version(name) for name in tools},
        }
    )


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` and with its suffix, where the block writes a file or a folder. That is synced and gets
    the name `path` once the block is through, and is removed where it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        sync_tree(temporary)
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file, or a folder with all that is in it, whole or not at all; nothing where it is the same one."""
    if source.absolute() != target.absolute():
        with whole(target) as temporary:
            shutil.copytree(source, temporary) if source.is_dir() else shutil.copyfile(source, temporary)


def clear_unfinished(path: Path) -> None:
    """Remove what killed processes left that were writing `path`. For a caller that alone writes there."""
    for stale in path.parent.glob(f".{path.stem}.*.tmp{path.suffix}"):
        _remove(stale)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, or what was written to a file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """fsync a file; of a folder every file in it, then the folders themselves."""
    inside = (path, *path.rglob("*"))
    for one in sorted(inside, key=Path.is_dir):
        sync_folder(one)


class BusyError(Exception):
    """Another process holds the lock, and the caller did not want to wait for it."""


@contextmanager
def lock(
    path: Path, listener: Listener, waiting_for: str, *, shared: bool = False, wait: bool = True
) -> Iterator[None]:
    """Hold a lock on `path`, exclusive or `shared` with others that are, waiting for the process that is in the way. The
    kernel drops it with its process, so a killed build never leaves one behind. The file stays, unless the cache is
    cleared. Raises BusyError in place of waiting where `wait` is off."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as stream:
            try:
                fcntl.flock(stream, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise BusyError(str(path)) from None
                stream.seek(0)
                owner = stream.read().strip()
                process = f" (process {owner})" if owner else ""
                listener(Note(f"waiting for {waiting_for}{process}", once=waiting_for))
                fcntl.flock(stream, kind)
            if not _is_at(stream, path):
                continue  # cleared meanwhile: the next process would lock another file than this one
            # Those that share it have no single owner to be told of: the process that had it alone before takes its name
            # away again.
            if not shared:
                _name(stream, str(os.getpid()))
            try:
                yield
            finally:
                if not shared:
                    _name(stream, "")
            return


def _name(stream: IO[str], owner: str) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(owner)
    stream.flush()


def _is_at(stream: IO[str], path: Path) -> bool:
    """Whether `path` still names the file that `stream` has open."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


class Store:
    """The cache below `root`. `listener` hears of each stage; `stage` is the only way in."""

    def __init__(self, root: Path | None = None, listener: Listener = silent) -> None:
        self.root = (root or default_root()).absolute()
        self.listener = listener
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the cache folder {self.root} cannot be made: {error.strerror}",
                fix=f"point {CACHE_VARIABLE} to a folder that you can write to",
            ) from error

    def find(self, stage: str, key: str) -> Path | None:
        """Folder of a finished stage whose files still have the sizes its manifest states, else None."""
        folder = self.root / stage / key
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            whole = all((folder / name).stat().st_size == entry["bytes"] for name, entry in manifest["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return folder if whole else None

    def stage(
        self,
        stage: str,
        key: str,
        make: Callable[[Path], None],
        *,
        subject: str = "",
        total: int | None = None,
        resumable: bool = False,
        wait: bool = True,
    ) -> Path:
        """The folder of a finished stage: found, or made by `make(part_folder)`.

        `make` writes into the folder it is given. A `resumable` one finds there what a killed run had left; for any other
        the folder is empty. Exceptions of `make` pass through and leave nothing under the stage's name. Raises BusyError
        where another process is at this stage and `wait` is off.
        """
        if found := self.find(stage, key):
            self.listener(StageFinished(stage, subject, 0.0, reused=True, key=key))
            return found
        final = self.root / stage / key
        with lock(
            final.with_name(f"{key}.lock"), self.listener, f"another build's {stage} {subject}".rstrip(), wait=wait
        ):
            if found := self.find(stage, key):
                self.listener(StageFinished(stage, subject, 0.0, reused=True, key=key))
                return found
            part = final.with_name(f"{key}.part")
            if not resumable:
                shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
            part.mkdir(parents=True, exist_ok=True)
            self.listener(StageStarted(stage, subject, total))
            began = time.monotonic()
            make(part)
            seconds = time.monotonic() - began
            for stale in [*part.rglob(".*.tmp*")]:  # what a killed process had begun to write
                _remove(stale)
            files = {
                p.relative_to(part).as_posix(): {"bytes": p.stat().st_size, "sha256": file_sha256(p)}
                for p in sorted(part.rglob("*"))
                if p.is_file() and p.name != MANIFEST
            }
            write_atomic(part / MANIFEST, json.dumps({"stage": stage, "seconds": seconds, "files": files}, indent=1))
            sync_tree(part)
            part.replace(final)
            sync_folder(final.parent)
            self.listener(StageFinished(stage, subject, seconds, reused=False, key=key))
            return final

    def usage(self) -> dict[str, tuple[int, int]]:
        """Finished folders and bytes on disk for each stage, part folders included in the bytes."""
        result = {}
        for stage, keys in self._stages():
            finished = [key for key in keys if (stage / key / MANIFEST).is_file()]
            sizes = [size_bytes(path) for key in keys for path in _of_key(stage, key) if path.is_dir()]
            if sizes:
                result[stage.name] = (len(finished), sum(sizes))
        return result

    def clear(self) -> int:
        """Remove every stage that no build is working on; returns the bytes freed. Touches nothing else in the folder: the
        cache may have been pointed at one that holds other things."""
        return sum(self.drop(folder.name, key) for folder, keys in self._stages() for key in keys)

    def drop(self, stage: str, key: str) -> int:
        """Remove a stage, finished or not, unless a build is working on it; returns the bytes of its files."""
        folder = self.root / stage
        lock_file = folder / f"{key}.lock"
        if not any(path.exists() for path in (lock_file, *_of_key(folder, key))):
            return 0
        with lock_file.open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            kept = [path for path in _of_key(folder, key) if path.is_dir()]
            freed = sum(map(size_bytes, kept))
            for path in kept:
                shutil.rmtree(path)
            lock_file.unlink(missing_ok=True)
        return freed

    def _stages(self) -> Iterator[tuple[Path, list[str]]]:
        """Each stage's folder with the keys that it holds, finished or not."""
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            names = {path.name.split(".")[0] for path in folder.iterdir() if _KEY.fullmatch(path.name)}
            yield folder, sorted(names)


def _of_key(stage: Path, key: str) -> tuple[Path, Path]:
    """The finished folder and the part folder of a key."""
    return stage / key, stage / f"{key}.part"
