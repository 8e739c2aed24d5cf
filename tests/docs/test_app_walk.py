"""The commands of docs/tutorials/app.md, as far as they can be run here: on a package that needs no build."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from npm import npm_install
from shell import typed
from small_package import small_package

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "app.md"
_RUN = "<!-- test: skip, run by tests/docs/test_app_walk.py -->\n```console\n"
NEEDS = {"Web": ("npm",), "iOS": ("swift",)}


def walks() -> Iterator[tuple[str, list[str]]]:
    """By heading the commands that this test runs."""
    for part in PAGE.read_text().split("\n## ")[1:]:
        blocks = [block.partition("```")[0] for block in part.split(_RUN)[1:]]
        commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
        if commands:
            yield part.partition("\n")[0], commands


def test_the_page_has_a_walk_for_each_platform() -> None:
    assert [name for name, _ in walks()] == ["Build", "Web", "iOS", "Android", "Python"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished build where the page has it."""
    root = tmp_path_factory.mktemp("repository")
    out = root / "examples" / "clipart" / "out"
    out.mkdir(parents=True)
    small_package(out, coreml=True)
    for name in ("edgedistill", "python"):
        command = root / "bin" / name
        command.parent.mkdir(exist_ok=True)
        own = " -m edgedistill" if name == "edgedistill" else ""
        command.write_text(f'#!/bin/sh\nexec {sys.executable}{own} "$@"\n')
        command.chmod(0o755)
    return root


@pytest.mark.parametrize(
    ("name", "commands"),
    # The kits' own tests run these compilers.
    [pytest.param(*walk, marks=[pytest.mark.slow] if walk[0] in NEEDS else [], id=walk[0]) for walk in walks()],
)
def test_each_command_runs(name: str, commands: list[str], repository: Path) -> None:
    if missing := [tool for tool in NEEDS.get(name, ()) if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    environment = {
        **os.environ,
        "PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    for command in commands:
        if "npm install" in command:
            npm_install(repository / "web")
            continue
        typed(command, repository, environment, timeout_s=600)
    made = re.findall(r"--out (\w+)", commands[0])
    assert all((repository / folder / "README.md").is_file() for folder in made)
