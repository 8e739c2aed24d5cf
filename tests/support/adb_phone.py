"""Debian's real adbd on the loopback interface, as an Android device on the network, with an adb server of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from shared import SHARED
from ssh_board import free_port

ADB = shutil.which("adb")
ADBD = shutil.which("adbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/android-sdk/platform-tools")
PORT = 5555
"""The only one that this adbd listens at."""


def taken() -> bool:
    """Whether something listens at its port already."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
        return True
    return False


@contextmanager
def phone_in(folder: Path) -> Iterator[Phone]:
    """A phone, once no other process of the tests has one, with what says where its adb server is. Skips the test where
    there can be none."""
    if ADB is None or ADBD is None:
        pytest.skip("needs adb and adbd: apt-get install adb adbd")
    with (SHARED / f"edgedistill-adbd-{os.getuid()}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if taken():
            pytest.skip(f"something listens at port {PORT} already")
        phone = Phone(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANDROID_ADB_SERVER_PORT", str(phone.server_port))
            yield phone
        phone.end()


class Phone:
    """Starts with files in `folder`; `work` is where they are kept on it. `server_port` is its adb server's, for
    ANDROID_ADB_SERVER_PORT."""

    address = f"adb://127.0.0.1:{PORT}"

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.server_port, self.python = folder, folder / "work", free_port(), sys.executable
        self.work.mkdir()
        self.daemon: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the daemon and wait until it listens."""
        assert ADBD is not None
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen([ADBD], stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if taken():
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def section(self, name: str = "phone") -> str:
        """What the user's file of devices says of it."""
        return f'[{name}]\naddress = "{self.address}"\npython = "{self.python}"\nfolder = "{self.work}"\n'

    def kill(self) -> None:
        """End the daemon as a crash would."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def end(self) -> None:
        """End it and its adb server."""
        self.kill()
        assert ADB is not None
        subprocess.run([ADB, "-P", str(self.server_port), "kill-server"], capture_output=True, check=False)

    def left(self) -> list[Path]:
        """What is kept on it now."""
        return sorted(self.work.iterdir())
