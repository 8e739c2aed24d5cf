"""`quantize` from a model to files: what is written, what is refused, what is said where nothing will do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from edgedistill.base.errors import ExitCode, InputError
from edgedistill.cli.app import app
from edgedistill.commands.quantize import quantize, way_out
from edgedistill.commands.quantize_files import quantize_files
from edgedistill.commands.requests import ModelRequest, ModelSettings
from edgedistill.documents.answers import FormatLadder, QuantizeResult
from edgedistill.documents.artifacts import CalibrationSet, LadderRung
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.formats.carried import carried_scheme
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.onnx.metadata import read_metadata
from edgedistill.formats.onnx_file import load
from edgedistill.networks.program.program import to_program
from edgedistill.selection.ladder import Margins

CONTRACT = Contract(resolution=16, mean=(78.0,) * 3, std=(96.0,) * 3, labels=tuple(map(str, range(10))), crop="stretch")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(torch.relu(self.stem((image - 78.0) / 96.0))))
        return self.head(x.mean((2, 3)))


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    with torch.random.fork_rng(devices=()):
        program = to_program(small(), CONTRACT)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    export_onnx(program, CONTRACT, path, build_hash="b")
    return path


def quantized(model: Path, out: Path, beside=(Precision.FP16,), max_loss: float = 0.05) -> QuantizeResult:
    asked = ModelRequest(str(model), ModelSettings(), (Format.ONNX,), load_target("host"), out)
    return quantize_files(asked, DataConfig(), "digits", Margins(max_loss=max_loss), beside)


@pytest.fixture(scope="module")
def result(file, tmp_path_factory) -> tuple[QuantizeResult, Path]:
    out = tmp_path_factory.mktemp("out")
    return quantized(file, out), out


def test_the_winner_is_a_file_with_its_calibration_set(result):
    found, out = result
    (ladder,) = found.formats
    assert found.ok and ladder.winner is not None and ladder.path == "small.int8.onnx"
    carried = carried_scheme(read_metadata(load(out / ladder.path)), out / ladder.path)
    assert carried == ladder.winner.scheme
    stored = CalibrationSet.model_validate_json((out / "small.int8.onnx.calibration.json").read_text())
    assert stored == found.calibration and len(stored.indices) == 256
    assert ladder.quality is not None and ladder.bytes is not None and ladder.winner.relative_p50 is not None
    assert 0 < ladder.winner.relative_p50 < 20, "a ratio to the fp32 file"
    assert ladder.winner.bytes is not None and ladder.winner.bytes < ladder.bytes
    written = {"small.int8.onnx", "small.int8.onnx.calibration.json", *ladder.paths}
    assert {path.name for path in out.iterdir()} == written, "no scratch is left behind"


def test_fp16_is_tried_beside(result):
    ladder = result[0].formats[0]
    assert [rung.scheme.precision for rung in ladder.beside] == [Precision.FP16]
    assert ladder.paths == (("small.fp16.onnx",) if ladder.beside[0].accepted else ())


def test_weights_alone(file, tmp_path):
    beside = (Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS)
    ladder = quantized(file, tmp_path, beside).formats[0]
    eight, four = ladder.beside
    assert ladder.quality is not None and ladder.bytes is not None and eight.bytes is not None
    assert eight.bytes < ladder.bytes and abs(eight.loss or 0) < 0.02
    assert "no convolutions over int4-weights" in four.reason


def test_an_onnx_file_climbs_without_torch(file, tmp_path):
    ladder = quantized(file, tmp_path, (), max_loss=-1.0).formats[0]
    steps = [rung.scheme.details for rung in ladder.rungs]
    assert steps[:3] == ["int8", "int8, percentile ranges", "int8, entropy ranges"]
    assert [step.rpartition(", ")[2] for step in steps[3:5]] == ["equalised", "biases corrected"]
    assert all("not rewritten" in rung.reason for rung in ladder.rungs[3:5])
    assert [len(rung.scheme.kept) for rung in ladder.rungs[5:]] == [1, 2]
    assert ladder.winner is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "data", "formats", "messages"),
    [
        ("absent.onnx", "digits", "onnx", ["does not exist"]),
        ("small.onnx", "digits", "coreml", ["coreml: is made from a torch model"]),
        ("nonsense", "digits", "onnx", ["is not a model that can be quantised"]),
        (
            "timm:absent",
            "absent",
            "onnx,png",
            ["--data: absent does not exist", "no model 'absent'", "--formats: unknown name 'png'"],
        ),
    ],
)
def test_bad_input(file, tmp_path, model, data, formats, messages):
    path = str(file) if model == "small.onnx" else model
    with pytest.raises(InputError) as caught:
        quantize(path, data=data, formats=formats, out=tmp_path)
    assert all(message in str(caught.value) for message in messages)


def test_the_command(file, tmp_path):
    arguments = ["quantize", str(file), "--data", "digits", "--max-loss", "5%", "--out", str(tmp_path), "--json"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["formats"][0]["path"] == "small.int8.onnx" and document["max_loss"] == 0.05


def test_the_command_without_a_winner_names_the_way_out(file, tmp_path, monkeypatch):
    lost = FormatLadder(format=Format.ONNX, quality=0.9, bytes=1000, rungs=(rung(0.03, "loses 3.00 points"),))
    nothing = CalibrationSet(fingerprint="f", seed=0, indices=())
    found = QuantizeResult(
        metric="accuracy",
        model="m",
        data="digits",
        target="host",
        max_loss=0.005,
        calibration=nothing,
        images=9,
        formats=(lost,),
        notes=(),
    )
    monkeypatch.setattr("edgedistill.commands.quantize_files.quantize_files", lambda *given: found)
    answer = CliRunner().invoke(app, ["quantize", str(file), "--data", "digits", "--out", str(tmp_path)])
    assert answer.exit_code == 2
    assert "x fp32" not in answer.output, "nothing was timed"
    assert "3.00 points" in answer.output and "allow that with --max-loss" in answer.output


@pytest.mark.parametrize(
    "option",
    [
        ["--max-loss", "half"],
        ["--max-loss", "500%"],
        ["--also", "fp8"],
        ["--formats", "png"],
        ["--mean", "0.1,0.2,0.3"],
    ],
)
def test_the_command_with_wrong_options(file, tmp_path, option):
    answer = CliRunner().invoke(app, ["quantize", str(file), "--data", "digits", "--out", str(tmp_path), *option])
    assert answer.exit_code == 2 and "Traceback" not in answer.output
    assert not list(tmp_path.iterdir())


def rung(loss: float, reason: str) -> LadderRung:
    scheme = QuantScheme(precision=Precision.INT8)
    return LadderRung(scheme=scheme, quality=0.9 - loss, loss=loss, accepted=False, reason=reason)


def test_a_device_that_is_named_has_to_answer(file, tmp_path):
    pytest.importorskip("asyncssh")
    arguments = ["quantize", str(file), "--data", "digits", "--out", str(tmp_path / "q"), "--formats", "onnx"]
    answer = CliRunner().invoke(app, [*arguments, "--target", "linux-x86-64", "--device", "ssh://nobody@127.0.0.1:9"])
    assert answer.exit_code == ExitCode.UNREACHABLE and "does not answer" in answer.stderr
    assert not (tmp_path / "q").exists()


def test_the_way_out_names_the_best():
    lost = FormatLadder(format=Format.ONNX, rungs=(rung(0.03, "loses 3"), rung(0.02, "loses 2")))
    assert "the best is int8, which loses 2.00%: allow that with --max-loss" in way_out(lost, 0.005)
    slow = FormatLadder(format=Format.ONNX, rungs=(rung(0.0, "gains too little over fp32: 1% smaller"),))
    assert (
        way_out(slow, 0.005) == "int8 is inside the loss and gains too little over fp32: 1% smaller: ship fp32 or fp16"
    )
    assert way_out(FormatLadder(format=Format.ONNX, problem="no such operation"), 0.005) == "no such operation"
