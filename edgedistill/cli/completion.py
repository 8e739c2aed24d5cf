"""Words for the shell to complete: read from file names, so that a Tab costs no import."""

from __future__ import annotations

from pathlib import Path


def complete_target(incomplete: str) -> list[str]:
    """Names of targets that begin with what was typed."""
    package = Path(__file__).parent.parent
    folder = package / "_targets" if (package / "_targets").is_dir() else package.parent / "targets"
    return sorted(path.stem for path in folder.glob("*.toml") if path.stem.startswith(incomplete))
