"""What is refused, with the operation's name and the way out, and leaves no file behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from barred_images import BUILD, CLASSES, CONTRACT
from executorch_students import CALIBRATION, CAST, PHONE, Built
from torch import Tensor, nn

from edgedistill.base.errors import InputError, MissingDependencyError, UnsupportedError
from edgedistill.documents.specs import Format, Precision, QuantScheme
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.quantize import quantize_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat
from edgedistill.networks.program.program import to_program

pytest.importorskip("executorch", reason="the extra executorch is not installed")


class Odd(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.i0(image / 255).mean((2, 3)).repeat(1, 2)[:, :CLASSES]


def test_an_operation_without_a_form_is_named(tmp_path: Path) -> None:
    program = to_program(Odd().eval(), CONTRACT)
    with pytest.raises(UnsupportedError, match=r"aten\.i0") as caught:
        export_executorch(program, CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_a_kernel_is_named(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.formats.executorch import runtime as module

    class Bare:
        def _get_operator_names(self) -> list[str]:
            return ["aten::add.out"]

    monkeypatch.setattr(module, "_runtime", Bare)
    (problem,) = ExecuTorchFormat().unsupported(built.models[Precision.FP32], PHONE)
    assert CAST in problem.where and "no kernel" in problem.what


def test_what_the_runtime_refuses(built: Built, tmp_path: Path) -> None:
    runtime, model = ExecuTorchFormat(), built.models[Precision.FP32]
    assert runtime.unsupported(model, PHONE) == ()
    board = PHONE.model_copy(update={"name": "board", "formats": (Format.ONNX,)})
    assert len(runtime.unsupported(model.model_copy(update={"format": Format.ONNX}), board)) == 2
    stated = model.model_copy(update={"outputs": model.inputs})
    with pytest.raises(UnsupportedError, match="cannot be used") as caught:
        runtime.compile(stated, PHONE, tmp_path)
    assert "stated were image uint8" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_schemes_are_refused_where_they_would_change_little(student: nn.Module, tmp_path: Path) -> None:
    def quantize(precision: Precision, images: np.ndarray = CALIBRATION[:4], kept: tuple[str, ...] = ()) -> None:
        scheme = QuantScheme(precision=precision, kept=kept)
        quantize_executorch(student, images, CONTRACT, scheme, tmp_path / "m.pte", build_hash=BUILD)

    with pytest.raises(UnsupportedError, match=r"linear layers alone, which hold \d"):
        quantize(Precision.INT4_WEIGHTS)
    with pytest.raises(InputError, match=r"calibration images are uint8 \(0,"):
        quantize(Precision.INT8, CALIBRATION[:0])
    with pytest.raises(InputError, match="the model takes uint8"):
        quantize(Precision.INT8, CALIBRATION[:, :, :16])
    with pytest.raises(InputError) as caught:
        quantize(Precision.MIXED, kept=("network.stem.O",))
    (problem,) = caught.value.problems
    assert (problem.where, problem.fix) == ("network.stem.O", "did you mean network.stem.0?")
    with pytest.raises(UnsupportedError, match="fp32 and fp16 only"):
        export_executorch(to_program(student, CONTRACT), CONTRACT, tmp_path / "m.pte", Precision.INT8, build_hash=BUILD)
    assert list(tmp_path.iterdir()) == []


def test_without_executorch_the_line_that_installs_it_is_given(
    student: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = to_program(student, CONTRACT)
    for name in [name for name in sys.modules if name.partition(".")[0] == "executorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(MissingDependencyError) as caught:
        export_executorch(program, CONTRACT, tmp_path / "m.pte", Precision.FP32, build_hash=BUILD)
    assert caught.value.fix == 'pip install "edgedistill[executorch]"'
