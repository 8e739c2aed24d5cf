"""Where the data that ships with the package lies."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def packed(name: str) -> Path:
    """The folder of the `targets` or the `profiles`: in a wheel `edgedistill/_targets`, in a checkout `targets/` beside the
    package."""
    inside = _PACKAGE / f"_{name}"
    return inside if inside.is_dir() else _PACKAGE.parent / name
