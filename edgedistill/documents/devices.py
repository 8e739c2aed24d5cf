"""Devices of the user: how each is reached. They are named on the command line, in the environment or in the user's own
file, and never in a target, which is shared."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, RootModel, model_validator

from edgedistill.base.errors import InputError
from edgedistill.documents.build_file import load_toml, validate
from edgedistill.documents.fields import LocalPath
from edgedistill.documents.imported import Program
from edgedistill.documents.specs import Frozen

DEVICE_VARIABLE = "EDGEDISTILL_DEVICE"
"""Names the device where the command line does not."""
FILE_VARIABLE = "EDGEDISTILL_DEVICES"
"""Names the user's file."""
SCHEMES = ("ssh", "adb")
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:%-]*")
_USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*\$?")


class Address(Frozen):
    """Where a device is: `ssh://[USER@]HOST[:PORT]`, or `adb://SERIAL`, whose serial is `HOST:PORT` for a device on the
    network. What an SSH address leaves out comes from `~/.ssh/config`."""

    scheme: Annotated[str, Field(pattern="^(ssh|adb)$")]
    host: str
    port: int | None = None
    user: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises InputError for what is no address, and for one with a password."""
        example = (
            "ssh://pi@board.local, ssh://board:2222 or adb://SERIAL; `edgedistill devices` lists those that answer"
        )
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InputError(f"{text!r} is no address of a device: {error}", fix=f"e.g. {example}") from None
        if parts.password is not None:
            raise InputError(
                "an address holds no password: it would stand in logs",
                fix="use a key or your SSH agent: ssh-copy-id brings a key to a device",
            )
        named = parts.username or ""
        odd = parts.path not in ("", "/") or parts.query or parts.fragment or (named and not _USER.fullmatch(named))
        if parts.scheme not in SCHEMES or odd or not _HOST.fullmatch(host) or (parts.scheme == "adb" and named):
            raise InputError(f"{text!r} is no address of a device", fix=f"e.g. {example}")
        # urlsplit makes a host lower case, which a serial is not.
        if parts.scheme == "adb":
            host = parts.netloc.partition(":")[0] if ":" in parts.netloc else parts.netloc
        return cls(scheme=parts.scheme, host=host, port=port, user=named)

    @property
    def serial(self) -> str:
        """How adb knows the device."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


def _address(text: str) -> str:
    try:
        Address.parse(text)
    except InputError as error:
        raise ValueError(f"{error.message} ({error.fix})") from None
    return text


class DeviceConfig(Frozen):
    """A section of the user's file. `target` is the target whose builds take this device without being asked to. Over SSH:
    `key` is the file of a private key, `known_hosts` one of host keys, in place of those of SSH, and `jump` the host to go
    through (`[USER@]HOST[:PORT]`, several with commas).

    `python` is the interpreter there, which has numpy and the runtime. A device without it has in its place our `runner`,
    a program that was built for it and lies here, and the `library` of ONNX Runtime for it, that of LiteRT (`litert`), or
    both. Where there can be neither, `program` is the path there of a vendor's program, by whose name it is known
    (Program): it serves profiles and proves nothing. `folder` is where files are kept meanwhile, in place of the system's
    temporary folder."""

    address: Annotated[str, AfterValidator(_address)]
    target: str = ""
    key: LocalPath | None = None
    known_hosts: LocalPath | None = None
    jump: str = ""
    python: Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")] = "python3"
    runner: LocalPath | None = None
    library: LocalPath | None = None
    litert: LocalPath | None = None
    program: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")] = ""
    folder: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")] = ""

    @model_validator(mode="after")
    def _whole_runner(self) -> DeviceConfig:
        libraries = self.library is not None or self.litert is not None
        if (self.runner is None) == libraries:
            lacking = "runner" if self.runner is None else "library, or litert,"
            raise ValueError(f"runner and the library of a runtime go together, and {lacking} is missing; add it")
        return self

    @model_validator(mode="after")
    def _known_program(self) -> DeviceConfig:
        if self.program and Program.of_path(self.program) is None:
            known = ", ".join(program for program in Program if program is not Program.KIT)
            raise ValueError(f"{self.program} has the name of no program that is known here ({known}); rename it there")
        if self.program and (self.runner is not None or "python" in self.model_fields_set):
            raise ValueError("program takes the place of python and runner; leave it away where there is one of these")
        return self


class DevicesFile(RootModel[dict[str, DeviceConfig]]):
    """The user's file: a section for each device, of any name."""


class KnownDevice(Frozen):
    """A device with the name that people know it by: its section in the user's file, or its address."""

    name: str
    config: DeviceConfig

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address.parse(self.config.address)

    @classmethod
    def at(cls, address: str) -> KnownDevice:
        """One of which only the address is known. Raises InputError."""
        return cls(name=str(Address.parse(address)), config=DeviceConfig(address=address))


def devices_file() -> Path:
    """The user's file of devices, whether there is one or not."""
    named = os.environ.get(FILE_VARIABLE, "").strip()
    return (
        Path(named).expanduser().absolute() if named else platformdirs.user_config_path("edgedistill") / "devices.toml"
    )


def known_devices() -> tuple[KnownDevice, ...]:
    """Those of the user's file, in its order; none where there is no file. Raises InputError for what is wrong in it."""
    path = devices_file()
    if not path.exists():
        return ()
    content, text = load_toml(path, "your file of devices")
    sections = validate(DevicesFile, content, text, path).root
    return tuple(KnownDevice(name=name, config=config) for name, config in sections.items())


def device_named(name: str, here: Collection[str] = ()) -> KnownDevice:
    """The device of that name in the user's file, or at that address. Raises InputError, which asks whether one of these or
    of `here`, which are no devices of that file, was meant."""
    if "://" in name:
        return KnownDevice.at(name)
    known = {device.name: device for device in known_devices()}
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *here], 1)
        fix = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"no device is called {name!r} in {devices_file()}",
            fix=f"{fix}an address does too, e.g. ssh://pi@board.local or adb://SERIAL; `edgedistill devices` lists them",
        )
    return known[name]


def device_for(target: str, asked: str = "") -> KnownDevice | None:
    """The device that a build for `target` measures on: the one that is asked for, by the command line or else the
    environment, or else the one of the user's file that names the target. None where there is none. Raises InputError for
    one that is not known, and where several name the target."""
    if wanted := asked or os.environ.get(DEVICE_VARIABLE, "").strip():
        return device_named(wanted)
    its = [device for device in known_devices() if device.config.target == target]
    if len(its) > 1:
        names = ", ".join(device.name for device in its)
        raise InputError(
            f"several devices of {devices_file()} are for {target}: {names}", fix=f"choose one: --device {its[0].name}"
        )
    return its[0] if its else None
