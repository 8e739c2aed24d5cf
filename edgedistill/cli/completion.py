"""Words for the shell to complete: read from file names, so that a Tab costs no import."""

from __future__ import annotations

from edgedistill.base.packed import packed


def complete_target(incomplete: str) -> list[str]:
    """Names of targets that begin with what was typed."""
    return sorted(path.stem for path in packed("targets").glob("*.toml") if path.stem.startswith(incomplete))
