"""Operations are told by the modules that use them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import UnsupportedError
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.litert.export import export_litert
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.origin import culprits, translating
from edgedistill.networks.program.program import to_program

CONTRACT = Contract(resolution=16, mean=(0, 0, 0), std=(255, 255, 255), labels=tuple("abcde"))


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0(x)


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Network(nn.Module):
    def __init__(self, act: type[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(act()), Block(act()))
        self.head = nn.Linear(3, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(image / 255).mean((2, 3)))


def test_culprits_are_found_by_the_names_of_operations_and_nodes() -> None:
    program = to_program(Network(Bessel).eval(), CONTRACT)
    (problem,) = culprits(program, "no lowering for aten.special_i0.default here")
    assert (problem.where, problem.what) == ("blocks.0.act, blocks.1.act", "uses aten.special_i0.default")
    assert [p.where for p in culprits(program, "Unsupported fx node special_i0_1")] == ["blocks.1.act"]
    assert culprits(program, "something else went wrong") == []


def test_a_program_that_cannot_be_taken_apart_costs_the_complaint_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own passes stumble over some programs (timm's halonet26t)."""

    def stumble(self: object, table: object) -> object:
        raise AssertionError("expected to have an entirely functional graph")

    program = to_program(Network(Bessel).eval(), CONTRACT)
    monkeypatch.setattr(type(program), "run_decompositions", stumble)
    assert culprits(program, "no kernel for i0") == []
    assert [p.where for p in culprits(program, "Unsupported fx node special_i0_1")] == ["blocks.1.act"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ValueError("special_i0 has no counterpart\nwith details"),
            "the tool cannot translate the model: special_i0 has no counterpart",
        ),
        (KeyError("special_i0"), "the tool cannot translate the model: KeyError: 'special_i0'"),
        (AssertionError(), "the tool cannot translate the model: AssertionError"),
    ],
)
def test_whatever_a_converter_raises_is_a_refusal_in_its_words(error: Exception, words: str) -> None:
    """Converters raise what their passes stumble over; it fails their own format and no other."""
    program = to_program(Network(Bessel).eval(), CONTRACT)
    with pytest.raises(UnsupportedError) as caught, translating("the tool", program, Format.COREML):
        raise RuntimeError("a pass failed") from error
    assert caught.value.message == words and "leave coreml out" in caught.value.fix
    modules = ["blocks.0.act, blocks.1.act"] if "special_i0" in words else []
    assert [problem.where for problem in caught.value.problems] == modules


def test_what_is_no_refusal_passes() -> None:
    program = to_program(Network(Bessel).eval(), CONTRACT)
    for error in (MemoryError(), UnsupportedError("it has no such precision")):
        with pytest.raises(type(error)) as caught, translating("the tool", program, Format.COREML):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("export", "suffix", "package"),
    [
        (export_onnx, ".onnx", "onnx"),
        (export_coreml, ".mlpackage", "coremltools"),
        (export_litert, ".tflite", "litert_torch"),
        (export_executorch, ".pte", "executorch"),
    ],
)
def test_a_refused_operation_comes_with_its_modules(export, suffix: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    program = to_program(Network(Bessel).eval(), CONTRACT)
    path = tmp_path / f"m{suffix}"
    precision = () if export is export_onnx else (Precision.FP32,)
    try:
        export(program, CONTRACT, path, *precision, build_hash="")
    except UnsupportedError as error:
        assert [problem.where for problem in error.problems] == ["blocks.0.act, blocks.1.act"]
        assert error.fix
    else:
        pytest.skip(f"{package} has the operation")


def test_nodes_of_an_onnx_file_are_called_after_their_modules(tmp_path: Path) -> None:
    model = export_onnx(to_program(Network(nn.ReLU).eval(), CONTRACT), CONTRACT, tmp_path / "m.onnx", build_hash="")
    names = [node.name for node in onnx.load(model.path).graph.node]
    assert len(names) == len(set(names))
    assert {"blocks.0.conv/Conv", "blocks.0.act/Relu", "blocks.1.conv/Conv", "blocks.1.act/Relu", "head/Gemm"} <= set(
        names
    )
