"""`edgedistill devices`: which devices answer, and whether one can be measured on."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from edgedistill.base.errors import EdgedistillError, InputError, MissingDependencyError, UnreachableError
from edgedistill.base.progress import Listener, silent, telling
from edgedistill.base.units import format_ms
from edgedistill.base.versions import __version__
from edgedistill.devices.attach import HERE, program_device, remote_device, require_fitting
from edgedistill.devices.base import Device, run_pushed
from edgedistill.devices.browser import found as browsers
from edgedistill.devices.browser.device import BrowserDevice
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.program_shell import CALLS, ProgramDevice
from edgedistill.devices.programs import NoLatencyError
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import RUNNER_SOURCES
from edgedistill.devices.session import SessionJob, SessionReport
from edgedistill.devices.sessions import require_permitted
from edgedistill.devices.stats import percentile_ms
from edgedistill.documents.answers import DeviceCheck, DeviceList, DeviceStatus, DeviceStep
from edgedistill.documents.devices import KnownDevice, device_named, devices_file, known_devices
from edgedistill.documents.measurements import Moment
from edgedistill.documents.specs import Format, Target
from edgedistill.documents.targets import all_targets, load_target, target_names
from edgedistill.formats import format_for, measured_by_agent

SAMPLE_S = 0.5


def list_devices(*, listener: Listener = silent) -> DeviceList:
    """This machine, the devices of the user's file, and those that adb knows besides, all asked at once what they are. A
    device that does not answer is listed with the reason. Raises InputError for what is wrong in the file."""
    known = list(known_devices())
    unauthorised = []
    for serial, state in _attached():
        if any(device.address.serial == serial for device in known if device.address.scheme == "adb"):
            continue
        device = KnownDevice.at(f"adb://{serial}")
        if state == "device":
            known.append(device)
        else:
            fix = "unlock it and allow debugging from this computer" if state == "unauthorized" else "attach it again"
            unauthorised.append(_status(device, problem=f"adb says: {state}", fix=fix))
    here = DeviceStatus(name="this machine", address="", target="host", answers=True, facts=LocalDevice().facts())
    browser = _browser(listener)
    with telling(listener, "devices", "all that are known"), ThreadPoolExecutor(max(1, len(known))) as pool:
        found = tuple(pool.map(partial(_asked, listener=listener), known))
    return DeviceList(
        edgedistill_version=__version__, file=str(devices_file()), devices=(here, *browser, *found, *unauthorised)
    )


def _browser(listener: Listener) -> tuple[DeviceStatus, ...]:
    """The browser on this machine, where one is installed."""
    try:
        program = browsers.browser()
    except MissingDependencyError:
        return ()
    device = BrowserDevice(listener)
    status = DeviceStatus(name=browsers.browser_version(program), address="", target="browser", answers=True, facts={})
    try:
        device.connect()
    except UnreachableError as error:
        return (status.model_copy(update={"answers": False, "problem": error.message, "fix": error.fix}),)
    return (status.model_copy(update={"facts": device.facts()}),)


def check_device(name: str, *, target: str | Path | None = None, listener: Listener = silent) -> DeviceCheck:
    """Take a session of a small model with each runtime on the device called `name` in the user's file, or at that address
    (a target on this machine by its own name, as `"host"` or `"browser"`), as far as it gets; says what is missing and what
    brings it. `target` is the one that its entry names unless given. Raises InputError for an unknown device or target."""
    here = {found.name: found for found in all_targets() if found.transport in HERE}
    known = None if name in here else device_named(name, here)
    named = str(target) if target is not None else known.config.target if known else name
    wanted = load_target(named) if named else None
    steps: list[DeviceStep] = []
    facts: dict[str, str] = {}
    with closing(
        _elsewhere(known, listener, wanted) if known else HERE[here[name].transport](here[name], listener)
    ) as device:
        try:
            device.connect()
        except EdgedistillError as error:
            steps.append(_failed("reached", error, needed=True))
        else:
            facts = device.facts()
            steps.append(DeviceStep(name="reached", ok=True, needed=True, detail=facts["device"]))
            steps.extend(_fitting(device, wanted))
            if isinstance(device, ProgramDevice):
                steps.extend(_program_tried(device, listener))
            else:
                if wanted is not None and wanted.runtime not in measured_by_agent():
                    steps.append(_not_by_agent(wanted))
                steps.extend(_tried(device, wanted, listener))
    its = [step for step in steps if step.needed]
    runtimes = [step for step in steps if step.name in set(measured_by_agent())]
    return DeviceCheck(
        edgedistill_version=__version__,
        name=name,
        address=str(known.address) if known else "",
        target=wanted.name if wanted else "",
        ready=all(step.ok for step in its) and any(step.ok for step in runtimes),
        facts=facts,
        steps=tuple(steps),
    )


def runner_sources(out: Path | str) -> Path:
    """Copy the runner's sources to the new folder `out`, to be built there for a device that has no Python; returns it.
    Raises InputError where it exists or cannot be made."""
    folder = Path(out)
    if folder.exists():
        raise InputError(f"{folder} exists already", fix="name a new folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder.absolute().parent} does not exist", fix="make the folder first")
    shutil.copytree(RUNNER_SOURCES, folder, ignore=shutil.ignore_patterns("build", "__pycache__"))
    return folder


def _attached() -> tuple[tuple[str, str], ...]:
    from edgedistill.devices.adb import attached

    return attached()


def _status(known: KnownDevice, *, problem: str = "", fix: str = "") -> DeviceStatus:
    """Of a device that does not answer."""
    return DeviceStatus(
        name=known.name,
        address=str(known.address),
        target=known.config.target,
        answers=False,
        facts={},
        problem=problem,
        fix=fix,
    )


def _elsewhere(known: KnownDevice, listener: Listener, target: Target | None = None) -> RemoteDevice | ProgramDevice:
    if known.config.program:
        return program_device(known, listener, target.threads if target else 1)
    return remote_device(known, listener)


def _asked(known: KnownDevice, listener: Listener) -> DeviceStatus:
    try:
        with closing(_elsewhere(known, listener)) as device:
            device.connect()
            answer = {"answers": True, "facts": device.facts(), "fix": _unknown_target(known)}
            return _status(known).model_copy(update=answer)
    except EdgedistillError as error:
        return _status(known, problem=error.message, fix=error.fix)


def _unknown_target(known: KnownDevice) -> str:
    """What to look at where no target that comes with edgedistill has the name that a device is for."""
    name = known.config.target
    if not name or name in target_names():
        return ""
    near = difflib.get_close_matches(name, target_names(), 1)
    asked = f"did you mean {near[0]}? " if near else ""
    return f"{asked}its target {name!r} does not come with edgedistill; only a target file of that name uses it"


def _fitting(device: Device | ProgramDevice, target: Target | None) -> Iterator[DeviceStep]:
    """Whether a device elsewhere is one of the target's."""
    if target is None or not isinstance(device, RemoteDevice | ProgramDevice):
        return
    try:
        require_fitting(target, device)
    except EdgedistillError as error:
        yield _failed("fits the target", error, needed=True)
    else:
        yield DeviceStep(name="fits the target", ok=True, needed=True, detail=f"{target.name}: {target.title}")


def _not_by_agent(target: Target) -> DeviceStep:
    """Of a target whose runtime needs more than the agent."""
    return DeviceStep(
        name=target.runtime,
        ok=False,
        needed=True,
        detail=f"{target.runtime} is not measured from elsewhere",
        fix=f"edgedistill targets show {target.name} says how it is measured",
    )


def _tried(device: Device, target: Target | None, listener: Listener) -> Iterator[DeviceStep]:
    """A session with each runtime, and what the device tells of its state in the first that works."""
    report: SessionReport | None = None
    for form in _loaded_by(device, target):
        needed = target is not None and form is target.runtime
        try:
            with telling(listener, "try", form):
                taken = _session(device, form, target.threads if target else 1)
                if target is not None:
                    require_permitted(taken.fallbacks, f"the sample of {form}", target)
        except EdgedistillError as error:
            yield _failed(form, error, needed=needed)
            if isinstance(error, UnreachableError):
                return
            continue
        p50, where = percentile_ms(taken.session.samples_ns, 0.5), taken.environment
        detail = (
            f"{where.runtime} {where.runtime_version}: {len(taken.session.samples_ns):,} runs, p50 {format_ms(p50)}"
        )
        yield DeviceStep(name=form, ok=True, needed=needed, detail=detail)
        report = report or taken
    if report is not None:
        yield from _state(report)


def _program_tried(device: ProgramDevice, listener: Listener) -> Iterator[DeviceStep]:
    """A run of a vendor's program with the sample of a format that it takes."""
    for form in CALLS[device.program].formats:
        model = format_for(form).sample
        if model is None:
            yield DeviceStep(
                name=form, ok=True, needed=False, detail=f"not tried: {form} files are made for one device each"
            )
            continue
        try:
            with telling(listener, "try", form):
                told = device.run(model)
        except NoLatencyError:
            detail = f"{device.program} runs; the sample takes less time than it prints"
            yield DeviceStep(name=form, ok=True, needed=True, detail=detail)
        except EdgedistillError as error:
            yield _failed(form, error, needed=True)
        else:
            runs, typical_ms = f"{told.runs:,} runs, " if told.runs else "", told.typical_ms
            figure = "p50" if told.p50_ms else "mean"
            detail = f"{device.program}: {runs}{figure} {format_ms(typical_ms) if typical_ms else 'unknown'}"
            yield DeviceStep(name=form, ok=True, needed=True, detail=detail)
    fix = "name `python` or our `runner` in your devices.toml for builds and proofs"
    detail = f"{device.program} serves profiles, and proves no budget"
    yield DeviceStep(name="builds", ok=False, needed=False, detail=detail, fix=fix)


def _loaded_by(device: Device, target: Target | None) -> tuple[Format, ...]:
    """The formats whose files a device can be asked to run: all that the agent loads there, and what the target runs, in a
    browser ONNX alone."""
    if isinstance(device, BrowserDevice):
        return (Format.ONNX,)
    there = {*measured_by_agent(device.facts().get("system")), *([target.runtime] if target else [])}
    return tuple(form for form in measured_by_agent() if form in there)


def _session(device: Device, form: Format, threads: int) -> SessionReport:
    """One of the format's sample, with random inputs."""
    chosen = format_for(form)
    assert chosen.sample is not None
    job = SessionJob(model=chosen.sample, loader=chosen.on_device, threads=threads, seconds=SAMPLE_S)
    return run_pushed(device, job)


def _state(report: SessionReport) -> Iterator[DeviceStep]:
    """What the system tells beside samples; none of it is needed."""
    where, moment = report.environment, report.session.end
    pinned = ", ".join(map(str, where.pinned_cpus))
    told = {
        "pinned": (f"to CPU {pinned}" if pinned else "", "its system pins no processes: sessions differ more"),
        "clock": (f"{moment.clock_mhz:.0f} MHz" if moment and moment.clock_mhz else "", "its system does not tell"),
        "temperature": (
            f"{moment.temperature_c:.0f} degrees Celsius" if moment and moment.temperature_c else "",
            "its system does not tell",
        ),
        "power mode": ("" if where.power == "unknown" else where.power, "its system does not tell"),
        "held back by": ((moment.throttle or "") if moment else "", "its system does not tell"),
        **({"battery": (_battery(moment), "")} if moment and moment.battery_percent is not None else {}),
    }
    for name, (found, otherwise) in told.items():
        yield DeviceStep(name=name, ok=bool(found), needed=False, detail=found or otherwise)


def _battery(moment: Moment) -> str:
    """`80%, charging`."""
    charging = {True: ", charging", False: ", not charging", None: ""}[moment.charging]
    return f"{moment.battery_percent:.0f}%{charging}"


def _failed(name: str, error: EdgedistillError, *, needed: bool) -> DeviceStep:
    return DeviceStep(name=name, ok=False, needed=needed, detail=error.message, fix=error.fix)
