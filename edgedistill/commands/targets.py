"""`edgedistill targets new` and `check`: a target file for a device at hand, and what is wrong with target files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import write_atomic
from edgedistill.base.versions import __version__
from edgedistill.devices.attach import remote_device
from edgedistill.devices.local import LocalDevice
from edgedistill.documents.answers import CheckedTarget, TargetsCheck
from edgedistill.documents.devices import device_named
from edgedistill.documents.fields import is_target_path
from edgedistill.documents.specs import CHANNEL_MULTIPLE, Format, Target
from edgedistill.documents.targets import load_target, target_file, target_names
from edgedistill.documents.toml_lines import line_of
from edgedistill.formats import measured_by_agent

FACTS = ("cores", "memory_bytes", "accelerator", "compute_capabilities", "soc", "channel_multiple")
"""What a target states of its device, and not of how it is used: each needs a source."""
_SOURCED = {*FACTS, "runtime", "formats", "precisions", "threads", "machine", "delegate"}


def check_targets(names: Sequence[str] = ()) -> TargetsCheck:
    """Look at the targets of those names or files, all that come with edgedistill unless given: whether each can be read,
    has a source for each fact, and fits together. Raises InputError for an unknown name."""
    unknown = [name for name in names if not is_target_path(name) and name not in target_names()]
    if unknown:
        load_target(unknown[0])
    return TargetsCheck(
        edgedistill_version=__version__, targets=tuple(_checked(name) for name in names or target_names())
    )


def new_target(
    name: str,
    *,
    like: str | Path = "host",
    device: str = "",
    out: Path | str | None = None,
    listener: Listener = silent,
) -> Path:
    """Write a target file for this machine, or for the user's `device` (its name or address), and return its path, which is
    `NAME.toml` unless `out` is given. What is made for it is as for the target `like`; what the device is, it is asked.
    Raises InputError for a name that is none or a file that exists, UnreachableError where the device does not answer."""
    path = Path(out) if out is not None else Path(f"{name}.toml")
    if not name or Path(name).name != name or is_target_path(name):
        raise InputError(f"{name!r} is no name of a target", fix="take a short word: my-board")
    if path.exists():
        raise InputError(f"{path} exists already", fix="take another name, or --out FILE")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} does not exist", fix="make the folder first")
    model = load_target(str(like))
    if model.runtime not in measured_by_agent():
        raise InputError(
            f"{model.name} is measured by {model.runtime}, which needs more than a device can be asked for",
            fix=f"copy its file by hand: {target_file(str(like))}",
        )
    if model.accelerator:
        raise InputError(
            f"{model.name} computes on its {model.accelerator}, and a device is asked for its processor alone",
            fix=f"copy its file by hand: {target_file(str(like))}",
        )
    known = device_named(device) if device else None
    with closing(remote_device(known, listener) if known else LocalDevice(listener)) as found:
        found.connect()
        facts = found.facts()
    write_atomic(path, _text(name, model, facts, known.address.scheme if known else "local"))
    load_target(path.absolute())
    return path


def _text(name: str, like: Target, facts: dict[str, str], transport: str) -> str:
    def listed(values: Sequence[str]) -> str:
        return json.dumps([str(value) for value in values])

    measured = measured_by_agent(facts["system"])
    title = f"{facts['device']} (CPU, {like.runtime})"
    return f"""# {facts["processor"]}, {facts["cpus"]}, {facts["memory"]} of memory, {facts["system"]}
name = {json.dumps(name)}
title = {json.dumps(title, ensure_ascii=False)}
runtime = "{like.runtime}"             # the budget is held against this format
formats = {listed([form for form in like.formats if form in measured])}       # all formats that a build makes
precisions = {listed(like.precisions)}
threads = {like.threads}
transport = "{transport}"
machine = "{facts["machine"]}"
how_to_measure = "edgedistill devices check {"host" if transport == "local" else "NAME"} says what is missing"

# What you know of the device, each with where it comes from:
# cores = [{{ name = "Cortex-A76", count = 4, max_mhz = 2400 }}]
# memory_bytes = 8_589_934_592         # candidates that do not fit are left out
# [sources]
# cores = "https://..."
"""


def _checked(name: str) -> CheckedTarget:
    path = target_file(name)
    try:
        target = load_target(name)
    except InputError as error:
        told = error.problems or (Problem(str(path), error.message, error.fix),)
        return CheckedTarget(name=name, path=str(path), problems=tuple(map(str, told)))
    text = path.read_text(encoding="utf-8-sig")
    found = [
        Problem(f"{path}:{line_of(text, location)}", what, fix)
        for location, what, fix in _problems(target, "" if is_target_path(name) else path.stem)
    ]
    return CheckedTarget(name=target.name, path=str(path), problems=tuple(map(str, found)))


def _problems(target: Target, stem: str) -> Iterator[tuple[list[str | int], str, str]]:
    """Where, what, and the fix. `stem` is its file's name where it is found by that, else empty."""
    if stem and target.name != stem:
        yield ["name"], f"it is called {target.name}, and its file {stem}.toml", "give both the same name"
    for fact in FACTS:
        if _stated(target, fact) and fact not in target.sources:
            yield [fact], f"{fact} has no source", f'add {fact} = "https://..." to [sources], or leave the fact out'
    for fact in target.sources:
        if fact not in _SOURCED:
            yield ["sources", fact], f"{fact} is nothing that a target states of a device", "remove it"
        elif fact in FACTS and not _stated(target, fact):
            yield ["sources", fact], f"there is a source for {fact}, which the target does not state", "state it"
        elif not target.sources[fact].startswith("https://"):
            yield ["sources", fact], f"the source of {fact} is no address", "begin it with https://"
    if target.cores and target.threads > sum(group.count for group in target.cores):
        yield ["threads"], f"{target.threads} threads are more than its cores", "take fewer"
    if Format.TENSORRT in target.formats and not target.compute_capabilities:
        yield ["formats"], "TensorRT needs compute_capabilities", "state those of its GPU: [87] is 8.7"
    if target.transport != "local" and not target.how_to_measure.strip():
        yield ["transport"], "it does not say how it is measured by hand", "add how_to_measure"


def _stated(target: Target, fact: str) -> bool:
    value = getattr(target, fact)
    return bool(value) and not (fact == "channel_multiple" and value == CHANNEL_MULTIPLE)
