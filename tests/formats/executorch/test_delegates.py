"""Delegates other than XNNPACK: Core ML's and Qualcomm's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from barred_images import BUILD, CLASSES, CONTRACT
from executorch_students import CAST, IMAGES, PHONE, logits
from torch import Tensor, nn

from edgedistill.base.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.specs import Delegate, Precision
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat
from edgedistill.networks.build import Normalised
from edgedistill.networks.program.program import reference_logits, to_program

pytest.importorskip("executorch", reason="the extra executorch is not installed")


def test_the_core_ml_delegate_makes_files_that_run_elsewhere(student: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
    model = export_executorch(
        to_program(student, CONTRACT),
        CONTRACT,
        tmp_path / "m.pte",
        Precision.FP16,
        build_hash=BUILD,
        delegate=Delegate.COREML,
    )
    runtime = ExecuTorchFormat()
    artifact = runtime.compile(model, PHONE, tmp_path / "compiled")
    assert artifact.record["delegates"] == "CoreMLBackend 1"
    assert artifact.record["portable_operators"] == f"{CAST} 1"
    try:
        got = logits(artifact)
    except NotRunnableError as error:
        assert "CoreMLBackend" in error.message
        assert any("CoreMLBackend" in check for check in runtime.inspect(artifact).checks)
    else:
        assert (got.argmax(1) == reference_logits(student, IMAGES).argmax(1)).mean() > 0.95


class WithInverse(nn.Module):
    """An operation that coremltools has no form for, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(torch.acosh(1 + self.first(x).square())).mean((2, 3)))
        return logits


def test_what_falls_back_to_the_cpu_is_an_error_on_an_accelerator_unless_it_is_allowed(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
    torch.manual_seed(0)
    module = Normalised(WithInverse(), CONTRACT.mean, CONTRACT.std).eval().requires_grad_(False)
    phone = PHONE.model_copy(update={"delegate": Delegate.COREML, "accelerator": "Neural Engine"})
    model = export_executorch(
        to_program(module, CONTRACT),
        CONTRACT,
        tmp_path / "m.pte",
        Precision.FP16,
        build_hash=BUILD,
        delegate=phone.delegate,
    )
    runtime = ExecuTorchFormat()
    problems = runtime.unsupported(model, phone)
    problem = next(problem for problem in problems if "acosh" in problem.where)
    assert "Neural Engine" in problem.what and "allow_fallbacks" in problem.fix
    with pytest.raises(UnsupportedError) as caught:
        runtime.compile(model, phone, tmp_path / "refused")
    assert tuple(caught.value.problems) == problems
    allowed = phone.model_copy(update={"allow_fallbacks": True})
    artifact = runtime.compile(model, allowed, tmp_path / "allowed")
    assert artifact.fallbacks is not None and sum((artifact.fallbacks.elsewhere or {}).values()) >= 1
    assert "acosh" in artifact.fallbacks.sentence and "CoreMLBackend" in artifact.fallbacks.sentence


@pytest.mark.parametrize(
    ("precision", "sdk", "soc", "error", "told"),
    [
        (Precision.FP16, "", "SM8550", MissingDependencyError, "QNN_SDK_ROOT is not set"),
        (Precision.FP16, "/opt/qnn", "SM1", InputError, "'SM1' is no chip"),
        (Precision.FP32, "/opt/qnn", "SM8550", UnsupportedError, "given fp16 here, not fp32"),
    ],
)
def test_qualcomms_delegate_says_what_it_lacks(
    student: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    sdk: str,
    soc: str,
    error: type[Exception],
    told: str,
) -> None:
    monkeypatch.setenv("QNN_SDK_ROOT", sdk)
    program = to_program(student, CONTRACT)
    with pytest.raises(error, match=told):
        export_executorch(
            program, CONTRACT, tmp_path / "m.pte", precision, build_hash=BUILD, delegate=Delegate.QNN, soc=soc
        )
    assert not (tmp_path / "m.pte").exists()
