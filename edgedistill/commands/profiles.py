"""`edgedistill.profiles`: the device profiles that there are."""

from __future__ import annotations

from edgedistill.devices.latency.profiles import ProfilesResult, list_profiles
from edgedistill.formats import format_for


def profiles() -> ProfilesResult:
    """The device profiles that come with edgedistill and the user's own, and in what this machine differs from those of its
    targets."""
    return list_profiles(lambda form: format_for(form).distribution)
