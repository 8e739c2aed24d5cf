"""What the benchmarks that train many students make of their rows, and that a peer's losses are the peer's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats  # type: ignore[import-untyped]
from torch import nn
from torch.nn import functional as F

from edgedistill.distill.recipes.aligners import Link, UnitStatistics
from edgedistill.distill.recipes.logits import correlation, cross_entropy, kl, standardised_kl
from edgedistill.distill.recipes.losses import bound, losses
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.recipes import RECIPES
from edgedistill.documents.targets import load_target
from edgedistill.networks.space import enumerate_space

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of benchmarks/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module


@pytest.fixture
def peer(benchmark_of: Any) -> Iterator[Any]:
    """peer_losses, its losses registered."""
    pytest.importorskip("torchdistill", reason="torchdistill is not installed")
    losses.cache_clear()
    module = benchmark_of("peer_losses")
    module.register()
    yield module
    losses.cache_clear()


def test_rows_are_there_after_a_second_start_and_other_settings_are_refused(benchmark_of: Any, tmp_path: Path) -> None:
    rows = benchmark_of("trainings").Rows
    path = tmp_path / "rows.json"
    first = rows.open(path, ("student", "seed"), {"steps": 30})
    first.add([{"student": "a", "seed": 0, "value": 1}, {"student": "a", "seed": 1, "value": 2}])
    second = rows.open(path, ("student", "seed"), {"steps": 30, "images": None})
    assert second.have("a", 1) and second.have("a") and not second.have("b") and not second.have("a", 2)
    second.add([{"student": "a", "seed": 1, "value": 3}])
    assert [row["value"] for row in json.loads(path.read_text())["rows"]] == [1, 3]
    with pytest.raises(SystemExit, match="rows for steps 30, not 40"):
        rows.open(path, ("student", "seed"), {"steps": 40})


def test_conditions_are_compared_though_labels_were_not_asked_for(benchmark_of: Any) -> None:
    recipes = benchmark_of("recipes")

    def runs(condition: str, gain: float) -> list[dict[str, Any]]:
        tuning = [(rate, 0) for rate in recipes.RATES]
        return [
            {"condition": condition, "rate": rate, "seed": seed, "validation": rate, "test": 0.8 + gain + seed / 100}
            for rate, seed in [*tuning, (recipes.RATES[-1], 1)]
        ]

    half_tuned = runs("dist", 0.5)[:1]
    kd, soft = recipes.compared([*runs("kd", 0.02), *runs("soft", 0.01), *half_tuned], "kd")
    assert (kd["gain_points"], soft["gain_points"], soft["seeds"]) == (None, None, 2)
    assert soft["against_points"] == pytest.approx(-1) and soft["against_half_width_points"] == pytest.approx(0)
    _, base = recipes.compared([*runs("kd", 0.02), *runs("labels", 0.0)], "kd")
    kd, _ = recipes.compared([*runs("kd", 0.02), *runs("labels", 0.0)], "kd")
    assert base["gain_points"] == 0 and kd["gain_points"] == pytest.approx(2)


def test_correlations_of_resamples_are_scipys(benchmark_of: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (6, 12)).astype(float), rng.normal(size=(6, 12))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    ranking = benchmark_of("rank_statistics")
    assert ranking.spearman(a, b) == pytest.approx(expected)
    assert ranking.spearman(np.ones((1, 5)), b[:1, :5]) == 0, "nothing is ranked"
    found = ranking.recalls(np.arange(20.0), np.arange(20.0))
    assert found == {"best_in_half": 10, "best_in_third": 7}


def test_students_are_drawn_from_all_families_and_sizes(benchmark_of: Any) -> None:
    config = SpaceConfig(families=("mobileone", "resnet"), resolutions=(16,), depths=(0.5, 1.0))
    space = enumerate_space(config, 10, 28, load_target("host")).candidates
    few = [c for c in space if c.spec.family == "resnet"][:3]
    many = [c for c in space if c.spec.family == "mobileone"]
    drawn = benchmark_of("rungs").draw([*few, *many], 11, 0)
    assert len({c.spec for c in drawn}) == 11
    assert [c.spec.family for c in drawn].count("resnet") == 3, "all that there are"
    sizes = sorted(c.multiply_adds for c in many)
    own = [c.multiply_adds for c in drawn if c.spec.family == "mobileone"]
    assert own == sorted(own) and own[0] in sizes[:3] and own[-1] in sizes[-3:]


def test_the_best_rate_is_the_top_of_a_parabola_inside_the_rates(benchmark_of: Any) -> None:
    rates = benchmark_of("rates")
    grid = (0.001, 0.002, 0.004, 0.008, 0.016)

    def qualities(top: float) -> dict[float, float | None]:
        return {rate: float(1 - np.exp(-(2 - 0.1 * np.log2(rate / top) ** 2))) for rate in grid}

    assert rates.optimum(qualities(0.003)) == pytest.approx(0.003)
    assert rates.optimum(qualities(0.1)) == pytest.approx(0.016), "none outside is told"
    assert rates.optimum(qualities(0.003) | {0.016: None}) == pytest.approx(0.003), "one that failed"
    assert rates.optimum(dict.fromkeys(grid)) is None

    rows = [
        {"family": "vit", "student": "a", "rate": rate, "seed": seed, "validation": value}
        for seed in (0, 1)
        for rate, value in qualities(0.002).items()
    ]
    (row,) = rates.compared(rows)
    lost = 100 * (qualities(0.002)[0.002] - qualities(0.002)[0.004])  # type: ignore[operator]
    assert (row["best"], row["pairs"], row["failed"]) == (0.002, 2, 0)
    assert row["loss"]["points"] == pytest.approx(lost) == row["loss_held_out"]["points"]


def test_the_peers_losses_are_as_they_are_said_to_be(peer: Any) -> None:
    """With labels and without: each is what its configuration makes of losses that we have too."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 32, 5, generator=generator)
    labels = F.one_hot(torch.randint(0, 5, (32,), generator=generator), 5).float()
    distilled = {
        "kd": (0.5, 0.5 * kl(student, teacher, temperature=1.0)),
        "kd_cifar": (0.9, 0.1 * kl(student, teacher, temperature=4.0)),
        "logit_std": (0.5, 9 * standardised_kl(student, teacher, temperature=2.0)),
        "dist": (1.0, 2 * correlation(student, teacher)),
        "srd": (1.0, kl(student, teacher, temperature=1.0)),
    }
    for name, (weight, expected) in distilled.items():
        function = losses()[f"{peer.PREFIX}{name}"].function
        torch.testing.assert_close(
            function(student, teacher, labels), expected + weight * cross_entropy(student, labels)
        )
        few = labels * (torch.arange(32) < 3).float()[:, None]
        torch.testing.assert_close(function(student, teacher, few), expected + weight * cross_entropy(student, few))
        torch.testing.assert_close(function(student, teacher, torch.zeros_like(labels)), expected)
        bound(peer.terms_of(f"{peer.PREFIX}{name}"))


def test_two_terms_of_srd_are_the_peers_whole(peer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 32, 5, generator=generator)
    features, others = torch.randn(32, 16, generator=generator), 3 * torch.randn(32, 24, generator=generator) + 1
    classes = torch.randint(0, 5, (32,), generator=generator)
    linear = nn.Linear(16, 24)
    norms = [nn.BatchNorm1d(24, eps=1e-4, affine=False) for _ in range(2)]
    places = ["norm_layer", "output", "norm_layer", "output", ".", "output", ".", "output"]
    whole = import_module("torchdistill.losses.mid_level").SRDLoss(*places, exponent=4.0, temperature=1.0)
    expected = whole(
        {"norm_layer": {"output": norms[0](linear(features))}, ".": {"output": student}},
        {"norm_layer": {"output": norms[1](others)}, ".": {"output": teacher}},
    )
    found = losses()["torchdistill_srd"].function(student, teacher, F.one_hot(classes, 5).float())
    found = found + losses()[peer.SRD_FEATURES].function(features @ linear.weight.T, others)
    torch.testing.assert_close(found, expected + F.cross_entropy(student, classes))
    ours = bound(RECIPES["srd"].terms)
    link = Link(ours.terms[2].config, 16, UnitStatistics.of(others.numpy(), classes.numpy()))
    link.projection = nn.Linear(16, 24, bias=False)
    link.projection.weight = linear.weight
    labels = F.one_hot(classes, 5).float()
    of_logits = sum(term.of(student, labels, teacher) for term in ours.terms[:2])
    of_features = ours.terms[2].of(link.student(features), labels, link.teacher(others))
    torch.testing.assert_close(
        of_logits + of_features + 2 * math.log(others.numel()), expected + F.cross_entropy(student, classes)
    )


@pytest.mark.slow
def test_recipes_are_paired_by_seed_on_splits_of_their_own(
    benchmark_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each seed has its own teacher, `default` is a row, and a second start does what is missing alone."""
    gain, build, found = benchmark_of("distillation_gain"), tmp_path / "build.toml", tmp_path / "gain.json"
    build.write_text(
        'budget = "20%"\n[teacher]\nmodel = "timm:test_efficientnet"\nresolution = 16\nfit = { epochs = 1 }\n'
        '[data]\nsource = "digits"\nlimit = 60\n[space]\nresolutions = [16]\n[augmentation]\nviews = 1\n'
        "[search]\nrungs = [1, 2]\n"
    )
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))

    def start(*options: str) -> dict[str, Any]:
        command = ["gain.py", str(build), "--students", "resnet,0.125,0.5,8", "--json", str(found), *options]
        monkeypatch.setattr("sys.argv", command)
        assert gain.main() == 0
        document: dict[str, Any] = json.loads(found.read_text())
        return document

    own = ("--test", "0.5", "--seeds", "2")
    first = start("--recipes", "labels,default", *own)
    assert {(row["recipe"], row["seed"]) for row in first["rows"]} == {
        (r, s) for r in ("labels", "default") for s in (0, 1)
    }
    assert [row["seed"] for row in first["teachers"]] == [0, 1] and first["test_images"] == 898
    labels, default = first["compared"]
    assert (labels["points"], labels["validation_points"], labels["seeds"]) == (0, 0, 2)
    took = [row["took"] for row in first["rows"] if row["recipe"] == "default"]
    assert sum(default["took"].values()) == 2 and set(default["took"]) == set(took)
    by = {(row["recipe"], row["seed"]): row["test"] for row in first["rows"]}
    gained = [100 * (by["default", seed] - by["labels", seed]) for seed in (0, 1)]
    assert default["points"] == pytest.approx(sum(gained) / 2)

    capfd.readouterr()
    more = start("--recipes", "labels,default,kd", "--against", "default", *own)
    assert more["rows"][:4] == first["rows"] and [row["recipe"] for row in more["rows"][4:]] == ["kd", "kd"]
    assert "to epoch" not in capfd.readouterr().err, "the pilots trained it"
    assert more["compared"][1]["against_points"] == 0
    with pytest.raises(SystemExit, match=r"test_share 0\.5, not None"):
        start("--recipes", "labels")
    with pytest.raises(SystemExit, match="epochs 2, not 3"):
        start("--recipes", "labels,srd", "--epochs", "3", *own)
    with pytest.raises(SystemExit, match=r"rungs \[1, 2\], not \[2\]"):
        start("--recipes", "labels,srd", "--epochs", "2", *own)


def test_by_hand_trains_a_teacher_and_a_student_and_measures_its_files(
    benchmark_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm.task", reason="this timm has no tasks")
    by_hand = benchmark_of("by_hand")
    for number in range(40):
        path = tmp_path / "pictures" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (40 + number, 50), (40 + 170 * (number % 2),) * 3 + (255,)).save(path)
    build = tmp_path / "build.toml"
    build.write_text(
        'budget = "20%"\n[teacher]\nmodel = "timm:test_efficientnet"\nresolution = 32\nfit = { epochs = 6 }\n'
        '[data]\nsource = "folder"\npath = "pictures"\n'
    )
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    # measure stays on one processor: not so the tests that follow.
    monkeypatch.setattr("os.sched_setaffinity", lambda process, processors: None, raising=False)

    def run(stage: str, *options: str) -> list[dict[str, Any]]:
        made = tmp_path / f"{stage}.json"
        monkeypatch.setattr("sys.argv", ["by_hand.py", stage, str(build), "--json", str(made), *options])
        by_hand.main()
        rows: list[dict[str, Any]] = json.loads(made.read_text())["rows"]
        return rows

    lead = by_hand.lead(torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False]))
    assert lead == {"build_ahead": 25.0, "build_ahead_within": pytest.approx(49.0)}, (
        "one of four, whose spread is 50 points"
    )
    small = ("--model", "test_efficientnet", "--resolution", "32", "--batch", "8", "--ema", "0.5")
    with pytest.raises(SystemExit, match="has no rows"):
        run("measure", "--student", str(tmp_path / "student.json"))
    taught = run("teacher", *small, "--epochs", "6", "--rates", "1e-3,1e-2", "--seeds", "2")
    assert len(taught) == 3 and max(row["validation"] for row in taught) == 1
    assert {row["images_seen"] for row in taught} == {6 * 24}, "of 28 images three batches of 8"
    own = run("fit", "--seeds", "2")
    assert [row["seed"] for row in own] == [0, 1] and max(row["validation"] for row in own) == 1
    trained = ("--teacher", str(tmp_path / "teacher.json"), "--epochs", "2", "--rates", "1e-2", "--seeds", "1")
    trained += ("--resolution", "24")  # smaller than the teacher's: the student is shown smaller copies
    (student,) = run("student", *small, *trained)
    capsys.readouterr()
    assert run("student", *small, *trained) == [student]
    assert "epoch" not in capsys.readouterr().err, "nothing is trained again"
    measured = run("measure", "--student", str(tmp_path / "student.json"), "--sessions", "1", "--seconds", "0.1")
    fp32, int8 = measured
    assert (fp32["test"], fp32["validation"]) == (student["test"], student["validation"])
    assert [row["file"] for row in measured] == ["fp32", "int8"] and 0 < int8["p50_ms"] <= int8["p95_ms"]
