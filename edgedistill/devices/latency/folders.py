"""Where device profiles lie, and what belongs to them."""

from __future__ import annotations

import os
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
