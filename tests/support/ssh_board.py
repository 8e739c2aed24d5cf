"""A real sshd on the loopback interface, with keys and a port of its own, as a board that is reached over SSH."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """One of the loopback interface that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Board:
    """Starts in `folder`. `key` opens it, `known_hosts` knows it, `work` is where files are kept on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.user, self.python = folder, free_port(), getpass.getuser(), sys.executable
        self.key, self.known_hosts, self.work = folder / "key", folder / "known_hosts", folder / "work"
        self.work.mkdir()
        for name in ("key", "host"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        host_key = " ".join((folder / "host.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nUsePAM no\nPrintMotd no\n"
            # Its own lock: several boards are one machine here.
            f"SetEnv TMPDIR={folder}\n"
        )
        self.daemon: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def section(self, name: str = "board", **more: str) -> str:
        """What the user's file of devices says of it."""
        told = {
            "address": self.address,
            "key": self.key,
            "known_hosts": self.known_hosts,
            "python": self.python,
            "folder": self.work,
        } | more
        return f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in told.items())

    def start(self) -> None:
        """Start the daemon and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # the package's service would make it
        assert SSHD is not None
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, start_new_session=True
            )
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text())

    def sessions(self) -> list[int]:
        """The daemon's processes for connections, without the programs that run there."""
        assert self.daemon is not None
        found, unseen = [], [self.daemon.pid]
        while unseen:
            parent = unseen.pop()
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            own = [int(one) for one in children if Path(f"/proc/{one}/comm").read_text().startswith("sshd")]
            found += own
            unseen += own
        return found

    def kill(self, *, connections: bool = True) -> None:
        """End the daemon as a crash would, and what serves its connections."""
        if self.daemon is None:
            return
        for process in self.sessions() if connections else ():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def left(self) -> list[Path]:
        """What is kept on it now."""
        return sorted(self.work.iterdir())
