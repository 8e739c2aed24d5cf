"""What `export` and `quantize` are asked for is checked at once, all of it, and quickly: without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedistill import export
from edgedistill.base.errors import Collected, InputError
from edgedistill.commands.options import ModelOptions
from edgedistill.commands.requests import (
    ModelSettings,
    parse_beside,
    parse_formats,
    parse_precisions,
    parse_share,
    require_openable,
)
from edgedistill.documents.specs import Format, Precision
from edgedistill.formats import SHIPPED


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(InputError) as caught:
        export(
            "timm:resnet_18x",
            out=place,
            formats="onnx,png",
            precisions="int3",
            data=str(tmp_path / "pictures"),
            target="raspberry-pi-55",
            checkpoint=tmp_path / "weights.pt",
            labels=tmp_path / "labels.txt",
            mean="0.5,0.5",
            std="0.5,0.5,2",
        )
    text = str(caught.value)
    for part in (
        "10 problems",
        "--mean: '0.5,0.5' is not three numbers",
        "--std: 2 is no level of a pixel",
        "--formats: unknown name 'png'",
        "--precision: unknown name 'int3'",
        "did you mean raspberry-pi-5?",
        "pictures does not exist",
        f"the output folder {place} is a file",
        "timm has no model 'resnet_18x'",
        "weights.pt does not exist (check --checkpoint)",
        "labels.txt cannot be read",
    ):
        assert part in text
    assert "[teacher]" not in text


def test_a_wrong_name_is_told_before_torch_is_loaded() -> None:
    code = """
import sys
import edgedistill
try:
    edgedistill.export("timm:resnet_18x", out="nowhere")
except edgedistill.EdgedistillError as error:
    print(error.message, {"torch", "timm", "onnx"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "timm:resnet_18x: timm has no model 'resnet_18x' set()"


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("resnet18", ModelSettings(), "'resnet18' is not a model that can be exported"),
        ("timm:", ModelSettings(), "is not a model"),
        ("timm:resnet18", ModelSettings(resolution=4), "resolution: Input should be greater than or equal to 8"),
        ("absent_module:net", ModelSettings(), "model: there is no module 'absent_module'"),
        ("absent.pt2", ModelSettings(), "absent.pt2 does not exist"),
        ("absent.onnx", ModelSettings(), "absent.onnx does not exist"),
        ("absent.onnx", ModelSettings(classes=3), "--classes: cannot change an ONNX file"),
    ],
)
def test_what_cannot_be_opened_is_refused(model: str, settings: ModelSettings, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        require_openable(model, settings, (Format.ONNX,), tmp_path, "exported")
    assert told in str(caught.value) and "[teacher]" not in str(caught.value)


def test_a_name_of_timm_without_timm_gets_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        require_openable("resnet18", ModelSettings(), (), tmp_path, "exported")
    assert caught.value.fix == "did you mean timm:resnet18?"


@pytest.mark.parametrize(
    ("parse", "text", "fix"),
    [
        (parse_formats, "onnx,tflite", "did you mean litert? use onnx, "),
        (parse_formats, "mlpackage,executorhc", "did you mean coreml? use onnx, "),
        (parse_precisions, "int9", "did you mean int8? use fp32, "),
        (parse_precisions, "8", "use fp32, "),
        (parse_beside, "int8-weight", "did you mean int8-weights? use fp16, "),
    ],
)
def test_an_unknown_name_gets_the_nearest(parse: Callable[[str], object], text: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.problems[0].fix.startswith(fix)


def test_a_share_names_its_option() -> None:
    assert parse_share("1%", "--max-loss") == 0.01
    for text in ("2", "500%"):
        with pytest.raises(InputError, match=f"--max-loss: '{text}'"):
            parse_share(text, "--max-loss")


def test_a_program_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"")
    require_openable(str(path), ModelSettings(), SHIPPED, tmp_path, "exported")
    with pytest.raises(InputError, match="--classes, --resolution cannot change them"):
        require_openable(str(path), ModelSettings(classes=2, resolution=32), SHIPPED, tmp_path, "exported")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mean": "0.5,0.5,0.5"}, "--mean and --std belong together"),
        ({"mean": "a,b,c", "std": "1,1,1"}, "'a,b,c' is not three numbers"),
        ({"mean": "0,0,0", "std": "0,1,1"}, "--std: 0 is no level of a pixel in 0..1"),
        ({"mean": "nan,0,0", "std": "1,1,1"}, "--mean: nan is no level of a pixel in 0..1"),
    ],
)
def test_statistics_are_levels_of_a_pixel(options: ModelOptions, told: str) -> None:
    wrong = Collected()
    ModelSettings.of(options, wrong)
    with pytest.raises(InputError, match=told):
        wrong.raise_any()


def test_statistics_are_read() -> None:
    settings = ModelSettings.of({"mean": "0,0.5, 1", "std": "0.25,1,1"}, Collected())
    assert (settings.mean, settings.std) == ((0.0, 0.5, 1.0), (0.25, 1.0, 1.0))


def test_lists_are_read_in_their_own_order() -> None:
    assert parse_formats("all") == SHIPPED
    assert parse_formats("coreml, onnx") == (Format.ONNX, Format.COREML)
    assert parse_beside(" ") == ()
    assert parse_beside("int8-weights,fp16") == (Precision.FP16, Precision.INT8_WEIGHTS)
