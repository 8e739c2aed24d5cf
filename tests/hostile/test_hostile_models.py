"""Hostile model files end in words: those that need no converter to be made, through the command line."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import hostile_cases
import hostile_onnx
import hostile_pt2
import numpy as np
import onnx
import pytest
import torch
from factories import make_manifest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.base.isolation import Limits, in_child
from edgedistill.cli.app import run
from edgedistill.documents.specs import ComputedBy, Format, Precision
from edgedistill.documents.targets import load_target
from edgedistill.formats.foreign import open_file
from edgedistill.formats.onnx.runtime import OnnxFormat
from edgedistill.formats.tensorrt.vendor import named_vendor
from edgedistill.networks.program.pt2 import read_program
from edgedistill.outputs.package.golden import Golden, GoldenRun
from edgedistill.outputs.package.package import PackageContents, PackageFile, write_package

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and limits of POSIX")

OURS = ("onnx", "pt2", "tensorrt", "image")
CASES = [
    case
    for case in (
        *hostile_cases.COMMON,
        *hostile_onnx.CASES,
        *hostile_pt2.CASES,
        *hostile_cases.ENGINES,
        *hostile_cases.IMAGES,
    )
    if case.format in OURS and not case.slow
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    hostile_onnx.whole(folder / "model.onnx")
    hostile_pt2.whole(folder / "model.pt2")
    return folder


def test_cases_are_many_and_have_names_of_their_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 80
    assert len(set(names)) == len(names)


def deciding(case: hostile_cases.Case) -> str:
    """The command that tells most of a case: it goes furthest."""
    return next(command for command in ("export", "run", "verify", "inspect") if command in case.exits)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_ends_in_words(
    case: hostile_cases.Case, bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = deciding(case)
    folder = tmp_path / "case"
    folder.mkdir()
    path = case.write(folder, bases)
    image = case.image(folder) if case.image else hostile_cases.picture(folder / "picture.png")
    before = sorted(folder.iterdir())
    code = run(hostile_cases.arguments(case, command, path, image))
    captured = capfd.readouterr()
    said = captured.out + captured.err
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert not list(tmp_path.rglob(hostile_cases.CANARY))
    assert code in case.exits[command], said
    if code == 2:
        assert [left for left in folder.iterdir() if left not in before and any(left.iterdir())] == []
        lines = said.splitlines()
        assert any(line.startswith(("error: ", "! ")) or " failed: " in line for line in lines), said
        assert any(line.startswith("fix: ") or line.endswith(")") for line in lines), said
        assert all(part in said for part in case.says), said


@pytest.mark.parametrize("command", ["inspect", "verify", "evaluate", "profile"])
def test_every_command_refuses_weights_outside_the_folder(
    command: str, bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in CASES if case.name == "onnx: weights in ../")
    (tmp_path / "inner").mkdir()
    path = case.write(tmp_path / "inner", bases)
    assert run(hostile_cases.arguments(case, command, path, path)) == 2
    assert "no file in the model's folder" in capfd.readouterr().err


def test_a_flipped_byte_is_found_by_the_package(bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in CASES if case.name == "onnx: a flipped byte in a package")
    path = case.write(tmp_path, bases)
    assert run(["inspect", str(path)]) == 0
    assert run(["verify", str(path)]) == 2
    assert "SHA-256 is not the one in the package's manifest" in capfd.readouterr().out


# -- files that are whole stay usable -----------------------------------------------------------------------------------


def test_a_whole_program_comes_back_from_a_child_as_it_was(bases: Path) -> None:
    path = bases / "model.pt2"
    program = in_child("reading", Limits.for_file(path), read_program, path)
    image = torch.rand(1, 3, 16, 16)
    expected = torch.export.load(path).module()(image)
    torch.testing.assert_close(program.module(check_guards=False)(image), expected, rtol=0, atol=0)
    assert [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name == "image"] == [(1, 3, 16, 16)]


def test_two_tables_of_contents_give_the_one_that_was_checked(bases: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "pt2: two tables of contents")
    program = read_program(case.write(tmp_path, bases))
    weights = torch.export.load(bases / "model.pt2").state_dict
    assert all(torch.equal(value, weights[name]) for name, value in program.state_dict.items())
    assert not list(tmp_path.rglob(hostile_cases.CANARY))


def test_what_torch_would_run_is_not_passed_on(bases: Path, tmp_path: Path) -> None:
    """Notes, guards, samples and the program's other parts that are code or serve nothing."""
    parts = hostile_pt2.members(bases / "model.pt2")
    model = json.loads(parts["models/model.json"])
    model["guards_code"] = ["__import__('os').abort()"]
    model["graph_module"]["metadata"] = {"custom": "not JSON"}
    for node in model["graph_module"]["graph"]["nodes"]:
        node["metadata"] |= {"source_fn_stack": "x,torch.os.system", "custom": "not JSON", "from_node": "not JSON"}
    parts["models/model.json"] = json.dumps(model).encode()
    program = read_program(hostile_pt2.pack(tmp_path / "model.pt2", parts | {"extra/notes": b"hello"}))
    assert program._guards_code == []
    assert program.example_inputs is None
    assert not any("source_fn_stack" in node.meta or "custom" in node.meta for node in program.graph.nodes)
    assert any("nn_module_stack" in node.meta for node in program.graph.nodes)


def test_operators_of_networks_are_taken(tmp_path: Path) -> None:
    class Wide(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            pixels = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="reflect")
            pixels = torch.nn.functional.interpolate(pixels, scale_factor=2, mode="bilinear")
            tokens = torch.nn.functional.gelu(pixels.flatten(2).transpose(1, 2), approximate="tanh")
            mask = torch.full((tokens.shape[1], tokens.shape[1]), float("-inf")).triu(1)
            tokens = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)
            first, *_ = torch.einsum("bnc,bnc->bn", tokens, tokens).chunk(3, dim=1)
            return torch.div(first, 2, rounding_mode="floor")

    image = torch.rand(1, 3, 4, 4)
    program = torch.export.export(Wide().eval(), (image,))
    torch.export.save(program, tmp_path / "model.pt2")
    torch.testing.assert_close(read_program(tmp_path / "model.pt2").module()(image), program.module()(image))


def test_weights_beside_an_onnx_file_are_read(tmp_path: Path) -> None:
    made = hostile_onnx.model()
    onnx.save(made, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    artifact = open_file(tmp_path / "model.onnx", load_target("host")).artifact
    images = np.zeros((1, 3, 16, 16), np.uint8)
    assert next(iter(OnnxFormat().run(artifact, [images]))).shape == (1, 10)


def a_package(folder: Path, bases: Path, **update: Any) -> Path:
    """A package of one model file, with what a test changes in its golden document."""
    path = folder / "model.onnx"
    path.write_bytes((bases / "model.onnx").read_bytes())
    contract = open_file(path, load_target("host")).contracted()
    picture = np.zeros((21, 33, 3), np.uint8)
    runs = {path.name: GoldenRun(ComputedBy.DEVICE, np.zeros((1, contract.width), np.float32), 1.0)}
    file = PackageFile(Format.ONNX, Precision.FP32, path, path.name, (), ())
    manifest = make_manifest()
    (model,) = write_package(folder, PackageContents((file,), contract, Golden((picture,), runs), manifest, "card"))
    golden = model.parent / "golden" / "golden.json"
    golden.write_text(json.dumps(json.loads(golden.read_text()) | update))
    return model


def test_golden_data_outside_the_package_is_not_read(
    bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "secret.png")
    picture = {"file": "../secret.png", "prepared": "../secret.png", "width": 16, "height": 16}
    assert run(["verify", str(a_package(tmp_path, bases, pictures=[picture]))]) == 2
    assert "outside the package" in capfd.readouterr().err


def test_golden_data_of_terabytes_is_not_allocated(
    bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = a_package(tmp_path, bases)
    size = struct.pack(">II", 2**20, 2**20)
    picture = model.parent / "golden" / "picture-000.png"
    data = bytearray(picture.read_bytes())
    data[16:24] = size
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    picture.write_bytes(data)
    assert run(["verify", str(model)]) == 2
    assert "the limit" in capfd.readouterr().err


@pytest.mark.parametrize("update", [{"files": {}}, {"pictures": []}, {"files": 3}, {"output": "other"}])
def test_golden_data_that_says_something_else_is_no_crash(
    bases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], update: dict[str, Any]
) -> None:
    assert run(["verify", str(a_package(tmp_path, bases, **update))]) in (0, 2)
    assert "Traceback" not in capfd.readouterr().err


def test_no_module_is_imported_by_a_record_s_word() -> None:
    with pytest.raises(InputError, match="builds no TensorRT engines"):
        named_vendor("antigravity")


def test_a_file_of_torch_save_is_told_apart(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt2")
    assert zipfile.is_zipfile(tmp_path / "model.pt2")
    with pytest.raises(InputError, match="is not opened") as caught:
        read_program(tmp_path / "model.pt2")
    assert "older torch, or no torch.export program" in str(caught.value)
