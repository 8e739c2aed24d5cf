"""Device profiles by target: those that come with edgedistill, and the user's own.

Shipped ones lie in a wheel in `edgedistill/_profiles`, in a checkout in `profiles/` beside the package; the user's own in
their data folder, one file for each target and set of precisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedistill.base.errors import InputError
from edgedistill.devices.latency.folders import file_name, own_folder, shipped_folder
from edgedistill.devices.latency.profile import DeviceProfile, LeftOutError
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.specs import Format, Frozen, Precision, Target
from edgedistill.documents.targets import all_targets

NOT_COMPARED = ("cpus", "id", "memory", "system")
"""Facts of a device that do not tell how fast it is. The version of its runtime does."""


@dataclass(frozen=True)
class FoundProfile:
    """A profile, where it lies, and in what the device and target at hand differ from those that it was measured on, each as
    a sentence. Empty: the same, as far as is known."""

    profile: DeviceProfile
    path: Path
    shipped: bool
    differences: tuple[str, ...]


class ListedProfile(Frozen):
    """A profile in the list. `differences` are from what is here; null where the target's device is not this machine, or the
    target is not one that edgedistill knows by name."""

    target: str
    device: str
    runtime: str
    runtime_version: str
    precisions: tuple[Precision, ...]
    rows: int
    errors: tuple[LeftOutError, ...]
    measured_at: str
    path: str
    shipped: bool
    differences: tuple[str, ...] | None


class ProfilesResult(Frozen):
    """What `edgedistill profiles` lists. `problems` are files that are no profiles, each with what is wrong."""

    schema_version: Literal[1] = 1
    profiles: tuple[ListedProfile, ...]
    problems: tuple[str, ...]


def own_path(target: Target, precisions: Sequence[Precision]) -> Path:
    """Where a profile of `target` in these precisions is kept unless the user says otherwise."""
    return own_folder() / f"{file_name(target.name)}.{'-'.join(sorted(precisions))}.json"


def differences(profile: DeviceProfile, target: Target, facts: Mapping[str, str]) -> tuple[str, ...]:
    """In what `target`, and its device with these `facts`, differ from those of the profile. What either side does not know
    is not compared."""
    compared: list[tuple[str, object, object]] = [
        ("runtime", profile.runtime, target.runtime),
        ("threads", profile.threads, target.threads),
        *((name, profile.facts.get(name), now) for name, now in facts.items() if name not in NOT_COMPARED),
    ]
    return tuple(
        f"{what}: measured with {before}, here {now}"
        for what, before, now in compared
        if before != now and None not in (before, now)
    )


def find_profile(target: Target, facts: Mapping[str, str], precisions: Sequence[Precision] = ()) -> FoundProfile | None:
    """The profile to start from for `target` on a device with these `facts` (Device.facts); None where there is none.

    The first is the one with most of the wanted `precisions` (the target's own unless given), then with the fewest
    differences, then the user's own before a shipped one, then the one with more rows. Whether it serves in spite of its
    `differences` is the caller's to decide. Files that cannot be read are left out; `edgedistill profiles` names them.
    """
    wanted = set(precisions or target.precisions)
    profiles, _ = _all_profiles()
    found = [
        FoundProfile(profile, path, shipped, differences(profile, target, facts))
        for profile, path, shipped in profiles
        if profile.target == target.name and wanted & set(profile.precisions)
    ]
    return min(
        found,
        default=None,
        key=lambda f: (
            -len(wanted & set(f.profile.precisions)),
            len(f.differences),
            f.shipped,
            -len(f.profile.rows),
            f.path.name,
        ),
    )


def list_profiles(distribution: Callable[[Format], str]) -> ProfilesResult:
    """All profiles by target, the user's own first, compared with what is here. `distribution` names the runtime of a
    format."""
    profiles, problems = _all_profiles()
    local = {target.name: target for target in all_targets() if target.transport == "local"}
    listed = [
        ListedProfile(
            target=profile.target,
            device=profile.environment.device,
            runtime=profile.environment.runtime,
            runtime_version=profile.environment.runtime_version,
            precisions=profile.precisions,
            rows=len(profile.rows),
            errors=profile.errors,
            measured_at=profile.measured_at,
            path=str(path),
            shipped=shipped,
            differences=differences(profile, local[profile.target], LocalDevice().facts(distribution(profile.runtime)))
            if profile.target in local
            else None,
        )
        for profile, path, shipped in profiles
    ]
    ordered = sorted(listed, key=lambda entry: (entry.target, entry.shipped, entry.path))
    return ProfilesResult(profiles=tuple(ordered), problems=problems)


def _all_profiles() -> tuple[list[tuple[DeviceProfile, Path, bool]], tuple[str, ...]]:
    """Every profile with its path and whether it is shipped, and what is wrong with files that are none."""
    found: list[tuple[DeviceProfile, Path, bool]] = []
    problems: list[str] = []
    for folder, shipped in ((own_folder(), False), (shipped_folder(), True)):
        for path in sorted(folder.glob("*.json")):
            try:
                found.append((DeviceProfile.load(path), path, shipped))
            except InputError as error:
                problems.append(error.message)
    return found, tuple(problems)
