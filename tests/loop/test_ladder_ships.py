"""A whole build whose student plain int8 ruins: what the ladder finds is what is proven, shipped and told of."""

from __future__ import annotations

import copy
from typing import Any

import null_format as null
import pytest
import torch
from torch import nn

from edgedistill.base.store import file_sha256
from edgedistill.documents.specs import Contract, Precision, QuantScheme, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.deploy import deploy
from edgedistill.outputs.package.package import package_problems

ONE_STUDENT = (
    ('families = ["mobilenetv4", "resnet"]', 'families = ["resnet"]'),
    ("widths = [0.25, 0.5]", "widths = [0.5]"),
    ("resolutions = [8, 16]", "resolutions = [16]"),
    ("probes = 3", "probes = 2"),
    ("[profile]", "[export]\ncalibration_images = 16\n\n[profile]"),
)


def coarse(module: nn.Module) -> nn.Module:
    """A copy with one step on either side of zero: nothing is recognised with it."""
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for weight in (p for p in copied.parameters() if p.ndim >= 2):
            weight.copy_(weight.abs().mean() * weight.sign())
    return copied


@pytest.fixture
def plain_int8_ruins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 files of the null runtime are coarse until the channels are evened out before."""
    real = null.export_null

    def export(module: nn.Module, contract: Contract, scheme: QuantScheme, folder: Any) -> Any:
        ruined = scheme.precision is Precision.INT8 and not scheme.equalized
        return real(coarse(module) if ruined else module, contract, scheme, folder)

    monkeypatch.setattr(null, "export_null", export)


def test_what_the_ladder_finds_is_what_is_proven_and_shipped(loop: Any, plain_int8_ruins: None, tmp_path: Any) -> None:
    spec = StudentSpec(family="resnet", width=0.5, depth=0.5, resolution=16)
    contract = Contract(resolution=16, labels=tuple("0123456789"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    adds = structure_of(deploy(build_student(spec, contract)), 16).multiply_adds
    # Between the int8 and the fp32 file of the only student there is.
    budget_ms = (null.law_ms(adds, Precision.INT8) + null.law_ms(adds, Precision.FP32)) / 2
    own = type(loop)(tmp_path, tmp_path / "cache")
    built = own.build(own.write("ladder", f"{budget_ms:.5f}ms", *ONE_STUDENT))
    result = built.result
    assert result.status == "met", result.verdict
    (shipped,) = [a for a in result.artifacts if a.precision is Precision.INT8]
    assert shipped.scheme.equalized and shipped.scheme.details == "int8, equalised"
    assert (
        result.proof.artifact_sha256 == shipped.as_measured == shipped.sha256 == file_sha256(built.out / shipped.path)
    )
    widest = next(s for t in result.trials for s in t.schemes if s.scheme.precision is Precision.FP32)
    assert widest.verification.quality_validation - shipped.quality_validation <= 0.01
    assert package_problems(built.out, result) == ()
    for told in ("report.html", "package/MODEL_CARD.md"):
        assert "int8, equalised" in (built.out / told).read_text()
    folders = list((own.cache / "ladder").glob("*/ladder.json"))
    assert folders, "the rungs that were tried are kept"
    assert own.damaged() == []
