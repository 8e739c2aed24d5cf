"""Builds on the null runtime: everything real but the clock, on a small part of the digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

NULL_TARGET = Path(__file__).with_name("null.toml")

SMALL = """
target = "host"
budget = "{budget}"

[teacher]
model = "timm:resnet10t"
resolution = 16
fit = {{ epochs = 2, batch_size = 64 }}

[data]
source = "digits"
limit = 400

[augmentation]
views = 2

[space]
families = ["mobilenetv4", "resnet"]
widths = [0.25, 0.5]
depths = [0.5, 1.0]
resolutions = [8, 16]

[search]
probes = 4
candidates = 4
rungs = [1, 2]

[profile]
pause = "1ms"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(folder))
    return folder


@pytest.fixture
def build_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the small build file with a budget; returns its path."""

    def write(budget: str) -> Path:
        path = tmp_path / "build.toml"
        path.write_text(SMALL.format(budget=budget))
        return path

    return write
