"""What heat and power do, from the files and reports of real systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedistill.devices.agent import agent_heat
from edgedistill.documents.measurements import Moment

GALAXY = """IsStatusOverride: false
ThermalEventListeners:
        callbacks: 1
Thermal Status: 0
Cached temperatures:
        Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
        Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
        Temperature{mValue=25.7, mType=5, mName=PA, mStatus=0}
        Temperature{mValue=23.8, mType=2, mName=BAT, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
        Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
"""
"""`dumpsys thermalservice` of a Galaxy A52 with Android 12, shortened. Source: android.stackexchange.com/questions/246774"""

MACBOOK = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2020-11-24 13:10:40 +0100 CPU Power notify
    CPU_Scheduler_Limit     = 100
    CPU_Available_CPUs  = 8
    CPU_Speed_Limit     = 35
"""
"""`pmset -g therm` of a MacBook Pro of 2011. Source: newbetuts.com, question 407192"""

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 83
  scale: 100
"""
"""The fields of `dumpsys battery` as BatteryService.java writes them."""


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(agent_heat, "SYSTEM", tmp_path)
    for name in ("DUMPSYS", "PMSET"):
        monkeypatch.setattr(agent_heat, name, tmp_path / "no program")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def test_a_system_that_tells_nothing(system: Path) -> None:
    found = agent_heat.heat(0)
    assert set(found.values()) == {None}
    assert set(found) < set(Moment.model_fields), "fields of Moment, by their names"


def test_the_hottest_plausible_zone(system: Path) -> None:
    for number, text in enumerate(["41500", "-274000", "0", "63250", "200000", ""]):
        write(system / f"class/thermal/thermal_zone{number}", temp=text)
    assert agent_heat.temperature_c(GALAXY) == 63.25, "the zones come before the service's report"


def test_a_phone_tells_by_its_service(system: Path) -> None:
    assert agent_heat.temperature_c(GALAXY) == 25.6, "of the processor, not of the power amplifier"
    assert agent_heat.throttle(GALAXY) == "none"
    assert agent_heat.throttle(GALAXY.replace("Status: 0", "Status: 3")) == "severe"
    assert agent_heat.throttle(GALAXY.replace("Status: 0", "Status: 9")) == "status 9"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("0", "none"),
        ("0x50000", "none"),
        ("50005", "under-voltage, throttled"),
        ("0xf000a", "frequency capped, soft temperature limit"),
    ],
)
def test_a_raspberry_pi_tells_what_is_so_now(system: Path, flags: str, told: str) -> None:
    write(system / "devices/platform/soc/soc:firmware", get_throttled=flags)
    assert agent_heat.throttle() == told


def test_cooling_devices_that_lower_a_clock(system: Path) -> None:
    thermal = system / "class/thermal"
    write(thermal / "cooling_device0", type="Fan", cur_state="2", max_state="4")
    assert agent_heat.throttle() is None, "a fan slows nothing"
    write(thermal / "cooling_device1", type="thermal-cpufreq-0", cur_state="0", max_state="7")
    write(thermal / "cooling_device2", type="Processor", cur_state="0", max_state="3")
    assert agent_heat.throttle() == "none"
    (thermal / "cooling_device1/cur_state").write_text("3\n")
    write(thermal / "cooling_device3", type="devfreq-17000000.gpu", cur_state="1", max_state="2")
    assert agent_heat.throttle() == "thermal-cpufreq-0 at 3 of 7, devfreq-17000000.gpu at 1 of 2"


def test_a_mac_tells_the_limit_of_its_clock(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_heat.sys, "platform", "darwin")
    answers = {"therm": MACBOOK}
    monkeypatch.setattr(agent_heat, "said", lambda program, *arguments: answers[arguments[-1]])
    assert agent_heat.throttle() == "clock at 35%"
    answers["therm"] = MACBOOK.replace("= 35", "= 100")
    assert agent_heat.throttle() == "none"
    answers["therm"] = "Note: No thermal warning level has been recorded\n"
    assert agent_heat.throttle() is None, "Apple's own processors record nothing there"


def test_the_clock_that_is_allowed_now(system: Path) -> None:
    write(system / "devices/system/cpu/cpu5/cpufreq", scaling_max_freq="1800000")
    assert (agent_heat.clock_limit_mhz(5), agent_heat.clock_limit_mhz(4)) == (1800.0, None)


@pytest.mark.parametrize(
    ("status", "charging"),
    [("Charging", True), ("Full", True), ("Discharging", False), ("Unknown", None)],
)
def test_a_laptops_battery(system: Path, status: str, charging: bool | None) -> None:
    supplies = system / "class/power_supply"
    write(supplies / "AC", type="Mains", online="1")
    write(supplies / "BAT0", type="Battery", capacity="57", status=status)
    write(supplies / "hidpp_battery_0", type="Battery", scope="Device", capacity="5", status="Discharging")
    assert agent_heat.battery() == (57.0, charging)


def test_a_phones_battery(system: Path) -> None:
    assert agent_heat.battery(BATTERY) == (83.0, True)
    assert agent_heat.battery(BATTERY.replace("true", "false")) == (83.0, False)


def test_programs_that_fail_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_heat, "ANSWER_S", 0.2)
    slow, broken = tmp_path / "slow", tmp_path / "broken"
    slow.write_text("#!/bin/sh\nexec sleep 5\n")
    broken.write_text("no program\n")
    slow.chmod(0o755)
    assert [agent_heat.said(path) for path in (slow, broken, tmp_path / "none")] == ["", "", ""]


def test_this_machines_moment_has_all_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.devices.agent import agent

    found: dict[str, Any] = agent.moment([0])
    assert set(found) == set(Moment.model_fields)
    Moment.model_validate(found)
