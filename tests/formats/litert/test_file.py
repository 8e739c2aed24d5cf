"""LiteRT files from anywhere: what is not whole, or would harm the interpreter, is refused before that sees it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.formats.carried import SCHEME_KEY
from edgedistill.formats.litert.content import Content
from edgedistill.networks.program.program import to_program

pytest.importorskip("litert_torch", reason="the extra litert is not installed")

from edgedistill.formats.litert.export import export_litert
from edgedistill.formats.litert.file import read_file
from edgedistill.formats.litert.runtime import LiteRTFormat

CONTRACT = Contract(resolution=16, mean=(0, 0, 0), std=(255, 255, 255), labels=("a", "b", "c"))
PHONE = Target(
    name="pixel",
    title="Pixel",
    runtime=Format.LITERT,
    formats=(Format.LITERT,),
    precisions=tuple(Precision),
    transport="local",
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, stride=2)
        self.fc = nn.Linear(64, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.conv(image / 255 - 0.5).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is as it should be."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("litert") / "whole.tflite"
    return export_litert(to_program(Small().eval(), CONTRACT), CONTRACT, path, Precision.FP32, build_hash="b").path


def test_a_file_that_is_loaded_tells_the_terminal_nothing(whole: Path) -> None:
    """The first interpreter of a process would say that XNNPACK is there, past Python."""
    code = "import sys, pathlib; from edgedistill.formats.litert.runtime import _load; _load(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def changed(whole: Path, path: Path, change: Callable[[Content], None]) -> Path:
    """The fp32 file with something changed in it, at `path`."""
    content = Content.parse(whole.read_bytes())
    change(content)
    path.write_bytes(content.serialise())
    return path


def test_a_custom_operator_is_named(whole: Path, tmp_path: Path) -> None:
    def use_custom(content: Content) -> None:
        code = content.model.operatorCodes[content.graph.operators[-1].opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = 32
        code.customCode = b"SecretSauce"

    path = changed(whole, tmp_path / "custom.tflite", use_custom)
    with pytest.raises(InputError, match=r"1 x SecretSauce: LiteRT .* has no kernel"):
        LiteRTFormat().adopt(path, PHONE)


def test_an_operator_of_a_version_to_come_is_refused_with_the_interpreters_words(whole: Path, tmp_path: Path) -> None:
    def ask_for_more(content: Content) -> None:
        content.model.operatorCodes[content.graph.operators[-1].opcodeIndex].version = 99

    path = changed(whole, tmp_path / "later.tflite", ask_for_more)
    with pytest.raises(InputError, match=r"FULLY_CONNECTED.*99"):
        LiteRTFormat().adopt(path, PHONE)


def test_metadata_that_claims_another_precision_is_refused(whole: Path, tmp_path: Path) -> None:
    scheme = QuantScheme(precision=Precision.INT8).model_dump_json()
    path = changed(whole, tmp_path / "liar.tflite", lambda content: content.carry({SCHEME_KEY: scheme}))
    with pytest.raises(InputError, match="its metadata says int8, its tensors are fp32"):
        LiteRTFormat().adopt(path, PHONE)


def test_missing_paths_folders_and_other_files_are_input_errors(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    (tmp_path / "folder.tflite").mkdir()
    for name, data in {"text": b"not a model", "empty": b"", "noise": noise, "head": b"\x1c\0\0\0TFL3" + noise}.items():
        (tmp_path / f"{name}.tflite").write_bytes(data)
    for name in ("absent", "folder", "text", "empty", "noise", "head"):
        with pytest.raises(InputError, match=rf"{name}\.tflite"):
            read_file(tmp_path / f"{name}.tflite")


def test_a_file_larger_than_the_format_allows_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.tflite"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(InputError, match="at most 2 GiB"):
        read_file(path)


def test_wherever_a_file_is_damaged_nothing_but_an_input_error_comes_out(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / "damaged.tflite"
    generator = np.random.default_rng(0)
    for length in [4, 8, 60, 1000, *generator.integers(8, len(data), 20)]:
        path.write_bytes(data[:length])
        with pytest.raises(InputError):
            read_file(path)
    # Weights are most of the file and tell nothing: what is altered lies outside of the longest.
    longest = max((bytes(b.data) for b in Content.parse(data).model.buffers if b.data is not None), key=len)
    start = data.index(longest)
    places = [at for at in range(0, len(data) - 4, 4) if not start <= at < start + len(longest)]
    refused = 0
    for _ in range(60):
        altered = bytearray(data)
        for place in generator.choice(places, 3):
            struct.pack_into("<I", altered, place, int(generator.choice([0, 1, 2**31 - 1, 2**32 - 1, 12345])))
        path.write_bytes(altered)
        try:
            tuple(read_file(path).layers())
        except InputError:
            refused += 1
    assert refused > 5


def test_a_giant_tensor_is_refused_before_it_is_allocated(whole: Path, tmp_path: Path) -> None:
    def grow(content: Content) -> None:
        content.graph.tensors[content.graph.operators[2].outputs[0]].shape = [1, 30000, 30000, 64]

    path = changed(whole, tmp_path / "giant.tflite", grow)
    with pytest.raises(InputError, match=r"shape \[1, 30000, 30000, 64\] needs .*more than"):
        LiteRTFormat().adopt(path, PHONE)


def test_a_constant_that_is_shorter_than_its_shape_is_refused(whole: Path, tmp_path: Path) -> None:
    def shorten(content: Content) -> None:
        weight = next(t for t in content.graph.tensors if t.name == b"fc.weight")
        content.model.buffers[weight.buffer].data = content.model.buffers[weight.buffer].data[:-8]

    path = changed(whole, tmp_path / "short.tflite", shorten)
    with pytest.raises(InputError, match=r"'fc\.weight' of shape .* has \d+ bytes, it needs \d+"):
        read_file(path)


def test_a_constant_that_is_written_to_is_refused(whole: Path, tmp_path: Path) -> None:
    def write_to_weight(content: Content) -> None:
        content.graph.operators[1].outputs = [content.graph.operators[2].inputs[1]]

    with pytest.raises(InputError, match="writes to a constant"):
        read_file(changed(whole, tmp_path / "writes.tflite", write_to_weight))
