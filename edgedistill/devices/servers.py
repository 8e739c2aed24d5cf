"""What answers on a device: our server in the device's own Python, or the runner in C++ where there is none.

Both come through the channel that they then serve, so that nothing has to be on the device beforehand.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.devices.agent import agent_server
from edgedistill.devices.base import AGENT_FILES
from edgedistill.documents.devices import DeviceConfig

RUNNER_SOURCES = Path(__file__).with_name("runner")
"""The runner's sources, which the user's compiler builds."""
LIBRARIES = {"library": "library.so", "litert": "litert.so"}
"""The libraries of runtimes by their keys in devices.toml and in the runner's jobs, with their names on the device."""
ASKS = b"edgedistill sends the runner\n"
# The server's source comes first on its own input. Reading is unbuffered: what follows is the server's.
_BOOTSTRAP = (
    "import sys;i=open(0,'rb',0,closefd=False);n=int(i.readline());s=b''\n"
    "while len(s)<n:s+=i.read(n-len(s)) or sys.exit('no server came')\n"
    "m={'__name__':'agent_server'};exec(compile(s,'agent_server.py','exec'),m);sys.exit(m['main'](*sys.argv[1:]))"
)


class Server(Protocol):
    """How a server is started and what it needs."""

    @property
    def asks(self) -> bytes:
        """The line with which it asks for `payload`, empty where that may be sent at once."""

    @property
    def files(self) -> Mapping[str, Path]:
        """What it needs for any session, by its name there."""

    @property
    def in_requests(self) -> Mapping[str, Any]:
        """What its requests for sessions and facts have besides."""

    @property
    def fix(self) -> str:
        """What to look at where it does not start."""

    def command(self, folder: str) -> str:
        """What the device's shell is given; `folder` is where the server works, empty for the temporary one there."""

    def payload(self) -> bytes:
        """What is sent before the first request."""

    def require(self, facts: Mapping[str, str], name: str) -> None:
        """Raises MissingDependencyError where the device called `name` lacks what every session needs."""


@dataclass(frozen=True)
class PythonServer:
    """The server in the interpreter `python`. See Server."""

    python: str = "python3"

    @property
    def asks(self) -> bytes:
        return b""

    @property
    def files(self) -> Mapping[str, Path]:
        return {path.name: path for path in AGENT_FILES}

    @property
    def in_requests(self) -> Mapping[str, Any]:
        return {}

    @property
    def fix(self) -> str:
        return (
            f"see that `{self.python} --version` tells 3.8 or newer there; another interpreter is named by `python` in your "
            "devices.toml, and where there is none `runner` names our own program"
        )

    def command(self, folder: str) -> str:
        return " ".join(["exec", shlex.quote(self.python), "-u", "-c", shlex.quote(_BOOTSTRAP), shlex.quote(folder)])

    def payload(self) -> bytes:
        source = Path(agent_server.__file__).read_bytes()
        return b"%d\n%s" % (len(source), source)

    def require(self, facts: Mapping[str, str], name: str) -> None:
        if facts.get("numpy") == "absent":
            raise MissingDependencyError(f"{name} lacks numpy", fix=f"there: {self.python} -m pip install numpy")


@dataclass(frozen=True)
class RunnerServer:
    """The runner at `runner`, a program for the device, with the `library` of ONNX Runtime for it, that of LiteRT
    (`litert`), or both. Raises InputError where one is no file. See Server."""

    runner: Path
    library: Path | None = None
    litert: Path | None = None

    def __post_init__(self) -> None:
        given = {"runner": self.runner, "library": self.library, "litert": self.litert}
        for key, path in given.items():
            if path is not None and not path.is_file():
                raise InputError(f"`{key}` of your devices.toml is no file: {path}", fix="correct the path")

    @property
    def asks(self) -> bytes:
        return ASKS

    @property
    def files(self) -> Mapping[str, Path]:
        given = {"library": self.library, "litert": self.litert}
        return {LIBRARIES[key]: path for key, path in given.items() if path is not None}

    @property
    def in_requests(self) -> Mapping[str, Any]:
        return {key: name for key, name in LIBRARIES.items() if name in self.files}

    @property
    def fix(self) -> str:
        return "see that `runner` in your devices.toml was built for this device: `edgedistill devices runner` says how"

    def command(self, folder: str) -> str:
        # It takes itself into its folder when it runs. `head` takes no more than that many bytes, and nothing more is sent
        # before the runner speaks.
        size = self.runner.stat().st_size
        return (
            f"d={shlex.quote(folder)}; "
            'for f in "$TMPDIR" /data/local/tmp /tmp; do [ -n "$d" ] || { [ -n "$f" ] && [ -w "$f" ] && d="$f"; }; done; '
            f'f="$d/edgedistill-runner-$$"; echo {shlex.quote(ASKS.decode().strip())}; '
            # What does not start, since the disk is full or the machine is another one, leaves nothing. It is tried first: a
            # shell ends where `exec` fails.
            f'head -c {size} > "$f" && chmod 700 "$f" && "$f" starts && exec "$f" serve "$d"; rm -f "$f"'
        )

    def payload(self) -> bytes:
        return self.runner.read_bytes()

    def require(self, facts: Mapping[str, str], name: str) -> None:
        """A runner that serves has all that it needs; a session says whether it can load the library."""


def server_of(config: DeviceConfig) -> Server:
    """The server for a device of the user's."""
    if config.runner is not None:
        return RunnerServer(config.runner, config.library, config.litert)
    return PythonServer(config.python)
