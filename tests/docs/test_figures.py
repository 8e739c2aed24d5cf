"""README's table of figures is what the committed results give, and sections tell what a result has."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_the_table_is_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "figures.py"), "check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/figures.py write"


def test_pictures_are_told_with_what_default_took_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    figures = import_module("recipe_figures")
    for module in (figures, import_module("sections")):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert figures.pictures() == []

    student = "timm:tf_efficientnet_lite0,0.5,0.5,96"

    def row(recipe: str, points: float, **more: Any) -> dict[str, Any]:
        against = {"against_points": points - 1, "against_half_width_points": 0.5}
        of = {"student": student, "recipe": recipe, "seeds": 5, "test_mean": 0.8 + points / 100}
        return of | {"points": points, "half_width_points": 0.25 if points else 0.0} | against | more

    default = row("default", 0.5, took={"srd": 4, "kd": 1})
    document = {
        "test_share": 0.3,
        "rates": ["auto"],
        "seeds": 5,
        "against": "kd",
        "classes": 9,
        "epochs": 18,
        "train_images": 1100,
        "test_images": 600,
        "teachers": [{"seed": seed, "validation": 0.5, "test": 0.8 + seed / 100} for seed in range(6)],
        "compared": [row("labels", 0.0), default, row("kd", 1.0)],
    }

    def section() -> Any:
        (tmp_path / f"{figures.PICTURES}.json").write_text(json.dumps(document))
        (found,) = figures.pictures()
        return found

    own = section()
    assert own.columns[-1] == "#to `kd`"
    assert own.rows == (
        (f"`{student}`", "`kd`", "81.00%", "+1.00", "+0.75 to +1.25", "-"),
        (
            f"`{student}`",
            "`default` (`srd` 4 of 5, `kd` 1 of 5)",
            "80.50%",
            "+0.50",
            "+0.25 to +0.75",
            "-1.00 to +0.00",
        ),
        (f"`{student}`", "`labels`", "80.00%", "+0.00", "-", "-1.50 to -0.50"),
    )
    assert "In the mean they get 82.00% of the 600 pictures" in own.text, "the sixth seed is not asked for"
    assert "Each seed has its own splits, with 30%" in own.text
    assert own.command.splitlines() == [
        "python examples/clipart/prepare.py",
        f"    python benchmarks/distillation_gain.py examples/clipart/build.toml --students {student} "
        "--recipes labels,default,kd --against kd --test 0.3 --json FILE",
    ]

    default["took"] = {"srd": 5}
    shared = {"seed": None, "validation": 0.5, "test": 0.7}
    document |= {"test_share": None, "against": None, "teachers": [shared]}
    own = section()
    assert [one[1] for one in own.rows] == ["`kd`", "`default` (`srd`)", "`labels`"]
    assert len(own.columns) == len(own.rows[0]) == 5 and "--test" not in own.command
    assert "All seeds share the splits" in own.text and "It gets 70.00%" in own.text
