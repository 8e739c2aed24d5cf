"""Which students start from pretrained weights, by the data and by what can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from edgedistill.base.errors import InputError, NotFetchedError
from edgedistill.base.progress import Event, Note
from edgedistill.base.store import Store
from edgedistill.distill.start import start_of
from edgedistill.distill.teachers.networks import build_network
from edgedistill.documents.build_file import SpaceConfig
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks import timm_weights
from edgedistill.networks.families.registry import DEFAULT
from edgedistill.pipeline.build import study_name
from edgedistill.pipeline.pretrained import MODELS, MOST_IMAGES, SMALLEST_SIDE, settled

TINY = "timm:test_resnet"
Bench = Callable[..., Any]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    def make(images: int = 300, side: int = 96, told: list[Event] | None = None, **space: Any) -> Any:
        return SimpleNamespace(
            space=SpaceConfig(**space),
            store=Store(tmp_path / "cache", listener=(told if told is not None else []).append),
            source_side=side,
            dataset=SimpleNamespace(splits=SimpleNamespace(train=np.arange(images))),
        )

    return make


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose weights are fetched; those of a resnet18 cannot be."""
    asked: list[str] = []

    def fetch(name: str) -> nn.Module:
        asked.append(name)
        if name == "resnet18":
            raise NotFetchedError("the pretrained weights of resnet18 cannot be had", fix="connect")
        torch.manual_seed(3)
        network: nn.Module = timm.create_model(name)
        return network

    monkeypatch.setattr(timm_weights, "pretrained_network", fetch)
    return asked


def test_few_large_images_have_pretrained_students_beside_the_families(bench: Bench, fetches: list[str]) -> None:
    told: list[Event] = []
    one = bench(told=told)
    found, not_fetched = settled(one)
    assert found.families == DEFAULT and found.models == tuple(m for m in MODELS if m != "timm:resnet18")
    assert set(found.checkpoints) == set(found.models)
    start = start_of(found, found.models[0])
    assert start is not None and start.checkpoint.is_file()
    assert start.described.startswith("mobilenetv4_conv_small.e2400_r224_in1k.safetensors (SHA-256 ")
    assert not_fetched == ("timm:resnet18",)
    (note,) = (event for event in told if isinstance(event, Note))
    assert "resnet18 cannot be had: it is left out" in note.text and not note.warning


@pytest.mark.parametrize(
    ("settings", "otherwise"),
    [
        ({}, "it is left out"),
        ({"models": (TINY,)}, "its students start"),
        ({"models": (TINY,), "pretrained": True}, "ends"),
    ],
)
def test_a_plan_tells_which_weights_a_build_fetches(
    bench: Bench, fetches: list[str], settings: dict[str, Any], otherwise: str
) -> None:
    told: list[Event] = []
    settled(bench(told=told, **settings), fetch=False)
    (note,) = (event for event in told if isinstance(event, Note))
    assert ", ".join(settings.get("models", MODELS)) in note.text and otherwise in note.text
    assert not fetches
    settled(bench(models=(TINY,)))
    told.clear()
    settled(bench(told=told, models=(TINY,)), fetch=False)
    assert not told, "they are in the cache"


def test_weights_are_fetched_once(bench: Bench, fetches: list[str]) -> None:
    first = settled(bench(models=(TINY,)))
    assert settled(bench(models=(TINY,))) == first
    assert fetches == ["test_resnet"]


@pytest.mark.parametrize(
    ("images", "side"), [(MOST_IMAGES + 1, 96), (300, SMALLEST_SIDE - 1)], ids=["many images", "small ones"]
)
def test_auto_leaves_other_data_alone(bench: Bench, fetches: list[str], images: int, side: int) -> None:
    assert settled(bench(images=images, side=side)) == (SpaceConfig(pretrained=False), ())
    found, _ = settled(bench(images=images, side=side, models=(TINY,)))
    assert found.models == (TINY,) and not found.checkpoints
    assert settled(bench(images=images, side=side, models=(TINY,), pretrained=True))[0].checkpoints
    assert fetches == ["test_resnet"]


def test_families_that_are_named_stay_alone(bench: Bench, fetches: list[str]) -> None:
    assert settled(bench(families=("resnet",))) == (SpaceConfig(families=("resnet",), pretrained=False), ())
    assert not fetches


def test_what_cannot_be_had_is_an_error_only_if_it_was_asked_for(bench: Bench, fetches: list[str]) -> None:
    told: list[Event] = []
    models = ("timm:resnet18", TINY)
    found, not_fetched = settled(bench(models=models, told=told))
    assert found.models == models and set(found.checkpoints) == {TINY} and not_fetched == ("timm:resnet18",)
    (note,) = (event for event in told if isinstance(event, Note))
    assert "its students start from random weights" in note.text and note.warning
    with pytest.raises(InputError, match="resnet18 cannot be had"):
        settled(bench(models=models, pretrained=True))


def test_weights_that_timm_does_not_have_are_not_asked_for_again(bench: Bench) -> None:
    bare = next(n for n in timm.list_models("resnet*") if not timm.get_pretrained_cfg(n).has_weights)
    found, not_fetched = settled(bench(models=(f"timm:{bare}",)))
    assert not found.checkpoints and not_fetched == ()
    with pytest.raises(InputError, match="timm has no pretrained weights"):  # a plan says so too
        settled(bench(models=(f"timm:{bare}",), pretrained=True), fetch=False)


def test_a_search_with_weights_that_one_before_did_without_is_another_one(
    bench: Bench, fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for _ in range(2):
        found, _ = settled(bench(models=("timm:resnet18",)))
        names.append(study_name("key", "", found))
        monkeypatch.setattr(timm_weights, "pretrained_network", timm.create_model)
    assert names[0] != names[1] == study_name("key", "", found)


def test_a_file_takes_the_place_of_timms_weights(bench: Bench, fetches: list[str], tmp_path: Path) -> None:
    found, _ = settled(bench(models=(TINY,), checkpoints={TINY: tmp_path / "own.pt"}, pretrained=True))
    assert found.checkpoints == {TINY: tmp_path / "own.pt"} and not fetches


def test_nothing_is_fetched_for_a_plan(bench: Bench, fetches: list[str]) -> None:
    found, _ = settled(bench(), fetch=False)
    assert found.models == MODELS and found.families == DEFAULT and not fetches


def test_a_hub_that_does_not_answer_is_told_at_once() -> None:
    with pytest.raises(InputError, match="the pretrained weights of resnet18 cannot be had: the hub does not answer"):
        timm_weights.pretrained_network("resnet18")


@pytest.mark.parametrize("fetch", ["student", "teacher"])
def test_a_damaged_file_in_the_hubs_cache_is_told_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetch: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place, commit = tmp_path / "models--timm--test_resnet.r160_in1k", "0" * 40
    kept = place / "snapshots" / commit / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a file")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    with pytest.raises(InputError, match=f"weights of test_resnet cannot be (had|fetched): .*; remove {place} if"):
        if fetch == "student":
            timm_weights.pretrained_network("test_resnet")
        else:
            build_network(TeacherConfig(model="timm:test_resnet", pretrained=True), None, tmp_path)
