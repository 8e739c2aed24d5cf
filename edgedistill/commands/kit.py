"""`kit`: a ready project around what a build made, for an app's platform."""

from __future__ import annotations

from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.documents.answers import KitResult
from edgedistill.outputs.kits.kits import KITS, write_kit
from edgedistill.outputs.package.package import PACKAGE, package_folder


def kit(path: Path | str, *, platform: str, out: Path | str | None = None) -> KitResult:
    """Write a project for `platform` around the package in the folder `path`, or in a build's output folder, into the new
    folder `out`; by default `kit-PLATFORM` beside the package. Raises InputError for a platform that has no kit, a folder
    that is no package, one that is damaged, a package without a file for the platform, and an `out` that is there."""
    known = next((one for one in KITS if one == platform), None)
    if known is None:
        raise InputError(f"there is no kit for {platform!r}", fix=f"name one of {', '.join(KITS)}")
    package = package_folder(Path(path))
    beside = package.parent if package.name == PACKAGE else package
    folder = beside / f"kit-{platform}" if out is None else Path(out)
    name = write_kit(package, known, folder)
    return KitResult(platform=known, path=str(folder), file=name, first_steps=KITS[known].first_steps)
