"""The commands that make a build again, with the real names of its files."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path

from edgedistill.documents.results import BuildResult, LatencyLimit
from edgedistill.documents.specs import Format
from edgedistill.outputs.explain.winner import winning_artifact
from edgedistill.outputs.report.verdict import budget_option

PLACEHOLDER = "BUILD.toml"
"""What stands for a build file that is not found."""


def commands(result: BuildResult, build_file: str) -> str:
    """What to type inside the output folder to make this build again, to take its measurements again, and to measure its
    file by itself where a command does that. `build_file` is the path from there, empty where it is not known."""
    build = _build(result, build_file)
    lines = [build, f"{build} --remeasure"]
    artifact = winning_artifact(result)
    if artifact is not None and artifact.format is Format.ONNX:
        beside = [
            file.path for file in result.teacher.files if result.proof and file.sha256 == result.proof.anchor_sha256
        ]
        in_turn = ("--beside", beside[0]) if beside else ()
        given = result.overrides.get("--target", ())
        target = given[0] if len(given) == 1 else result.target
        lines.append(shlex.join(["edgedistill", "profile", artifact.path, "--target", target, *in_turn]))
    return "\n".join(lines)


def _build(result: BuildResult, build_file: str) -> str:
    """As it was asked for, where that is recorded. The folders of targets that one student serves lie beside one another."""
    limits = [limit for limit in result.constraints if isinstance(limit, LatencyLimit)]
    words = ["edgedistill", "build", build_file or PLACEHOLDER]
    if result.build_file:
        for option, values in result.overrides.items():
            words += [word for value in values for word in (option, value)] or [option]
    else:
        words += _guessed(limits)
    if not result.teacher.files:
        words.append("--no-teacher")
    return shlex.join([*words, "--out", ".." if len(limits) > 1 else "."])


def _guessed(limits: Sequence[LatencyLimit]) -> list[str]:
    """Options that would do: the targets, the budget where it is one, and that one student serves several."""
    budgets = {budget_option(limit.budget) for limit in limits}
    words = [word for limit in limits for word in ("--target", limit.target)]
    if len(budgets) == 1:
        words += ["--budget", budgets.pop()]
    return [*words, "--one-student"] if len(limits) > 1 else words


def find_build_file(out: Path, target: str) -> str:
    """The path from `out` of the one build file in the folder that holds it, which is where a build puts its results unless
    it is told otherwise; of a build for several targets, in the folder above. Empty where there is none or more than one."""
    folder = out.absolute()
    above = (folder.parent, folder.parent.parent) if folder.name == target else (folder.parent,)
    for steps, place in enumerate(above, 1):
        if found := [path for path in sorted(place.glob("*.toml")) if _is_build_file(path)]:
            return "../" * steps + found[0].name if len(found) == 1 else ""
    return ""


def _is_build_file(path: Path) -> bool:
    try:
        return "teacher" in tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
