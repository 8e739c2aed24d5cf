"""Google's Python packages for LiteRT: an extra, each imported where it is used, since that takes seconds."""

from __future__ import annotations

import importlib
from typing import Any

from edgedistill.base.errors import MissingDependencyError
from edgedistill.base.quiet import quiet_import

FILE_LIMIT_BYTES = 2**31 - 2**20
"""What the 32-bit offsets of a flatbuffer reach, less what describes the graph."""
_INSTALL = 'pip install "edgedistill[litert]"'


def import_litert(module: str) -> Any:
    """A module of LiteRT's Python packages, imported without its chatter. Raises MissingDependencyError with the line that
    installs it."""
    try:
        with quiet_import():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"):
            raise
        raise MissingDependencyError(f"LiteRT files need {error.name}, which is not installed", fix=_INSTALL) from None
