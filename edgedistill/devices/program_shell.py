"""A vendor's measuring program on a device, run by the device's shell: the way where there is neither Python nor our runner.

One shell serves one connection. It keeps files in a folder of its own, which goes when it ends, and it ends with its input;
what is left by one that was killed, the next one removes. It takes the lock by which agents and runners there take turns,
where the device has `flock`.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgedistill.base.errors import MissingDependencyError, TrialFailure, UnreachableError, printable
from edgedistill.base.progress import Listener, Note
from edgedistill.devices.channel import PIECE_BYTES, ChannelLostError, Transport, lost_for_good, over_connections
from edgedistill.devices.programs import read_figures
from edgedistill.documents.imported import Figures, Program
from edgedistill.documents.specs import Format

R = TypeVar("R")

ANSWER_S = 30.0
"""For anything but a run of the program."""
RUN_S = 300.0
"""A run of the program is ended after so long, by `timeout` on the device where there is one."""
MIN_SECONDS, MIN_RUNS, WARMUP_RUNS = 2, 50, 10
"""How long a run measures, for programs that can be told so; others do `FIXED_RUNS`."""
FIXED_RUNS = 200
SAID_BYTES = 1 << 20
MODEL = "$m"
"""The model in a program's arguments: a variable of the shell below."""
# What a shell left that was killed goes first. `head` takes no more than its bytes. `wc` and `sha256sum` get the file as
# their input, so that they name none.
_SHELL = """
d={folder}; t=
for f in "$TMPDIR" /data/local/tmp /tmp; do [ -n "$t" ] || {{ [ -n "$f" ] && [ -w "$f" ] && t="$f"; }}; done
d=${{d:-$t}}; w="$d/edgedistill-program-$$"; l="$t/edgedistill-measuring-$(id -u).lock"
for f in "$d"/edgedistill-program-*; do kill -0 "${{f##*-}}" 2>/dev/null || rm -rf "$f"; done
mkdir -m 700 "$w" && cd "$w" || exit 1
trap 'cd /; rm -rf "$w"' EXIT; trap 'exit 1' HUP INT TERM PIPE
limit=; command -v timeout >/dev/null && limit='timeout {seconds}'
echo 'edgedistill ready .'
while read -r what m bytes; do case "$what" in
facts) n=$(getprop ro.product.model 2>/dev/null || tr -d '\\0' </proc/device-tree/model 2>/dev/null)
echo "edgedistill facts $n|$(uname -m)|$(uname -sr)";;
put) head -c "$bytes" >"$m" || {{ echo 'edgedistill put none'; exit 1; }}
echo "edgedistill put $(wc -c <"$m") $(sha256sum <"$m")";;
run) if command -v flock >/dev/null; then exec 9>>"$l"; until flock -n 9; do echo 'edgedistill turn taken'; sleep 1; done; fi
echo 'edgedistill turn own'; $limit {command} </dev/null 2>&1; c=$?
exec 9>&-; echo; echo "edgedistill ended $c";;
*) exit 0;;
esac; done
"""


@dataclass(frozen=True)
class Call:
    """How a program is called: the formats that it takes, and its arguments for so many threads."""

    formats: tuple[Format, ...]
    arguments: Callable[[int], tuple[str, ...]]


CALLS = {
    # Source: tensorflow/lite/tools/benchmark/README.md, and litert/tools/benchmark_litert_model.h, which has its flags.
    Program.BENCHMARK_MODEL: Call(
        (Format.LITERT,),
        lambda threads: (
            f"--graph={MODEL}",
            f"--num_threads={threads}",
            f"--num_runs={MIN_RUNS}",
            f"--min_secs={MIN_SECONDS}",
        ),
    ),
    # Source: litert/python/tools/benchmark_litert_model.py.
    Program.LITERT_BENCHMARK: Call(
        (Format.LITERT,),
        lambda threads: (
            f"--model={MODEL}",
            f"--num_threads={threads}",
            f"--num_runs={FIXED_RUNS}",
            f"--warmup_runs={WARMUP_RUNS}",
        ),
    ),
    # Source: onnxruntime/test/perftest/README.md: -I makes its inputs, -s tells percentiles.
    Program.PERF_TEST: Call(
        (Format.ONNX,),
        lambda threads: ("-I", "-s", "-e", "cpu", "-x", f"{threads}", "-m", "times", "-r", f"{FIXED_RUNS}", MODEL),
    ),
    # Source: TensorRT's samples/trtexec/README.md. Its duration is in seconds, its warm-up in ms.
    Program.TRTEXEC: Call(
        (Format.TENSORRT,), lambda threads: (f"--loadEngine={MODEL}", f"--duration={MIN_SECONDS}", "--warmUp=500")
    ),
}


class ProgramDevice:
    """The program at `path` on the device behind `transport`, with so many threads; `folder` is where files are kept there,
    empty for its temporary folder. The connection is made with the first request."""

    def __init__(self, transport: Transport, path: str, threads: int, listener: Listener, folder: str = "") -> None:
        program = Program.of_path(path)
        assert program is not None  # the user's file of devices takes no other
        self.program, self.name = program, transport.name
        self._path, self._transport, self._listener = path, transport, listener
        words = [shlex.quote(path), *map(_quoted, CALLS[program].arguments(threads))]
        self._script = _SHELL.format(folder=shlex.quote(folder), seconds=int(RUN_S), command=" ".join(words))
        self._shell: _Shell | None = None

    def connect(self) -> None:
        """See that it answers. Raises UnreachableError."""
        self._trying(lambda shell: None)

    def facts(self) -> dict[str, str]:
        """What the device is, and what measures there. Raises UnreachableError."""
        return {**self._trying(_Shell.facts), "agent": self.program}

    def run(self, path: Path) -> Figures:
        """One run of the program with the model at `path`, taken again over a new connection where one is lost. Raises
        UnreachableError where the device is lost for good or has no room, MissingDependencyError where it has no such
        program, TrialFailure where the program fails with this model, InputError where it tells no latency."""
        code, said = self._trying(lambda shell: shell.run(path))
        if code in (126, 127):
            raise MissingDependencyError(
                f"{self.name} cannot start {self._path}: {_end(said)}",
                fix="correct `program` in your devices.toml, and see that it may be executed there",
            )
        if code:
            ended = f"was ended after {RUN_S:.0f} s" if code == 124 else f"ended with exit code {code}"
            raise TrialFailure(
                f"{self.program} {ended}: {_end(said)}", fix="run it by hand there, or try another model"
            )
        return read_figures(said, f"what {self.program} said").model_copy(update={"file": path.name})

    def close(self) -> None:
        """End the connection; nothing of ours stays on the device."""
        if self._shell is not None:
            self._shell.end()
            self._drop()

    def _trying(self, work: Callable[[_Shell], R]) -> R:
        try:
            return over_connections(self.name, self._connected, work, self._drop, self._listener)
        except ChannelLostError as error:
            raise lost_for_good(self.name, error) from error

    def _connected(self) -> _Shell:
        if self._shell is None:
            self._shell = _Shell(self._transport, self._script, self._listener)
        return self._shell

    def _drop(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None


class _Shell:
    """One connection. Raises where it is made as Transport.open does, and all but `end` and `close` raise
    ChannelLostError."""

    def __init__(self, transport: Transport, script: str, listener: Listener) -> None:
        self._name, self._listener = transport.name, listener
        self._kept, self._there = b"", dict[Path, str]()
        self._channel = transport.open(script)
        try:
            self._answer("ready", ANSWER_S)
        except BaseException:
            self.close()
            raise

    def facts(self) -> dict[str, str]:
        """Its model, where the system tells one, its architecture and its system."""
        self._channel.send(b"facts - -\n")
        told = printable(self._answer("facts", ANSWER_S)[0]).split("|")
        if len(told) != 3:
            raise ChannelLostError("its facts are none")
        return {"device": told[0] or "unknown", "machine": told[1], "system": told[2]}

    def run(self, path: Path) -> tuple[int, str]:
        """The program's exit code, and what it said."""
        self._channel.send(f"run {self._put(path)} -\n".encode())
        if self._answer("turn", ANSWER_S)[0] == "taken":
            self._listener(Note(f"waiting for another measurement on {self._name}", once=f"turn on {self._name}"))
            while self._answer("turn", ANSWER_S)[0] == "taken":
                pass
        code, said = self._answer("ended", RUN_S + ANSWER_S)
        return int(code), said

    def end(self) -> None:
        """Have the shell remove what it kept, and wait until it has ended."""
        with suppress(ChannelLostError):
            self._channel.send(b"end - -\n")
            while self._channel.receive(ANSWER_S):
                pass

    def close(self) -> None:
        """End the connection; the shell there ends once it has read its input, or the program's run is over."""
        self._channel.close()

    def _put(self, path: Path) -> str:
        """Bring a file; its name there, which is none of the user's. Raises UnreachableError where there is no room."""
        if path not in self._there:
            name, size, sha256 = f"model-{len(self._there)}{path.suffix.lower()}", path.stat().st_size, hashlib.sha256()
            # A shell that has no room ends while the file is on its way, and has said so before.
            with suppress(ChannelLostError), path.open("rb") as stream:
                self._channel.send(f"put {name} {size}\n".encode())
                while part := stream.read(PIECE_BYTES):
                    sha256.update(part)
                    self._channel.send(part)
            told, said = self._answer("put", ANSWER_S)
            if told.split()[:1] != [str(size)]:
                raise UnreachableError(
                    f"{self._name} has no room for {path.name}: {_end(said)}",
                    fix="free some room there, or name another folder: `folder` in your devices.toml",
                )
            if told.split()[1:2] != [sha256.hexdigest()]:
                raise ChannelLostError("a file arrived damaged, or the device has no sha256sum")
            self._there[path] = name
        return self._there[path]

    def _answer(self, word: str, within_s: float) -> tuple[str, str]:
        """The rest of the next line that begins with `edgedistill WORD`, and all that was said before it. Raises
        ChannelLostError where none comes in time and where more is said than a program prints."""
        end = time.monotonic() + within_s
        said = b""
        while True:
            line, newline, rest = self._kept.partition(b"\n")
            if newline:
                self._kept = rest
                if line.startswith(mark := f"edgedistill {word} ".encode()):
                    return line[len(mark) :].decode("utf-8", "replace").strip(), said.decode("utf-8", "replace")
                said += line + newline
                continue
            if time.monotonic() > end:
                raise ChannelLostError("it gave no answer in time")
            if len(said) + len(self._kept) > SAID_BYTES:
                raise ChannelLostError(f"it said more than {SAID_BYTES >> 20} MiB that is no answer")
            try:
                self._kept += self._channel.receive(1.0)
            except ChannelLostError as error:
                told = _end((said + self._kept).decode("utf-8", "replace"))
                raise ChannelLostError(f"{error}: {told}") from error


def _quoted(argument: str) -> str:
    """For the shell, with the model where MODEL stands."""
    before, model, after = argument.partition(MODEL)
    return "".join((before and shlex.quote(before), model and f'"{model}"', after and shlex.quote(after)))


def _end(said: str) -> str:
    """The last lines of what a program said, as one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return printable(" | ".join(lines[-3:])) or "it said nothing"
