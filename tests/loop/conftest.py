"""Builds on the null runtime: everything real but the clock, on a small part of the digits.

The builds of this folder share one cache, so that a later one does only what no earlier one did; each has an output
folder of its own, where `stages.jsonl` says what it did itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

import edgedistill as api
from edgedistill.base.progress import Event, Listener, Note, StageFinished
from edgedistill.base.store import file_sha256
from edgedistill.documents.results import BuildResult
from edgedistill.pipeline import build as building
from edgedistill.pipeline import workers
from edgedistill.pipeline.workbench import Result, WorkItem

REPOSITORY = Path(__file__).parents[2]
NULL_TARGET = Path(__file__).with_name("null.toml")
KEY = re.compile(r"[0-9a-f]{64}")

SMALL = """
target = "host"
budget = "{budget}"

[teacher]
model = "timm:resnet10t"
resolution = 16
arguments = {{ channels = [32, 64, 96, 128] }}
fit = {{ epochs = 2, batch_size = 64 }}

[data]
source = "digits"
limit = 320
split = {{ validation = 0.1, test = 0.1 }}

[augmentation]
views = 2

[space]
families = ["mobilenetv4", "resnet"]
widths = [0.25, 0.5]
depths = [0.5]
resolutions = [8, 16]

[search]
probes = 3
candidates = 3
rungs = [1, 2]

[train]
recipe = "kd"
batch_size = 64

[profile]
pause = "1ms"
"""


@dataclass(frozen=True)
class Stage:
    """A line of `stages.jsonl`: a stage that was really done."""

    stage: str
    key: str
    subject: str


@dataclass
class Built:
    """A build in its folder: what it returned and what its listener heard."""

    path: Path
    result: BuildResult
    events: list[Event] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.path.parent / "out"

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    @property
    def reused(self) -> set[str]:
        """Keys of the stages that it found finished."""
        return {event.key for event in self.events if isinstance(event, StageFinished) and event.reused}

    def document(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / "build.json").read_text())
        return content


class InThisProcess:
    """What a worker does, here."""

    def __init__(self, jobs: int, listener: Listener) -> None:
        self.listener = listener

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def run(self, items: Sequence[WorkItem[Any]]) -> Iterator[tuple[int, Result[Any]]]:
        for number, item in enumerate(items):
            yield number, workers.do_apart(item, 1, True, self.listener)


@dataclass(frozen=True)
class Loop:
    """Writes build files and runs them, all with one cache."""

    root: Path
    cache: Path

    few: ClassVar = (
        ('families = ["mobilenetv4", "resnet"]', 'families = ["resnet"]'),
        ("widths = [0.25, 0.5]", "widths = [0.25]"),
        ("candidates = 3", "candidates = 1"),
        ("probes = 3", "probes = 2"),
    )
    """Edits for tests of what comes before students: two of them."""

    def write(self, name: str, budget: str, *edits: tuple[str, str]) -> Path:
        """A build file in a folder of its own, `edits` made to the small one."""
        text = SMALL.format(budget=budget)
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new)
        path = self.root / name / "build.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def build(self, path: Path, target: Path | str = NULL_TARGET, *, apart: bool = False, **options: Any) -> Built:
        """Run the build in this process; without `apart` its labelling and training too, which saves the seconds that a
        worker takes to start."""
        import torch

        events: list[Event] = []
        threads = torch.get_num_threads()
        # Networks this small gain nothing from two threads, and lose much where something else runs beside them.
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEDISTILL_CACHE", str(self.cache))
            if not apart:
                patch.setattr(workers, "Processes", InThisProcess)
            try:
                result = api.build(path, target=target, listener=events.append, **options)
            finally:
                torch.set_num_threads(threads)
        return Built(path, result, events)

    def done(self, path: Path) -> list[Stage]:
        """What the builds of this build file did, in order."""
        log = path.parent / "out" / building.LOG
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [Stage(line["stage"], line["key"], line["subject"]) for line in lines]

    def damaged(self, cache: Path | None = None) -> list[str]:
        """Files of finished stages that are not what their manifest says."""
        found = []
        for folder in (cache or self.cache).glob("*/*/"):
            if not KEY.fullmatch(folder.name):
                continue
            for name, entry in json.loads((folder / "manifest.json").read_text())["files"].items():
                file = folder / name
                if not file.is_file() or file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
                    found.append(str(file))
        return found

    def start(self, *arguments: object, code: str = "", cache: Path | None = None) -> subprocess.Popen[str]:
        """Start the command line as a process of its own, after `code` (Python)."""
        program = f"{code}\nfrom edgedistill.cli.app import main\nmain()"
        environment = os.environ | {
            "EDGEDISTILL_CACHE": str(cache or self.cache),
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests" / "support"))),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", program, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd=self.root
        )

    def run(self, *arguments: object, code: str = "", cache: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments, code=code, cache=cache)
        try:
            stdout, stderr = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    root = tmp_path_factory.mktemp("loop")
    return Loop(root, root / "cache")


@pytest.fixture(scope="session")
def met(loop: Loop) -> Built:
    """A build that meets its budget, a share of the teacher's latency."""
    return loop.build(loop.write("met", "50%"))


@pytest.fixture(autouse=True)
def cache(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(loop.cache))
    return loop.cache
