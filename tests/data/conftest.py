"""A cache of their own for these tests, and small data sets on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))


class ImageFolders:
    """Writes images of random pixels, each different, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rng = np.random.default_rng(0)

    def add(self, *names: str, size: tuple[int, int] = (12, 9)) -> list[Path]:
        paths = [self.root / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = self.rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        return paths

    def add_classes(self, *labels: str, count: int = 10) -> None:
        for label in labels:
            self.add(*(f"{label}/{index:03d}.png" for index in range(count)))


@pytest.fixture
def folders(tmp_path: Path) -> ImageFolders:
    return ImageFolders(tmp_path / "photos")
