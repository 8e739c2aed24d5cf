"""The sections of what `device_faults.py` and `device_shared.py` found on devices elsewhere."""

from __future__ import annotations

from typing import Any

from sections import RESULTS, Section, result

FAULTS, SHARED = "device_faults", "device_shared"
WHAT = {
    "ssh-connection": "the SSH connection is killed",
    "ssh-daemon": "sshd is killed, and back after 2 s",
    "ssh-down": "sshd is away until the proof has ended",
    "ssh-server": "our server there is killed",
    "ssh-agent": "the measuring process there is killed",
    "ssh-network": "nothing gets through until the proof has ended",
    "adb-daemon": "adbd is killed, and back after 2 s",
    "adb-down": "adbd is away until the proof has ended",
    "adb-server": "our server there is killed",
    "adb-agent": "the measuring process there is killed",
}


def sections() -> list[Section]:
    """One for each result that there is."""
    made = {FAULTS: _faults, SHARED: _shared}
    found: list[Section] = []
    for name, sections_of in made.items():
        if (RESULTS / f"{name}.json").is_file():
            found += sections_of(result(name))
    return found


def _faults(found: dict[str, Any]) -> list[Section]:
    rows = tuple(
        (
            WHAT[kind["kind"]],
            kind["kind"].partition("-")[0].upper(),
            str(len(kind["moments"])),
            str(kind["finished"]),
            str(kind["finished_after_exit_4"]),
            str(kind["all_sessions_once"]),
            str(kind["clean"]),
            f"{kind['median_clean_after_s']:.1f}",
        )
        for kind in found["kinds"]
    )
    return [
        Section(
            "Faults during a proof elsewhere",
            f"A proof of a small file in sessions of {found['session_s']:g} s, over a real sshd and a real adbd on the "
            "loopback interface, disturbed once, at moments spread evenly over it. A proof that cannot go on ends with exit "
            "code 4, and the same command then finishes it. *Whole* are proofs with as many sessions as an undisturbed one "
            "has, none counted twice. *Clean* is after how long nothing of ours was on the device, in files and processes.",
            "python benchmarks/device_faults.py --moments 20 --json FILE",
            ("what happens", "over", "#moments", "#finished", "#after exit 4", "#whole", "#clean", "#clean after (s)"),
            rows,
        )
    ]


def _shared(found: dict[str, Any]) -> list[Section]:
    both = found["together"]
    rows = tuple(
        (
            name,
            ", ".join(f"{seconds:.0f}" for seconds in both[f"{kind}_seconds"]),
            ", ".join(" and ".join(map(str, counts)) for counts in both[f"{kind}_sessions"]),
            f"{both[f'{kind}_p95_ms']:.4f}",
        )
        for kind, name in (("alone", "one build"), ("together", "two at once"))
    )
    heated = tuple(
        (
            "busy" if row["busy"] else "idle",
            f"{row['limit_ms']:.4f}",
            "met" if row["met"] else "not met",
            str(row["sessions"]),
            f"{row['proof_p95_ms']:.4f}",
            f"{row['stranger_inside']} of {row['stranger_sessions']}",
            f"{row['stranger_p95_ms']:.4f}",
        )
        for row in found["heated"]
    )
    return [
        Section(
            "Two builds on one device",
            f"The proof of a small file in sessions of {found['session_s']:g} s over SSH: by one process, and by two at "
            "once with caches of their own. The device lets one session run at a time.",
            "python benchmarks/device_shared.py --json FILE",
            ("", "#wall time (s)", "#sessions", "#median p95 (ms)"),
            rows,
        ),
        Section(
            "A proof beside a busy processor",
            "The same file, while the other processor of the device is idle, or busy without a pause. The limit is what six "
            "sessions before saw at most, and three tenths more. Plain sessions are a loop of ONNX Runtime "
            "beside the same neighbour; the claim of a proof that is met is that 80% of them are inside.",
            "python benchmarks/device_shared.py --json FILE",
            ("other processor", "#limit (ms)", "proof", "#sessions", "#p95 (ms)", "#plain inside", "#their p95 (ms)"),
            heated,
        ),
    ]
