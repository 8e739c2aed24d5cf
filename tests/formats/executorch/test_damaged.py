"""Files that are no whole ExecuTorch program are refused, with the cause, before the C++ runtime sees them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.base.isolation import Limits, in_child
from edgedistill.documents.specs import Contract, Format, Precision, Target
from edgedistill.formats.executorch import program as executorch_program
from edgedistill.formats.executorch.program import read_pte
from edgedistill.formats.flatbuffer import Buffer, Damaged
from edgedistill.networks.program.program import to_program

pytest.importorskip("executorch", reason="the extra executorch is not installed")

from edgedistill.formats.executorch.export import export_executorch
from edgedistill.formats.executorch.runtime import ExecuTorchFormat

CONTRACT = Contract(resolution=8, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))
HERE = Target(
    name="here",
    title="here",
    runtime=Format.EXECUTORCH,
    formats=(Format.EXECUTORCH,),
    precisions=(Precision.FP32,),
    transport="local",
)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        return torch.cumsum(self.conv(image / 255).mean((2, 3)), 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program with a delegate, a portable kernel, named data and metadata."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("whole") / "m.pte"
    export_executorch(to_program(Tiny().eval(), CONTRACT), CONTRACT, path, Precision.FP32, build_hash="")
    assert "aten::cumsum.out" in read_pte(path).forward.calls  # type: ignore[union-attr]
    return path.read_bytes()


def field(data: bytes, offset: int, kind: str, value: int) -> bytes:
    """`data` with a number at `offset` replaced."""
    changed = bytearray(data)
    struct.pack_into(kind, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda d: b"", "bytes 4 to 8"),
        (lambda d: d[:6], "bytes 4 to 8"),
        (lambda d: b"\0" * 100, "bytes 4 to 8"),
        (lambda d: np.random.default_rng(0).bytes(5000), "bytes 4 to 8"),
        (lambda d: d[:20], "points to byte"),
        (lambda d: d[: len(d) // 2], "header tells of"),
        (lambda d: d[:-1], "cut off"),
        (lambda d: field(d, 0, "<I", 2**31), "points to byte"),
        (lambda d: field(d, 16, "<Q", 2**40), "header tells of a program"),
        (lambda d: field(d, 24, "<Q", 2**40), "header tells of"),
        (lambda d: field(d, 32, "<Q", 2**63), "header tells of"),
        (lambda d: d.replace(b"XN01", b"XN99"), "XN01"),
    ],
)
def test_damage_is_told_with_its_cause(
    whole: bytes, damage: Callable[[bytes], bytes], cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.pte"
    path.write_bytes(damage(whole))
    runtime = ExecuTorchFormat()
    with pytest.raises(InputError, match=cause) as caught:
        runtime.adopt(path, HERE)
    assert "damaged.pte" in caught.value.message and caught.value.fix


def test_too_much_memory_is_refused_with_the_way_out(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.pte"
    path.write_bytes(whole)
    planned = read_pte(path).forward.planned_bytes  # type: ignore[union-attr]
    monkeypatch.setattr(executorch_program, "MAX_PLANNED_BYTES", planned - 1)
    with pytest.raises(InputError, match="smaller resolution"):
        read_pte(path)


def test_a_buffer_of_terabytes_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "huge.pte"
    path.write_bytes(whole)
    planned = read_pte(path).forward.planned_bytes  # type: ignore[union-attr]
    sizes = struct.pack("<Iqq", 2, 0, planned)
    assert whole.count(sizes) == 1
    path.write_bytes(whole.replace(sizes, struct.pack("<Iqq", 2, 0, 2**42)))
    with pytest.raises(InputError, match="of memory, more than"):
        read_pte(path)


def _open(folder: Path, files: list[bytes]) -> list[str]:
    """Loads and runs each file that the reader lets through; what became of each."""
    outcomes = []
    for data in files:
        path = folder / "m.pte"
        path.write_bytes(data)
        runtime = ExecuTorchFormat()
        try:
            artifact = runtime.adopt(path, HERE)
            list(runtime.run(artifact, [np.zeros((1, 3, 8, 8), np.uint8)]))
            outcomes.append("runs")
        except EdgedistillError as error:
            assert error.message
            outcomes.append("refused")
    return outcomes


def test_flipped_bytes_are_refused_or_harmless(whole: bytes, tmp_path: Path) -> None:
    """One byte of the program or of the delegate's payload changed at random places: an error of ours or numbers, and no
    crash of the runtime."""
    generator = np.random.default_rng(1)
    program_bytes = struct.unpack_from("<Q", whole, 16)[0]
    payload = whole.index(b"XH00")
    files = []
    places = (generator.integers(0, program_bytes, 150), generator.integers(payload, payload + 1000, 150))
    for place in np.concatenate(places):
        changed = bytearray(whole)
        changed[place] ^= int(generator.integers(1, 256))
        files.append(bytes(changed))
    outcomes = in_child("opening damaged programs", Limits(seconds=120, memory_bytes=4 * 2**30), _open, tmp_path, files)
    assert len(outcomes) == len(files) and outcomes.count("refused") > 20


def _list_of(table: int, at: int, count: int) -> bytes:
    """A list at `at` of so many times the table at `table`."""
    return struct.pack("<I", count) + b"".join(struct.pack("<I", table - (at + 4 + 4 * i)) for i in range(count))


def test_a_small_file_cannot_stand_for_endless_work() -> None:
    """A list of a thousand times one table with a list of a thousand times another: a million tables in 8 KiB."""
    count, layout, first = 1000, 8, 16
    second = first + 12 + 4 * count
    third = second + 12 + 4 * count
    data = struct.pack("<I4s", first, b"LOOP") + struct.pack("<HHHxx", 6, 8, 4)
    for place, inner in ((first, second), (second, third)):
        data += struct.pack("<iI", place - layout, 4) + _list_of(inner, place + 8, count)
    data += struct.pack("<iI", third - layout, 4) + struct.pack("<I", 0)
    root = Buffer(data, b"LOOP").root()
    with pytest.raises(Damaged, match="without end"):
        for table in root.tables(0):
            table.tables(0)
