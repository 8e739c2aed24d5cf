"""The golden data of a package, read to be replayed. A package is foreign: nothing outside it is read, and sizes are
bounded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError
from edgedistill.data.images import check_image, read_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.documents.package import GoldenDocument, GoldenOutputs, Manifest, PackageContract
from edgedistill.documents.specs import ComputedBy, Contract
from edgedistill.outputs.package.package import CONTRACT, MANIFEST

MOST_BYTES: Final = 256 * 2**20
"""A larger document is not read."""
Document = TypeVar("Document", bound=BaseModel)
_FIX: Final = "build the package again, with this version of edgedistill"


@dataclass(frozen=True, eq=False)
class Replay:
    """Prepared golden pictures, uint8 [N, 3, R, R], with the outputs that a file should give for them, float32 [N, width];
    each may be off by `tolerance` (see `GoldenOutputs`)."""

    images: Images
    outputs: Logits
    tolerance: float
    computed_by: ComputedBy


def read_contract(package: Path) -> PackageContract:
    """`contract.json` of the package. Raises FileNotFoundError without one, InputError for one that cannot be read."""
    return _read(package / CONTRACT, PackageContract)


def read_manifest(package: Path) -> Manifest:
    """`manifest.json` of the package. Raises as `read_contract` does."""
    return _read(package / MANIFEST, Manifest)


def read_golden(package: Path) -> GoldenDocument:
    """`golden/golden.json` of the package, as its contract names it. Raises FileNotFoundError without a contract, InputError
    for what cannot be read."""
    path = inside(package, read_contract(package).golden)
    try:
        return _read(path, GoldenDocument)
    except FileNotFoundError as error:
        raise _unreadable(path, "it is missing") from error


def replay_of(package: Path, name: str, contract: Contract) -> Replay | None:
    """The golden pictures through `contract`, that of the file called `name`, and what it should give for them. None where
    the folder is no package, or has no outputs of it. Raises InputError for golden data that cannot be read."""
    try:
        golden = read_golden(package)
    except FileNotFoundError:
        return None
    if (recorded := golden.files.get(name)) is None:
        return None
    images = [prepared(package, picture.file, contract) for picture in golden.pictures]
    outputs = _outputs(package, recorded, (len(images), contract.width))
    return Replay(np.stack(images), outputs, recorded.tolerance, recorded.computed_by)


def prepared(package: Path, name: str, contract: Contract) -> Images:
    """A golden picture through the contract, uint8 [3, R, R]. Raises InputError for one that cannot be used."""
    path = inside(package, name)
    if fault := (check_image(path).fault if path.is_file() else "is missing"):
        raise _unreadable(path, f"it {fault}")
    return resize(read_rgb(path, contract.background), contract)


def inside(package: Path, name: str) -> Path:
    """A file of the package. Raises InputError for a name that leads out of it."""
    path = (package / name).resolve()
    if not path.is_relative_to(package.resolve()):
        raise InputError(f"{package} cannot be read: {name!a} lies outside the package", fix=_FIX)
    return path


def _outputs(package: Path, recorded: GoldenOutputs, wanted: tuple[int, int]) -> Logits:
    widths = {len(row) for row in recorded.outputs}
    if not recorded.outputs or (len(recorded.outputs), *widths) != wanted:
        found = f"{len(recorded.outputs)} outputs of {', '.join(map(str, sorted(widths))) or 'no'} numbers"
        raise _unreadable(package, f"{found} are not {wanted[0]} of {wanted[1]}")
    return np.array(recorded.outputs, np.float32)


def _read(path: Path, model: type[Document]) -> Document:
    try:
        return model.model_validate_json(_bounded(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise _unreadable(path, f"{where}: {first['msg']}") from error


def _bounded(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise _unreadable(path, f"it has {size} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be read: {why}", fix=_FIX)
