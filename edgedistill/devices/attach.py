"""From a target to the device that it names, where that can be reached."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgedistill.base.errors import UnreachableError
from edgedistill.base.progress import Listener
from edgedistill.devices.base import Device
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.specs import Target

ENTRY_POINTS = "edgedistill.devices"


def attach(target: Target, listener: Listener) -> Device:
    """The target's device, connected. `local` is this machine; for another transport an installed package can provide the
    device through the entry point group `edgedistill.devices`, named after the transport: a callable that takes the Target
    and the listener. Raises UnreachableError for a device that nothing here reaches or that does not answer."""
    device: Device
    if target.transport == "local":
        device = LocalDevice(listener)
    else:
        points = tuple(entry_points(group=ENTRY_POINTS, name=target.transport))
        if not points:
            raise UnreachableError(f"{target.title} is not attached to this machine", fix=target.how_to_measure)
        device = points[0].load()(target, listener)
    device.connect()
    return device
