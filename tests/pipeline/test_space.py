"""Families whose operations the target's runtime lacks are left out before training, with the operation's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installed_packages import Install, installing

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.base.progress import Event, Note
from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.targets import load_target
from edgedistill.pipeline import space as screening
from edgedistill.pipeline.bench import Data
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.prepare import open_space
from edgedistill.pipeline.workbench import Workbench

pytest.importorskip("onnxruntime")

BESSEL = """
from dataclasses import replace
from edgedistill.networks.families.mobileone import FAMILY as MOBILEONE

def assemble(plan, classes, merged):
    import torch
    from torch import nn

    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    network = MOBILEONE.assemble(plan, classes, merged)
    return nn.Sequential(network, Bessel()) if plan.stages[0].kernel in WRONG else network

FAMILY = replace(MOBILEONE, name="acmenet", assemble=assemble)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    yield from installing(tmp_path, monkeypatch)


def bench(folder: Path, heard: list[Event], target: str = "host", **space: Any) -> Workbench:
    """A bench over the digits whose space is small, its store in `folder`."""
    narrow = {"widths": [0.125], "depths": [0.25], "resolutions": [8]}
    config = BuildConfig.model_validate(
        {"teacher": {"model": "timm:resnet10t"}, "budget": "5ms", "space": narrow | space, "data": {"limit": 20}}
    )
    store = Store(folder / "cache", heard.append)
    ones, found = (1.0, 1.0, 1.0), load_target(target)
    data, meter = Data(load_dataset(config.data), ones, ones), Meter(found, None)
    return Workbench.of(config, found, data, store, meter, folder)


def warnings(heard: list[Event]) -> list[str]:
    return [event.text for event in heard if isinstance(event, Note) and event.warning]


def test_a_family_with_an_operation_that_the_runtime_lacks_is_left_out(tmp_path: Path, install: Install) -> None:
    install("acme", "WRONG = {5}\n" + BESSEL, "acmenet")
    heard: list[Event] = []
    found = open_space(bench(tmp_path, heard, families=["acmenet", "resnet"], kernels=[3, 5]))
    assert [c.spec.label for c in found] == ["acmenet w0.125 d0.25 k3 @8", "resnet w0.125 d0.25 @8"]
    (said,) = warnings(heard)
    assert said.startswith("acmenet with kernel 5 is left out, onnx cannot take it: ")
    assert "uses prims.bessel_j0" in said


def test_where_no_family_can_be_taken_the_build_ends(tmp_path: Path, install: Install) -> None:
    install("acme", "WRONG = {3}\n" + BESSEL, "acmenet")
    with pytest.raises(InputError, match="onnx on host can take no family of this space") as caught:
        open_space(bench(tmp_path, [], families=["acmenet"]))
    assert "uses prims.bessel_j0" in str(caught.value)
    assert "[space] families" in caught.value.fix


def test_a_target_whose_files_are_made_on_the_device_alone_says_nothing_of_families(tmp_path: Path) -> None:
    heard: list[Event] = []
    found = open_space(bench(tmp_path, heard, "jetson-orin-nano", families=["resnet", "mobileone"]))
    assert [c.spec.family for c in found] == ["resnet", "mobileone"]
    assert warnings(heard) == []


def test_what_cannot_be_exported_here_says_nothing_of_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def portable(*_: object) -> None:
        raise MissingDependencyError("the exporter is not installed", fix="pip install it")

    monkeypatch.setattr(screening, "portable", portable)
    assert [c.spec.family for c in open_space(bench(tmp_path, [], families=["resnet"]))] == ["resnet"]


def test_what_the_limits_leave_out_is_said(tmp_path: Path) -> None:
    heard: list[Event] = []
    found = open_space(bench(tmp_path, heard, families=["resnet"], widths=[0.125, 1.0], max_bytes="200kB"))
    assert [c.spec.width for c in found] == [0.125]
    assert Note("1 candidate; left out: 1 with more than 195.3 KiB of weights") in heard
