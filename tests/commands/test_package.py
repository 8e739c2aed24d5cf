"""`package verify` finds whatever is not as it was built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_package import small_package

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.documents.answers import PackageVerifyResult
from edgedistill.outputs.package.integrity import write_sums


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("small"))


@pytest.fixture
def package(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "out" / "package"))


def files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.is_file())


def test_a_whole_package_is_ok(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["package", "verify", str(package.parent), "--json"]) == 0
    found = PackageVerifyResult.model_validate_json(capsys.readouterr().out)
    assert found.ok and found.files == len(files(package)) and len(found.verified) == 2
    assert all(one.ok and one.parity is not None and one.parity.max_abs_error < 1e-3 for one in found.verified)
    assert run(["package", "verify", str(package)]) == 0
    assert "package: ok, " in capsys.readouterr().out.replace("\n", "")


def test_a_flipped_bit_a_missing_and_a_further_file_are_found(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in files(package):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert not api.verify_package(package).ok, f"{path} at {place}"
        path.unlink()
        failures = api.verify_package(package).failures
        assert len(failures) == 1 and failures[0].endswith(" is missing"), path
        path.write_bytes(content)
    for folder in sorted({path.parent for path in files(package)}):
        (folder / "more.txt").write_text("")
        (failure,) = api.verify_package(package).failures
        assert failure.endswith("more.txt is not of the package")
        (folder / "more.txt").unlink()
    assert api.verify_package(package).ok
    (package / "labels.txt").write_text("ant\n")
    capsys.readouterr()
    assert run(["package", "verify", str(package)]) == 2
    assert "SHA-256 differs" in capsys.readouterr().out.replace("\n", " ")


def edited(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _black(document: Any) -> None:
    document["preparation"][1]["background"] = [0, 0, 0]


def _swapped(document: Any) -> None:
    document["labels"] = [document["labels"][1], document["labels"][0], *document["labels"][2:]]


def _cropped(document: Any) -> None:
    document["preparation"].insert(2, {"step": "crop", "to": "center_square"})


def _larger(document: Any) -> None:
    document["input"] |= {"width": 32, "height": 32}


def _colder(document: Any) -> None:
    for file in document["files"].values():
        file["temperature"] = 1.0


def _surer(document: Any) -> None:
    for file in document["files"].values():
        file["none_below"] = 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_black, "preparation differ"),
        (_swapped, "labels"),
        (_cropped, "preparation differ"),
        (_larger, "input differ"),
        (_colder, "another temperature or threshold"),
        (_surer, "another temperature or threshold"),
    ],
)
def test_a_contract_that_was_edited_with_its_hash_is_found(
    package: Path, change: Callable[[Any], None], told: str
) -> None:
    edited(package / "contract.json", change)
    write_sums(package)
    failures = api.verify_package(package).failures
    assert failures and all(told in failure for failure in failures)


def test_labels_golden_data_and_a_file_that_were_edited_with_their_hashes_are_found(package: Path) -> None:
    names = (package / "labels.txt").read_text()
    (package / "labels.txt").write_text("bee\nant\ncat\ndog\n")
    write_sums(package)
    (failure,) = api.verify_package(package).failures
    assert failure == "labels.txt has other labels than contract.json"
    (package / "labels.txt").write_text(names)

    prepared = package / "golden" / "prepared-001.png"
    pixels = np.asarray(Image.open(prepared)).copy()
    Image.fromarray(pixels[..., ::-1]).save(prepared)
    write_sums(package)
    assert any("prepared-001.png is not what the contract makes" in f for f in api.verify_package(package).failures)
    Image.fromarray(pixels).save(prepared)

    def moved(document: Any) -> None:
        recorded = document["files"]["student-fp32.onnx"]
        recorded["outputs"][0][0] += 2 * recorded["tolerance"]

    edited(package / "golden" / "golden.json", moved)
    write_sums(package)
    (failure,) = api.verify_package(package).failures
    assert failure.startswith("student-fp32.onnx: its logits differ from those recorded") and "allows" in failure


def test_none_of_a_hundred_random_edits_goes_unnoticed(whole: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def spoil(package: Path) -> str:
        there = files(package)
        path, other = (there[int(n)] for n in rng.choice(len(there), 2, replace=False))
        content, what = bytearray(path.read_bytes()), int(rng.integers(7))
        place = int(rng.integers(len(content)))
        if what == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif what == 1:
            del content[place]
        elif what == 2:
            content.insert(place, int(rng.integers(256)))
        elif what == 3:
            content = content[:place]
        elif what == 4:
            path.rename(path.with_name(f"{path.name}x"))
            return f"{path} renamed"
        elif what == 5:
            path.unlink()
            return f"{path} removed"
        elif (spare := other.read_bytes()) != bytes(content):
            content = bytearray(spare)
        else:
            content += b"\n"
        path.write_bytes(content)
        return f"{path} in way {what}"

    for number in range(100):
        copy = Path(shutil.copytree(whole, tmp_path / str(number)))
        how = spoil(copy)
        assert not api.verify_package(copy).ok, how
        shutil.rmtree(copy)


def test_a_folder_that_is_no_package_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no package"):
        api.verify_package(tmp_path)
    assert run(["package", "verify", str(tmp_path / "nowhere")]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels_file": "other.txt"}, "other.txt has other labels"),
        ({"labels_file": "../labels.txt"}, "lies outside the package"),
        ({"golden": "nowhere.json"}, "nowhere.json cannot be read: it is missing"),
        ({"schema_version": 1}, "schema_version: Input should be 2"),
        ({"files": {}}, "recommended are files that the package does not have"),
        ({"preparation": [{"step": "paint"}]}, "does not match any of the expected tags"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_told_and_no_crash(
    package: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], told: str
) -> None:
    edited(package / "contract.json", lambda document: document.update(change))
    write_sums(package)
    assert run(["package", "verify", str(package)]) == 2
    said = capsys.readouterr()
    assert told in " ".join((said.out + said.err).split()) and "Traceback" not in said.err
