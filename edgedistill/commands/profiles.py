"""`edgedistill profiles`: the device profiles that there are, one of them, and what comes and goes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.base.paths import require_writable
from edgedistill.base.store import digest, file_sha256, write_atomic
from edgedistill.base.versions import __version__
from edgedistill.devices.latency.compared import ProfilesDiff, compared
from edgedistill.devices.latency.folders import file_name, own_folder
from edgedistill.devices.latency.imported import imported_for, imported_path, keep_imported
from edgedistill.devices.latency.profile import DeviceProfile
from edgedistill.devices.latency.profiles import ListedProfile, ProfilesResult, list_profiles
from edgedistill.devices.programs import read_figures
from edgedistill.documents.imported import Figures, ImportedLatency, Program
from edgedistill.documents.package import KitLatency
from edgedistill.documents.problems import first_fault
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.results import BuildResult, ShippedArtifact
from edgedistill.documents.specs import Frozen
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.outputs.explain.build_folder import build_folder, read_build

D = TypeVar("D", bound=Frozen)


class ProfilesShown(Frozen):
    """All that is known of a target's latencies: its device profiles, and what was imported."""

    schema_version: Literal[1] = 1
    target: str
    profiles: tuple[ListedProfile, ...]
    details: tuple[DeviceProfile, ...]
    imported: tuple[ImportedLatency, ...]


class ProfilesBundle(Frozen):
    """What `export` writes for others to import: a target's own device profiles, and what was imported for it. It holds no
    address, and no name of a user."""

    schema_version: Literal[1] = 1
    edgedistill_version: str
    kind: Literal["edgedistill profiles"] = "edgedistill profiles"
    target: str
    profiles: tuple[DeviceProfile, ...]
    imported: tuple[ImportedLatency, ...]


class ImportResult(Frozen):
    """What `import` took: device profiles, each with the file that it was written to, and latencies of files."""

    schema_version: Literal[1] = 1
    target: str
    profiles: tuple[str, ...] = ()
    latencies: tuple[ImportedLatency, ...] = ()
    path: str


def profiles() -> ProfilesResult:
    """The device profiles that come with edgedistill and the user's own, and in what this machine differs from those of its
    targets."""
    return list_profiles(lambda form: format_for(form).distribution)


def show_profiles(target: str) -> ProfilesShown:
    """The device profiles of a target, and what was imported for it. Raises InputError for an unknown target, and where
    there is neither."""
    load_target(target)
    listed = tuple(entry for entry in profiles().profiles if entry.target == target)
    imported = imported_for(target)
    if not listed and not imported:
        raise InputError(
            f"nothing is known of latencies on {target}",
            fix=f"edgedistill calibrate --target {target} measures it, where the device is attached; `edgedistill profiles "
            "import` takes what an app or another program measured",
        )
    details = tuple(DeviceProfile.load(Path(entry.path)) for entry in listed)
    return ProfilesShown(target=target, profiles=listed, details=details, imported=imported)


def export_profiles(target: str, out: Path | str) -> Path:
    """Write a target's own device profiles, and what was imported for it, to the file `out`; returns its path. Raises
    InputError where there is neither, or the file cannot be written."""
    path = Path(out)
    shown = show_profiles(target)
    own = tuple(d for entry, d in zip(shown.profiles, shown.details, strict=True) if not entry.shipped)
    if not own and not shown.imported:
        raise InputError(
            f"the profiles of {target} come with edgedistill: others have them", fix="export one of your own"
        )
    require_writable(path)
    bundle = ProfilesBundle(edgedistill_version=__version__, target=target, profiles=own, imported=shown.imported)
    write_atomic(path, bundle.model_dump_json(indent=1) + "\n")
    return path


def import_profiles(
    path: Path | str, *, build: Path | str | None = None, file: str = "", target: str = ""
) -> ImportResult:
    """Take what was measured elsewhere: a file of `export_profiles` or of `calibrate`, or the latency of a file of the build
    whose output folder is `build`, as an app's kit tells it, a vendor's program prints it, or `profile` has it from one
    (`--json`). `file` names that file of the
    build where the text does not, `target` the target where it is not the build's.

    A device profile serves builds for its target from now on. A latency is evidence for predictions, and never proves a
    budget. Raises InputError for what is none of these, or fits no file of the build."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}", fix="check the path") from None
    document = _json(text)
    if isinstance(document, dict) and document.get("kind") == "edgedistill profiles":
        bundle = _valid(ProfilesBundle, document, source)
        kept = tuple(str(_keep(profile)) for profile in bundle.profiles)
        keep_imported(bundle.imported)
        return ImportResult(
            target=bundle.target, profiles=kept, latencies=bundle.imported, path=str(imported_path(bundle.target))
        )
    if isinstance(document, dict) and "rows" in document:
        profile = _valid(DeviceProfile, document, source)
        return ImportResult(target=profile.target, profiles=(str(_keep(profile)),), path=str(own_folder()))
    origin: KitLatency | ProfileResult | None = None
    if not isinstance(document, dict):
        figures = read_figures(text, source.name)
    elif document.get("by_program"):
        origin = _valid(ProfileResult, document, source)
        figures = _of_profile(origin)
    else:
        origin = _valid(KitLatency, document, source)
        figures = _valid(Figures, _of_kit(origin), source)
    if build is None:
        raise InputError(
            f"{source} is a latency of one file, and it is not known which",
            fix="name the build that the file is of: --build OUT",
        )
    taken = _of_build(figures, Path(build), file, target, origin)
    keep_imported([taken])
    return ImportResult(target=taken.target, latencies=(taken,), path=str(imported_path(taken.target)))


def diff_profiles(before: Path | str, after: Path | str) -> ProfilesDiff:
    """Two device profiles beside each other, each named by its file or by a target that has one. Raises InputError."""
    return compared(_profile_at(before), _profile_at(after), (str(before), str(after)))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _valid(kind: type[D], document: dict[str, Any], source: Path) -> D:
    try:
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise InputError(
            f"{source} is not what this version of edgedistill writes: {first_fault(error)}",
            fix="export it again with the same version of edgedistill",
        ) from None


def _keep(profile: DeviceProfile) -> Path:
    """Write a profile to the user's own, beside those that are there: its name tells its content."""
    content = profile.model_dump_json()
    precisions = "-".join(sorted(profile.precisions))
    path = own_folder() / f"{file_name(profile.target)}.{precisions}.{digest(content)[:12]}.json"
    profile.save(path)
    return path


def _of_kit(kit: KitLatency) -> dict[str, Any]:
    """What a kit tells, as the fields of `Figures`."""
    return {
        "program": Program.KIT,
        "file": kit.file,
        "device": f"{kit.device}, {kit.system}",
        "p50_ms": kit.run_p50_ms,
        "p95_ms": kit.run_p95_ms,
        "load_ms": kit.load_ms,
        "first_run_ms": kit.first_run_ms,
        "picture_to_label_ms": kit.picture_to_label_ms,
        "runs": kit.runs,
    }


def _of_profile(result: ProfileResult) -> Figures:
    """What a vendor's program told `profile`, over all of its runs."""
    found = result.by_program
    assert found is not None
    runs = [figures.runs for figures in found.sessions if figures.runs]
    return Figures(
        program=found.program,
        file=Path(result.path).name,
        load_ms=result.load_ms,
        first_run_ms=result.first_run_ms,
        runs=sum(runs) or None,
        **{f"{name}_ms": told.value_ms for name in ("p50", "p95", "p99", "mean") if (told := getattr(found, name))},
    )


def _of_build(
    figures: Figures, out: Path, file: str, target: str, origin: KitLatency | ProfileResult | None
) -> ImportedLatency:
    """The figures as those of a file of the build in `out`; what they come from tells whether they are of that build."""
    folder = build_folder(out)
    result = read_build(folder)
    if isinstance(origin, KitLatency):
        _require_package(origin, folder)
    artifact = _artifact(result, file or figures.file, folder)
    if isinstance(origin, ProfileResult) and origin.sha256 not in (artifact.sha256, artifact.measured_sha256):
        raise InputError(
            f"{Path(artifact.path).name} of {folder} is another file than {origin.path}, which was measured",
            fix="name the output folder of the build that the measured file is of",
        )
    if result.student is None:
        raise InputError(f"{folder} ships no student", fix="import the latency of a build that ended with a winner")
    wanted = target or result.target
    load_target(wanted)
    return ImportedLatency(
        target=wanted,
        sha256=artifact.sha256,
        precision=artifact.precision,
        multiply_adds=result.student.multiply_adds,
        figures=figures.model_copy(update={"file": Path(artifact.path).name}),
        imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _require_package(kit: KitLatency, folder: Path) -> None:
    sums = folder / "package" / "SHA256SUMS"
    if not sums.is_file() or file_sha256(sums) != kit.sha256_sums:
        raise InputError(
            f"the app that measured has another package than {folder / 'package'}",
            fix="name the output folder of the build whose package is in the app",
        )


def _artifact(result: BuildResult, named: str, folder: Path) -> ShippedArtifact:
    """The file of the build that is called so."""
    by_name = {Path(artifact.path).name: artifact for artifact in result.artifacts}
    if named in by_name:
        return by_name[named]
    has = f"{folder} has {', '.join(by_name) or 'none'}"
    if not named:
        raise InputError(f"the text does not name the file that was measured; {has}", fix="name it: --file NAME")
    raise InputError(f"{folder} has no file {named}", fix=f"name the one that was measured: --file NAME; {has}")


def _profile_at(name: Path | str) -> DeviceProfile:
    """A device profile by its file, or the first one of a target."""
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        return DeviceProfile.load(path)
    shown = show_profiles(str(name))
    if not shown.details:
        raise InputError(f"{name} has no device profile", fix=f"edgedistill calibrate --target {name}")
    return shown.details[0]
