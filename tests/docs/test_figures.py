"""README's table of figures is what the committed results give, and sections tell what a result has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


Opened = Callable[[str], Any]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A module of benchmarks that writes figures, by name; the results that it reads lie in `tmp_path`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def open_(name: str) -> Any:
        module = import_module(name)
        for one in (module, import_module("sections")):
            monkeypatch.setattr(one, "RESULTS", tmp_path)
        return module

    return open_


def test_the_table_is_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "figures.py"), "check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/figures.py write"


def test_pictures_are_told_with_what_default_took_and_the_command(tmp_path: Path, opened: Opened) -> None:
    figures = opened("recipe_figures")
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
        "rungs": [4, 9, 18],
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
        "--recipes labels,default,kd --against kd --test 0.3 --epochs 4,9,18 --json FILE",
    ]

    default["took"] = {"srd": 5}
    shared = {"seed": None, "validation": 0.5, "test": 0.7}
    document |= {"test_share": None, "against": None, "teachers": [shared]}
    own = section()
    assert [one[1] for one in own.rows] == ["`kd`", "`default` (`srd`)", "`labels`"]
    assert len(own.columns) == len(own.rows[0]) == 5 and "--test" not in own.command
    assert "All seeds share the splits" in own.text and "It gets 70.00%" in own.text

    assert "it is cut from the network" in own.text and "in each seed, of 9 epochs" in own.text

    (tmp_path / f"{figures.OTHERS}.json").write_text(json.dumps(document))
    _, others = figures.pictures()
    assert others.title != own.title and others.rows == own.rows
    assert "--out build/others --classes computer" in others.command and figures.OTHERS_FILE in others.command
    assert (ROOT / figures.OTHERS_FILE).is_file(), "what the command names"
    assert "settled before these pictures" in others.text and "settled with these pictures" in own.text

    student = "timm:tf_efficientnet_lite0,1,1,96"
    document["compared"] = [row("labels", 0.0), row("srd", 1.0)]
    (tmp_path / f"{figures.WHOLE}.json").write_text(json.dumps(document))
    _, whole, _ = figures.pictures()
    assert [one[:2] for one in whole.rows] == [(f"`{student}`", "`srd`"), (f"`{student}`", "`labels`")]
    assert "starts from the ImageNet weights" in whole.text and "is cut from" not in whole.text
    assert "clipart/build.toml" in whole.command and f"--students {student} --recipes labels,srd" in whole.command


def test_vectors_are_told_by_recipe_and_by_file(tmp_path: Path, opened: Opened) -> None:
    figures = opened("embedding_figures")
    assert figures.sections() == []

    def row(recipe: str, seeds: int, knn: float, **more: Any) -> dict[str, Any]:
        return {"recipe": recipe, "seeds": seeds, "knn": knn, "probe": 0.7, "recall": 0.5, **more}

    of_pairs = {
        f"{name}_{what}": 1.0 for name in ("knn", "probe", "recall") for what in ("points", "half_width_points")
    }
    measured = {"bytes": 2_500_000, "cosine_mean": 0.99, "cosine_least": 0.9, "computed_by": "device", "images": 30}
    document = {
        "teacher": "timm:big",
        "dimension": 1280,
        "student": "resnet w1 d1 @96",
        "student_option": "resnet,1,1,96",
        "epochs": 7,
        "train_images": 1400,
        "test_images": 300,
        "classes": 9,
        "compared": [row("teacher", 1, 0.9), row("clip_kd", 2, 0.6), row("vectors", 2, 0.61, **of_pairs)],
        "rows": [
            {"recipe": "teacher", "seed": 0, "cosine": 1.0},
            *(
                {"recipe": name, "seed": seed, "cosine": 0.8 + seed / 10, "recall_validation": 0.5}
                for name in ("clip_kd", "vectors")
                for seed in (0, 1)
            ),
            {"recipe": "onnx int8", "seed": -1, "recall_validation": 0.49, "recall_program": 0.5} | measured,
            {"recipe": "coreml fp32", "seed": -1, "bytes": 10, "not_run": "no macOS", "stand_in_recall": 0.48},
            {"recipe": "litert fp16", "seed": -1, "problem": "no such precision"},
        ],
    }
    (tmp_path / f"{figures.NAME}.json").write_text(json.dumps(document))
    recipes, files = figures.sections()
    assert recipes.rows == (
        ("the teacher itself", "90.0%", "70.0%", "50.0%", "1.000"),
        ("`clip_kd`", "60.0%", "70.0%", "50.0%", "0.850"),
        ("`vectors`", "61.0% (+0.0 to +2.0)", "70.0% (+0.0 to +2.0)", "50.0% (+0.0 to +2.0)", "0.850"),
    )
    built = {
        "status": "met",
        "student": "net w1 @32",
        "precision": "int8",
        "bytes": 1_500_000,
        "metric": "recall@1",
        "quality": 0.48,
        "quality_interval": [0.43, 0.53],
        "p95_ms": 0.3281,
        "budget": "20.0% of the teacher's p95",
        "share": 0.157,
        "sessions": 23,
        "teacher_quality": 0.587,
        "trials": 8,
        "test_images": 312,
    }
    (tmp_path / f"{figures.BUILD}.json").write_text(json.dumps(built))
    *_, last = figures.sections()
    assert last.rows == (("`net w1 @32`, int8", "48.0% (43.0% to 53.0%)", "58.7%", "0.328", "15.7%", "1.50"),)
    assert "met, after 8 trials, by 23 sessions" in last.text
    assert "--student resnet,1,1,96 --recipes clip_kd,vectors --seeds 2" in recipes.command
    assert files.rows == (
        ("`onnx`", "int8", "2.50", "0.99000", "0.90000", "1.00", "device, 30 images"),
        ("`coreml`", "fp32", "0.00", "-", "-", "-", "not run: no macOS; a stand-in for it loses 2.00"),
        ("`litert`", "fp16", "-", "-", "-", "-", "no such precision"),
    )


def test_several_processes_are_told_beside_one(tmp_path: Path, opened: Opened) -> None:
    figures = opened("process_figures")
    assert figures.sections() == []
    settings = {"data": "folder", "images": "2048", "epochs": "4", "student": "resnet,1,1,28", "batch": "128"}
    rows = [
        {
            "recipe": "kd",
            "processes": 2,
            "steps": 64,
            "difference": 0.00123,
            "difference_of_rounding": 0.004,
            "images_per_second": {"1": 1234.5, "2": 1300.0},
        }
    ]
    (tmp_path / f"{figures.NAME}.json").write_text(json.dumps({"settings": settings, "rows": rows}))
    (found,) = figures.sections()
    assert found.rows == (("`kd`", "64", "1.2e-03", "4.0e-03", "1,234", "1,300"),)
    assert found.columns[-1] == "#by 2" and "2,048 images of Fashion-MNIST for 4 epochs" in found.text
    assert found.command == (
        "python benchmarks/processes.py --json FILE --data FASHION_MNIST --images 2048 --epochs 4 --student resnet,1,1,28 "
        "--batch 128"
    )


def test_files_by_hand_are_told_beside_the_builds(tmp_path: Path, opened: Opened) -> None:
    figures = opened("hand_figures")
    assert figures.sections() == []
    trained = {
        "model": "small",
        "weights": "None",
        "resolution": 64,
        "epochs": 5,
        "temperature": 2.0,
        "label_weight": 0.3,
    }
    trained |= {"rows": [{"rate": rate, "seed": seed} for rate, seed in ((0.001, 0), (0.003, 0), (0.003, 1))]}

    def file(name: str, p95_ms: float) -> dict[str, Any]:
        return {
            "file": name,
            "p50_ms": 1.0,
            "p95_ms": p95_ms,
            "validation": 0.5,
            "test": 0.51,
            "build_ahead": 1.5,
            "build_ahead_within": 4.0,
            "sessions_p95_ms": [1.0] * 7,
        }

    assert figures.readme_rows() == []
    stated = {
        "build_states_test": 0.51,
        "build_teacher_test": 0.6,
        "by_hand_teacher_core_seconds": 200,
        "by_hand_core_seconds": 300,
        "build_seconds": 250,
        "build_student": "net w1",
    }
    measured = stated | {"rows": [file("fp32", 3.0), file("int8", 2.0), file("build", 2.5)]}
    for stage, document in ((figures.STUDENT, trained), (figures.MEASURED, measured)):
        (tmp_path / f"{stage}_a.json").write_text(json.dumps(document))
    name = "clip art example: proven student; its teacher; by hand, 20% faster"
    assert figures.readme_rows() == [(name, "51.0%; 60.0%; 51.0%")]
    (own,) = figures.sections()
    assert [row[1] for row in own.rows] == ["its int8", "the build's", "its fp32"]
    assert own.rows[0] == (
        "`small` at 64 px, random weights",
        "its int8",
        "1.000",
        "2.000",
        "50.0%",
        "51.0%",
        "+1.5 (-2.5 to +5.5)",
    )
    assert "`small` 5 min 0 s" in own.text and "both cores of the machine 4 min 10 s; its student is net w1" in own.text
    assert "medians of 7 sessions" in own.text
    assert "--model small --resolution 64 --epochs 5 --rates 0.001,0.003 --seeds 2 --teacher" in own.command


def test_longer_trainings_are_held_against_the_usual_ones_by_pairs(tmp_path: Path, opened: Opened) -> None:
    figures = opened("length_figures")
    assert figures.sections() == []

    def document(epochs: int, tests: list[float]) -> dict[str, Any]:
        own = {"student": "small", "rate": "auto"}
        rows = [own | {"recipe": "kd", "seed": seed, "test": test} for seed, test in enumerate(tests)]
        rows += [own | {"recipe": "labels", "seed": seed, "test": 0.4} for seed in range(2)]
        return {"epochs": epochs, "train_images": 900, "test_share": 0.3, "seeds": len(tests), "rows": rows}

    (tmp_path / "recipes_clip_art.json").write_text(json.dumps(document(20, [0.50, 0.60, 0.70])))
    (tmp_path / "recipes_clip_art_epochs_160.json").write_text(json.dumps(document(160, [0.55])))
    (tmp_path / "recipes_clip_art_epochs_80.json").write_text(json.dumps(document(80, [0.51, 0.63])))
    (own,) = figures.sections()
    assert own.rows == (
        ("`small`", "`kd`", "80", "2", "57.00%", "+2.00", "-10.71 to +14.71", "+17.00", "-59.24 to +93.24"),
        ("`small`", "`labels`", "80", "2", "40.00%", "+0.00", "+0.00 to +0.00", "-", "-"),
        ("`small`", "`kd`", "160", "1", "55.00%", "+5.00", "-", "+15.00", "-"),
        ("`small`", "`labels`", "160", "2", "40.00%", "+0.00", "+0.00 to +0.00", "-", "-"),
    )
    assert "took 20 epochs" in own.text and "--seeds 2 --test 0.3 --epochs N" in own.command

    assert figures.unlabelled() == []
    teachers = [{"seed": seed, "unlabelled_images": 4000 + seed} for seed in range(3)]
    more = document(30, [0.51, 0.63, 0.72]) | {"teachers": teachers}
    more["rows"] = [row for row in more["rows"] if row["recipe"] == "kd"]
    (tmp_path / "recipes_clip_art_unlabelled.json").write_text(json.dumps(more))
    (own,) = figures.unlabelled()
    gain = ("+17.00", "-59.24 to +93.24")
    assert own.rows == (("`small`", "`kd`", "62.00%", *gain, *gain),), "labels have two seeds"
    assert "4,000 to 4,002 pictures" in own.text and "30 epochs of all show 147,030 pictures" in own.text
    assert "160 epochs of those with a label show 144,000" in own.text
    assert "--recipes kd --seeds 3 --test 0.3 --epochs 30" in own.command
