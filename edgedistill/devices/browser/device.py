"""The browser on this machine as a device."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edgedistill.base.errors import InputError, MissingDependencyError, UnreachableError
from edgedistill.base.progress import Listener, silent
from edgedistill.devices.agent import agent, agent_machine, agent_sampling
from edgedistill.devices.base import EXPORT_AGAIN, SESSION_GRACE_S, SessionFailure, read_report, too_slow
from edgedistill.devices.browser import found
from edgedistill.devices.browser.found import PACKAGE
from edgedistill.devices.browser.process import Browser, opened
from edgedistill.devices.browser.serving import Conversation, served
from edgedistill.devices.session import SessionJob, SessionReport
from edgedistill.devices.turns import measuring
from edgedistill.documents.measurements import Fallbacks

POLL_S = 0.1
# Longer than elsewhere: a browser begins with code that is made quickly, and replaces it by better code as that is compiled,
# beside the runs. Source: https://v8.dev/docs/wasm-compilation-pipeline
WARMUP_S = 2.0
LIMITS = {
    "warmup_s": WARMUP_S,
    "warmup_runs": agent_sampling.WARMUP_RUNS,
    "burst_runs": agent_sampling.BURST_RUNS,
    "hard_limit_factor": agent_sampling.HARD_LIMIT_FACTOR,
    # Whether WebGPU may be an imitation that computes on the CPU.
    "fallback_adapter": False,
}
WEBGPU = "WebGPU"
INSTALL = f"npm install {PACKAGE}@latest"


class BrowserDevice:
    """A page in a browser without a window, a fresh one for each session, which runs ONNX files by onnxruntime-web: on the
    CPU (WebAssembly), with as many threads as the job has, or on the `gpu` (WebGPU), which may leave operations to the CPU.
    `listener` hears when a session waits for another one on this machine. The browser's processes are not pinned: it has
    several, and moves work between them."""

    def __init__(self, listener: Listener = silent, lock_file: Path | None = None, *, gpu: bool = False) -> None:
        self._listener = listener
        self._lock_file = lock_file
        self._gpu = gpu
        self._gpu_name = ""

    def connect(self) -> None:
        """Raises UnreachableError where there is no browser or no onnxruntime-web, or the browser reaches no GPU."""
        try:
            found.browser()
            found.runtime(self._gpu)
        except MissingDependencyError as error:
            raise UnreachableError(error.message, fix=error.fix) from None
        if self._gpu:
            self._adapter()

    def push(self, path: Path) -> Path:
        """The absolute path itself: the page is served the file from here."""
        if not path.exists():
            raise InputError(f"{path} does not exist", fix="check the path")
        return path.absolute()

    def run(self, job: SessionJob) -> SessionReport:
        """One session in a browser of its own. See Device.run. Operators are not timed: the runtime writes their times to
        the console alone."""
        if job.threads > (cpus := len(agent_machine.allowed_cpus())):
            raise InputError(
                f"a session with {job.threads} threads needs as many CPUs; this process may use {cpus}",
                fix=f"set threads = {cpus} in the target",
            )
        installed = found.runtime(self._gpu)
        given = {"model": job.model, "anchor": job.anchor, "inputs": job.inputs}
        watch = _Watch()
        files = {name: path for name, path in given.items() if path is not None}
        limit_s = SESSION_GRACE_S + agent_sampling.HARD_LIMIT_FACTOR * job.seconds
        with measuring(self._listener, self._lock_file):
            document = self._answered(files, job.model_dump(mode="json"), watch, limit_s, f"measuring {job.model.name}")
        computed = f"{WEBGPU} ({document.get('adapter')})" if self._gpu else "WebAssembly"
        where = {
            **agent_machine.describe(()),
            "runtime": PACKAGE,
            "runtime_version": installed.version,
            "provider": f"{computed} in {found.browser_version(found.browser())}",
            "threads": job.threads,
            "agent": "browser",
        }
        report = read_report(_completed(document, watch, where))
        if self._gpu:
            # What the GPU holds is in none of the page's processes.
            nothing = {"peak_memory_bytes": None, "model_memory_bytes": None}
            session = report.session.model_copy(update=nothing)
            fallbacks = _fallbacks(document["operations"], installed.version)
            report = report.model_copy(update={"session": session, "fallbacks": fallbacks})
        return report

    def _answered(
        self, files: dict[str, Path], job: dict[str, Any] | None, watch: _Watch, limit_s: float, what: str
    ) -> dict[str, Any]:
        """What a fresh page answers to a job, or to none. Raises UnreachableError where it reaches no GPU."""
        program = found.browser()
        conversation = Conversation(
            files=files,
            runtime=found.runtime(self._gpu).folder,
            job={"job": job, "limits": LIMITS, "gpu": self._gpu},
            heard=watch.heard,
        )
        with served(conversation) as url, opened(program, url, self._gpu) as page:
            watch.page.set_result(page)
            _wait(conversation, page, limit_s, what)
        document: dict[str, Any] = json.loads(conversation.answer)
        if (error := document.get("error")) and error["kind"] == "gpu":
            raise UnreachableError(
                f"{found.browser_version(program)} reaches no GPU: {error['message']}", fix=error["fix"]
            )
        return document

    def _adapter(self) -> str:
        """The GPU in the browser's words."""
        if not self._gpu_name:
            document = self._answered({}, None, _Watch(), SESSION_GRACE_S, "asking the browser for its GPU")
            self._gpu_name = document["adapter"]
        return self._gpu_name

    def facts(self, runtime: str = "") -> dict[str, str]:
        """Those of this machine, with the browser and its onnxruntime-web."""
        gpu = {"gpu": self._adapter()} if self._gpu else {}
        return {
            **agent_machine.facts(),
            **gpu,
            "agent": "browser",
            "browser": found.browser_version(found.browser()),
            PACKAGE: found.runtime(self._gpu).version,
        }

    def close(self) -> None:
        """Nothing to do: sessions end with their browsers."""


def _fallbacks(told: dict[str, Any] | None, version: str) -> Fallbacks:
    """What the runtime told of its placement, None where it does not. The cast of the image's bytes in front of a graph is
    not counted: older releases leave it to the CPU."""
    if told is None:
        return Fallbacks(by=WEBGPU, unknown=f"{PACKAGE} {version} does not tell")
    elsewhere = Counter(told["elsewhere"]) - Counter(Cast=1)
    return Fallbacks(by=WEBGPU, operations=told["operations"], elsewhere=dict(elsewhere))


class _Watch:
    """What is read beside a session: the page's memory, and the machine before and after its samples."""

    def __init__(self) -> None:
        self.page: Future[Browser] = Future()
        self.read: dict[str, Any] = {}

    def heard(self, phase: str) -> None:
        """The page has come to `phase`, and waits for this to end."""
        page = self.page.result()
        if phase == "ready":
            self.read["before"] = page.memory_bytes("VmRSS")
            page.begin_peak()
        elif phase == "warm":
            self.read["peak"] = page.memory_bytes("VmHWM")
        elif phase in ("start", "end"):
            # The counter of waiting is that of this process, which does not compute.
            self.read[phase] = {**agent.moment(()), "waited_ms": None}


def _wait(conversation: Conversation, page: Browser, limit_s: float, what: str) -> None:
    """Until the page has answered. Raises SessionFailure where it takes too long, or its browser ends."""
    waited_s = 0.0
    while not conversation.done.wait(POLL_S):
        waited_s += POLL_S
        if page.ended is not None:
            said = f": {page.said.splitlines()[-1]}" if page.said else ""
            raise SessionFailure(
                "crashed", f"{what}: the browser ended (exit code {page.ended}){said}", fix=EXPORT_AGAIN
            )
        if waited_s > limit_s:
            raise too_slow(what, limit_s)


def _completed(document: dict[str, Any], watch: _Watch, where: dict[str, Any]) -> str:
    """The page's answer as the agent would give it."""
    if error := document.get("error"):
        if error["kind"] == "page":
            raise RuntimeError(f"the measuring page failed: {error['message']}")
        title = f"{PACKAGE} {where['runtime_version']}"
        fix = error["fix"] or {
            "runtime": INSTALL,
            "load": f"export the model again, or bring a newer runtime: {INSTALL}",
        }.get(error["kind"], agent.FIXES.get(error["kind"], ""))
        # What is wrong with a job is no fault of the runtime.
        message = error["message"] if error["kind"] == "inputs" else f"{title} {error['message']}"
        return json.dumps({"error": {"kind": error["kind"], "message": message, "fix": fix}})
    peak, before = watch.read["peak"], watch.read["before"]
    session = {
        **document["session"],
        "start": watch.read["start"],
        "end": watch.read["end"],
        "peak_memory_bytes": peak,
        "model_memory_bytes": None if peak is None or before is None else max(peak - before, 0),
    }
    return json.dumps({"session": session, "environment": where, "op_timings": []})
