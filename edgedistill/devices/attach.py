"""From a target to the device that it names, where that can be reached."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from edgedistill.base.errors import InputError, UnreachableError
from edgedistill.base.progress import Listener
from edgedistill.devices.base import Device
from edgedistill.devices.browser.device import BrowserDevice
from edgedistill.devices.channel import Transport
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.program_shell import ProgramDevice
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import server_of
from edgedistill.documents.devices import KnownDevice, device_for
from edgedistill.documents.specs import Target

ENTRY_POINTS = "edgedistill.devices"


def _local(target: Target, listener: Listener) -> Device:
    return LocalDevice(listener)


def _browser(target: Target, listener: Listener) -> Device:
    return BrowserDevice(listener, gpu=bool(target.accelerator))


HERE: dict[str, Callable[[Target, Listener], Device]] = {"local": _local, "browser": _browser}
"""Transports to what is on this machine."""
_EXAMPLES = {"ssh": "ssh://pi@board.local", "adb": "adb://SERIAL"}


def attach(target: Target, listener: Listener, device: str = "") -> Device:
    """The target's device, connected. `local` is this machine, `browser` a browser on it. Another one is `device`, by its
    name in the user's file or by its address, else the one of the environment or of the user's file (`device_for`). For a
    transport that is none of ours an installed package can provide the device through the entry point group
    `edgedistill.devices`, named after the transport: a callable that takes the Target and the listener.

    Raises UnreachableError for a device that nothing here reaches or that does not answer, InputError for one that is not
    known or that is no device of the target, MissingDependencyError where it, or this machine, lacks what is needed."""
    found = _device(target, listener, device)
    found.connect()
    if isinstance(found, RemoteDevice):
        require_fitting(target, found)
    return found


def _device(target: Target, listener: Listener, asked: str) -> Device:
    if target.transport in HERE and not asked:
        return HERE[target.transport](target, listener)
    if known := device_for(target.name, asked):
        require_elsewhere(target)
        return remote_device(known, listener)
    provided = tuple(entry_points(group=ENTRY_POINTS, name=target.transport))
    if not provided:
        name_it = f"name your device: --device {_EXAMPLES[target.transport]}; " if target.transport in _EXAMPLES else ""
        raise UnreachableError(unattached(target), fix=f"{name_it}{target.how_to_measure}".strip("; "))
    made: Device = provided[0].load()(target, listener)
    return made


def unattached(target: Target) -> str:
    """Why nothing is measured on a target whose device does not answer, as results say it: without an address."""
    return f"{target.title} is not attached to this machine"


def remote_device(known: KnownDevice, listener: Listener) -> RemoteDevice:
    """The device, not connected yet. Raises UnreachableError where it has a vendor's program alone."""
    if known.config.program:
        raise UnreachableError(
            f"{known.name} has a vendor's program alone, which tells no single runs: it serves `edgedistill profile`, and "
            "proves nothing",
            fix="name `python` or our `runner` in its place in your devices.toml",
        )
    return RemoteDevice(transport_to(known), server_of(known.config), listener, folder=known.config.folder)


def program_device(known: KnownDevice, listener: Listener, threads: int = 1) -> ProgramDevice:
    """The vendor's program on a device of the user's, not connected yet."""
    return ProgramDevice(transport_to(known), known.config.program, threads, listener, known.config.folder)


def transport_to(known: KnownDevice) -> Transport:
    """The way to a device."""
    if known.address.scheme == "ssh":
        from edgedistill.devices.ssh import SshTransport

        return SshTransport(known)
    from edgedistill.devices.adb import AdbTransport

    return AdbTransport(known)


def require_fitting(target: Target, device: RemoteDevice | ProgramDevice) -> None:
    """Raises InputError where a connected device is of another architecture than the target's, or the target has none
    elsewhere."""
    require_elsewhere(target)
    machine = device.facts()["machine"]
    if target.machine is not None and _family(machine) != _family(target.machine):
        raise InputError(
            f"{target.name} is {target.machine}, and {device.name} is {machine}",
            fix=f"name a target for {machine}: `edgedistill targets` lists them, `--target ./my-board.toml` is one of yours",
        )


def require_elsewhere(target: Target) -> None:
    """Raises InputError where no device can be named for a target: it is on this machine, or measured by hand."""
    if target.transport in HERE:
        raise InputError(
            f"{target.name} is on this machine, and is measured without --device",
            fix="name the device's own target: `edgedistill targets` lists them",
        )
    if target.transport == "none":
        raise InputError(
            f"{target.name} is measured by hand, not on a device that is named",
            fix=f"edgedistill targets show {target.name} says how; a target file of yours for a device that answers has "
            'transport = "ssh" or "adb"',
        )


def _family(machine: str) -> str:
    """One word for the architecture, by whichever name a system knows it."""
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine.lower())
