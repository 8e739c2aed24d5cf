"""Packages that bring families of students, installed for one test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgedistill.networks.families.registry import installed

Install = Callable[..., None]


def installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """For a fixture: a function that takes a distribution's name, the code of its one module, whose FAMILY is the family,
    and the names of its entry points. It leaves behind what an installer does: the module with the metadata beside it."""
    modules: list[str] = []

    def install(distribution: str, code: str, *names: str) -> None:
        folder, module = tmp_path / distribution, f"{distribution}_students"
        information = folder / f"{distribution}-1.2.dist-info"
        information.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        points = "".join(f"{name} = {module}:FAMILY\n" for name in names)
        (information / "entry_points.txt").write_text(f"[edgedistill.families]\n{points}")
        monkeypatch.syspath_prepend(str(folder))
        modules.append(module)
        installed.cache_clear()

    yield install
    monkeypatch.undo()
    installed.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)
