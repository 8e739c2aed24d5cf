"""`edgedistill.calibrate`: a latency model of a device, from a few measured students."""

from __future__ import annotations

from pathlib import Path

from edgedistill.base.errors import Collected, InputError
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.base.store import Store
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.devices.latency.profile import DeviceProfile
from edgedistill.devices.latency.profiles import own_path
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.build import make_folder


def calibrate(
    target: str | Path = "host",
    *,
    device: str = "",
    models: int = 20,
    families: str = "",
    resolutions: str = "",
    precisions: str = "",
    out: Path | str | None = None,
    listener: Listener = silent,
) -> DeviceProfile:
    """Measure `models` students with random weights on `target`, whose device is `device` (its name in the user's file of
    devices, or its address) unless the target has one, and write what latency models are fitted from to `out`, a
    file in the user's data folder unless given. `families`, `resolutions` and `precisions` are lists with commas; empty
    ones are a build's own families, inputs of 32 to 224 pixels and the target's precisions. A calibration that was stopped
    goes on from the cache.

    Raises InputError for bad input, UnreachableError where the target's device does not answer or nothing measures on it,
    UnsupportedError where no file could be made.
    """
    wrong = Collected()
    with wrong:
        chosen = load_target(str(target))
    with wrong:
        asked = CalibrationRequest.parse(models, families, resolutions, precisions)
    wrong.raise_any()
    path = Path(out).absolute() if out is not None else own_path(chosen, asked.precisions or chosen.precisions)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, not a file to write the profile to", fix=f"--out {path / 'profile.json'}"
        )
    make_folder(path.parent)
    with loading(listener):
        from edgedistill.commands.calibrate_target import calibrate_target

    profile = calibrate_target(chosen, asked, Store(listener=listener), device)
    profile.save(path)
    return profile
