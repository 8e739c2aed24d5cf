"""How hot the machine is, and what holds its clocks back. A part of the agent (see agent.py). Standard library only.

Linux tells it in files, Android in the report of a service, macOS by a program. What a system does not tell is None.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

SYSTEM = Path("/sys")
DUMPSYS = Path("/system/bin/dumpsys")
PMSET = Path("/usr/bin/pmset")
ANSWER_S = 5.0

ANDROID_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""By its number: PowerManager.THERMAL_STATUS_NONE to THERMAL_STATUS_SHUTDOWN."""
PI_FLAGS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of a Raspberry Pi's firmware, which say what is so now; later bits say what was so since the start. Source:
https://www.raspberrypi.com/documentation/computers/os.html#get_throttled"""
SLOWS = re.compile(r"cpufreq|devfreq|^Processor$")
"""Types of Linux' cooling devices that cool by a lower clock; others are fans, radios, chargers."""


def heat(cpu: int) -> dict[str, Any]:
    """Those fields of `Moment` that heat and power decide, for the processor `cpu`."""
    thermal, power = said(DUMPSYS, "thermalservice"), said(DUMPSYS, "battery")
    percent, charging = battery(power)
    return {
        "temperature_c": temperature_c(thermal),
        "clock_limit_mhz": clock_limit_mhz(cpu),
        "throttle": throttle(thermal),
        "battery_percent": percent,
        "charging": charging,
    }


def said(program: Path, *arguments: str) -> str:
    """What a program of the system prints; empty where there is none, or it does not answer."""
    if not program.exists():
        return ""
    try:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, check=False, timeout=ANSWER_S, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def text_of(path: Path) -> str:
    """A small file of the system without blanks; empty if it cannot be read."""
    try:
        return path.read_text().strip("\0 \n")
    except (OSError, UnicodeDecodeError):
        return ""


def temperature_c(thermal: str = "") -> float | None:
    """The hottest of what reads plausibly, in degrees Celsius: of Linux' thermal zones, else of the processors (type 0) in
    the report of Android's thermal service. None where neither can be read."""
    texts = (text_of(zone / "temp") for zone in (SYSTEM / "class/thermal").glob("thermal_zone*"))
    zones = [int(text) / 1000 for text in texts if re.fullmatch(r"\d+", text)]
    processors = [float(value) for value in re.findall(r"mValue=([\d.]+), mType=0,", thermal)]
    return max((degrees for degrees in zones or processors if 0 < degrees < 150), default=None)


def clock_limit_mhz(cpu: int) -> float | None:
    """The highest clock that the system lets `cpu` have now; None where it does not tell."""
    limit_khz = text_of(SYSTEM / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq")
    return int(limit_khz) / 1000 if limit_khz.isdecimal() else None


def throttle(thermal: str = "") -> str | None:
    """What holds the clocks back, in the system's own words, or `none`. None where the system does not tell."""
    if found := re.search(r"^\s*Thermal Status: (\d+)", thermal, re.MULTILINE):
        number = int(found[1])
        return ANDROID_STATUS[number] if number < len(ANDROID_STATUS) else f"status {number}"
    flags = text_of(SYSTEM / "devices/platform/soc/soc:firmware/get_throttled")
    if re.fullmatch(r"(0x)?[0-9a-fA-F]+", flags):
        return ", ".join(name for bit, name in enumerate(PI_FLAGS) if int(flags, 16) >> bit & 1) or "none"
    if sys.platform == "darwin":
        return mac_throttle(said(PMSET, "-g", "therm"))
    return cooling()


def cooling() -> str | None:
    """Linux' cooling devices that lower a clock, as far as one of them does so now; None without any."""
    found = False
    held = []
    for device in sorted((SYSTEM / "class/thermal").glob("cooling_device*")):
        kind, now, most = (text_of(device / name) for name in ("type", "cur_state", "max_state"))
        if SLOWS.search(kind) and now.isdecimal() and most.isdecimal():
            found = True
            held += [f"{kind} at {now} of {most}"] if int(now) else []
    return (", ".join(held) or "none") if found else None


def mac_throttle(therm: str) -> str | None:
    """From `pmset -g therm`: the limit of the clock in percent, which Intel's Macs have. `none` where a limit of 100 is
    recorded, None where nothing is: of Apple's own processors macOS tells no more without root."""
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", therm)
    if limit is None:
        return None
    return "none" if int(limit[1]) >= 100 else f"clock at {limit[1]}%"


def battery(power: str = "") -> tuple[float | None, bool | None]:
    """Its charge in percent and whether it is being charged or kept full; None of a machine without one."""
    if level := re.search(r"^\s*level: (\d+)", power, re.MULTILINE):
        powered = re.findall(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)", power, re.MULTILINE)
        return float(level[1]), "true" in powered if powered else None
    for supply in sorted((SYSTEM / "class/power_supply").glob("*")):
        charge = text_of(supply / "capacity")
        # A mouse or a headset has a battery too: its scope says so.
        if text_of(supply / "type") == "Battery" and text_of(supply / "scope") != "Device" and charge.isdecimal():
            status = text_of(supply / "status")
            return float(charge), {"Charging": True, "Full": True, "Not charging": True, "Discharging": False}.get(
                status
            )
    return None, None
