"""README and docs are true: commands run, Python compiles, build files load, links lead somewhere.

A fenced block after a comment `<!-- test: skip, WHY -->` is not run, but still read.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from shell import typed

from edgedistill.documents.build_file import load_config
from edgedistill.documents.devices import FILE_VARIABLE, known_devices
from edgedistill.documents.targets import all_targets, load_target, target_names

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/*.md")),
]
IN_THE_SITE = ("reference/command-line.md",)
"""Pages that `make docs` makes from the commands."""
_FENCE = re.compile(
    r"(?P<skip><!-- test: skip[^>]*-->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the line on which it begins."""

    page: Path
    line: int
    language: str
    body: str
    skipped: bool

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text[: found.start("body")].count("\n") + 1, found["language"], found["body"], bool(found["skip"]))
        for found in _FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def of(*languages: str, run: bool = False) -> list[object]:
    """Blocks of these languages; with `run` only those that no comment excludes, and of equal ones the first."""
    chosen = [b for b in BLOCKS if b.language in languages and not (run and b.skipped)]
    first = {block.body: block for block in reversed(chosen)}
    return [pytest.param(block, id=block.name) for block in chosen if not run or first[block.body] is block]


def test_every_block_says_what_it_is() -> None:
    known = {"console", "python", "toml", "json", "text"}
    assert [block.name for block in BLOCKS if block.language not in known] == []
    assert of("console", run=True) and of("python") and of("toml")


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages show the same steps of one build."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run commands in, where `edgedistill` is this checkout's."""
    command = tmp_path / "bin" / "edgedistill"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edgedistill "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(cache_folder))
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.mark.parametrize("block", of("console", run=True))
def test_commands_run(block: Block, folder: Path) -> None:
    commands = [line.removeprefix("$ ") for line in block.body.splitlines() if line.startswith("$ ")]
    assert commands, "a console block without a command"
    for command in commands:
        assert "Traceback" not in typed(command, folder)


@cache
def help_of(*command: str) -> str:
    """What `edgedistill COMMAND --help` prints."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    words = [sys.executable, "-m", "edgedistill", *command, "--help"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("block", of("console"))
def test_commands_and_options_exist(block: Block) -> None:
    """Of skipped blocks too: `edgedistill X --help` knows each command and option that a page names."""
    for line in block.body.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if line.startswith("$ edgedistill ") else []
        if not words:
            continue
        names = [word for word in words[1:3] if re.fullmatch(r"[a-z]+", word)]
        shown = help_of(*names[: 2 if names[0] in ("cache", "devices", "package", "profiles", "targets") else 1])
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{option} of {line}"


@pytest.mark.parametrize("block", of("python"))
def test_python_compiles(block: Block) -> None:
    compile(block.body, block.name, "exec")


def test_python_runs(folder: Path) -> None:
    for block in (block for block in BLOCKS if block.language == "python" and not block.skipped):
        done = subprocess.run(
            [sys.executable, "-c", block.body], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{block.name}\n{done.stderr}"


@pytest.mark.parametrize("block", of("toml"))
def test_toml_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole build files, whole targets, a user's devices, and sections of a build file."""
    path = tmp_path / "block.toml"
    keys = set(re.findall(r"^(\w+) *=", block.body.partition("\n[")[0], re.MULTILINE))
    if {"runtime", "transport"} <= keys:
        path.write_text(block.body)
        load_target(path)
        return
    if re.search(r'^address = "(ssh|adb)://', block.body, re.MULTILINE):
        path.write_text(block.body)
        monkeypatch.setenv(FILE_VARIABLE, str(path))
        assert known_devices()
        return
    head = "" if "budget" in keys else 'budget = "5ms"\n'
    teacher = "" if "[teacher]" in block.body else '\n[teacher]\nmodel = "timm:resnet18"\n'
    path.write_text(head + block.body + teacher)
    config = load_config(path)
    if config.target in target_names():
        load_target(config.target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        if str(linked.relative_to(REPOSITORY)).removeprefix("docs/") in IN_THE_SITE:
            continue
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def test_every_target_and_exit_code_has_its_place() -> None:
    readme, ci = ((REPOSITORY / name).read_text() for name in ("README.md", "docs/how-to/ci.md"))
    here = [target.name for target in all_targets() if target.transport == "local"]
    assert [name for name in here if f"`{name}`" not in readme] == []
    assert "`edgedistill targets` lists them by name" in readme
    assert [code for code in (0, 1, 2, 3, 4, 130) if not re.search(rf"^\| `?{code}\b", ci, re.MULTILINE)] == []
