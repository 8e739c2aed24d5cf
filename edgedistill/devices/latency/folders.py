"""Where device profiles lie, and what belongs to them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from edgedistill.base.packed import packed

PROFILES_VARIABLE = "EDGEDISTILL_PROFILES"


def shipped_folder() -> Path:
    """Where the profiles that come with edgedistill lie."""
    return packed("profiles")


def own_folder() -> Path:
    """`$EDGEDISTILL_PROFILES`, else `profiles` in the user's data folder."""
    named = os.environ.get(PROFILES_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_data_path("edgedistill") / "profiles"


def file_name(text: str) -> str:
    """A target's name, which may be of another's making, as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", text)
