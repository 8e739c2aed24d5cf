"""Which device a target means."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from factories import make_target

from edgedistill.base.errors import ExitCode, UnreachableError
from edgedistill.base.progress import silent
from edgedistill.devices import attach as module
from edgedistill.devices.attach import attach
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.specs import Target

TARGET = make_target(title="A board", how_to_measure="attach it")


class Board:
    """What a third party would provide."""

    def __init__(self, target: Target, listener: Any) -> None:
        self.target = target
        self.connected = False

    def connect(self) -> None:
        self.connected = True


def test_local_is_this_machine() -> None:
    assert isinstance(attach(TARGET, silent), LocalDevice)


@pytest.mark.parametrize(
    ("transport", "name_it"),
    [
        ("ssh", "name your device: --device ssh://pi@board.local; "),
        ("adb", "name your device: --device adb://SERIAL; "),
        ("coremltools", ""),
        ("none", ""),
    ],
)
def test_unattached_device_says_how_to_measure(transport: str, name_it: str) -> None:
    with pytest.raises(
        UnreachableError, match=f"A board is not attached to this machine\nfix: {name_it}attach it"
    ) as caught:
        attach(TARGET.model_copy(update={"transport": transport}), silent)
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_an_installed_package_provides_a_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    point = EntryPoint("ssh", "test_attach:Board", module.ENTRY_POINTS)
    monkeypatch.setattr(module, "entry_points", lambda **wanted: EntryPoints([point]).select(**wanted))
    target = TARGET.model_copy(update={"transport": "ssh"})
    device: Any = attach(target, silent)
    assert type(device).__name__ == "Board"
    assert device.target is target
    assert device.connected
    with pytest.raises(UnreachableError):
        attach(TARGET.model_copy(update={"transport": "adb"}), silent)
