"""A browser's processes for one session: started without a window and with a profile of their own, watched, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgedistill.devices.agent import agent_machine

LAUNCH = Path(__file__).with_name("launch.py")
FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    # A page that is not in front is not slowed down.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)
# Linux has WebGPU by Vulkan, and behind a flag. Source: https://developer.chrome.com/docs/web-platform/webgpu/troubleshooting-tips
GPU_FLAGS = ("--enable-unsafe-webgpu", "--enable-features=Vulkan") if sys.platform == "linux" else ()
END_S = 5.0


@dataclass(frozen=True)
class Browser:
    """A running browser: the leader of a session of processes of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    @property
    def said(self) -> str:
        """The end of what it wrote to stderr."""
        with suppress(OSError):
            return self.log.read_bytes()[-2000:].decode(errors="replace").strip()
        return ""

    def begin_peak(self) -> None:
        """Count the peak of the pages' memory from now on, where the system can."""
        for process in self._pages():
            with suppress(OSError):
                Path(f"/proc/{process}/clear_refs").write_text("5")

    def memory_bytes(self, field: str) -> int | None:
        """Of the page that holds most: `VmRSS`, what it has now, or `VmHWM`, its peak. None where the system does not
        tell."""
        texts = [agent_machine.read_text(f"/proc/{process}/status") for process in self._pages()]
        found = [line.split() for text in texts for line in text.splitlines() if line.startswith(f"{field}:")]
        return max((int(words[1]) * 1024 for words in found), default=None)

    def _pages(self) -> list[int]:
        """The processes that run pages: those of the type `renderer`."""
        found = []
        for process, _ in _members(self.process.pid):
            with suppress(OSError):
                if b"--type=renderer" in Path(f"/proc/{process}/cmdline").read_bytes():
                    found.append(process)
        return found


@contextmanager
def opened(program: Path, url: str, gpu: bool = False) -> Iterator[Browser]:
    """A browser with the page at `url`, which may have the `gpu`. Its processes and its profile are gone behind it."""
    with tempfile.TemporaryDirectory(prefix="edgedistill-browser-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "stderr"
        # The browser's own sandbox refuses to run as root, as containers often do.
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        profile = Path(folder) / "profile"
        which = GPU_FLAGS if gpu else ("--disable-gpu",)
        browser = [str(program), *FLAGS, *which, *sandbox, f"--user-data-dir={profile}", url]
        command = [sys.executable, "-E", "-P", str(LAUNCH), agent_machine.__file__, str(os.getpid()), *browser]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            yield Browser(process, log)
        finally:
            _end(process)


def _members(session: int) -> list[tuple[int, str]]:
    """The processes of a session and the state of each; none where the system does not list them in /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        fields = agent_machine.read_text(str(folder / "stat")).rpartition(")")[2].split()
        if len(fields) > 3 and fields[3] == str(session):
            found.append((int(folder.name), fields[0]))
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all of its session, and wait until the last one is gone: they write to the profile until then. One that has ended
    is gone, though its parent may take a second to notice (state Z)."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    end = time.monotonic() + END_S
    # One that a debugger or profiler holds is not there to be waited for, though it has ended.
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        members = _members(process.pid)
        if members and all(state in "ZX" for _, state in members):
            return
        time.sleep(0.02)
