"""What stands beside an engine: it cannot be read back without its GPU, so its builder's record and the contract travel
apart."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgedistill.base.errors import InputError
from edgedistill.base.store import file_sha256
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Contract, Format, Frozen
from edgedistill.formats.format import Opened

RECORDED = ("builder", "capabilities", "onnx_sha256")
"""What the record of every engine says; an engine without it cannot be read."""
_LARGEST_RECORD_BYTES = 16 * 2**20
_BUILD_AGAIN = "build it again"


class EngineRecord(Frozen):
    """The file `NAME.engine.json`."""

    artifact: CompiledArtifact
    contract: Contract | None


def engine_record(opened: Opened, name: str) -> str:
    """The record of an engine that will be called `name`, as JSON."""
    artifact = opened.artifact.model_copy(update={"path": Path(name)})
    return EngineRecord(artifact=artifact, contract=opened.contract).model_dump_json(indent=1) + "\n"


def open_engine(path: Path) -> Opened:
    """An engine by the record beside it. Raises InputError where that is missing, or tells of another file."""
    beside = path.with_name(path.name + ".json")
    try:
        if beside.stat().st_size > _LARGEST_RECORD_BYTES:
            raise InputError(f"{beside} is far too large for an engine's record", fix=_BUILD_AGAIN)
        record = EngineRecord.model_validate_json(beside.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"an engine tells nothing without its GPU, and its record {beside.name} is not beside it",
            fix="keep NAME.engine.json with the engine, or look at the ONNX file it was built from",
        ) from None
    except (OSError, ValidationError) as error:
        reason = first_fault(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{beside} is not an engine's record: {reason}", fix=_BUILD_AGAIN) from error
    missing = [name for name in RECORDED if not record.artifact.record.get(name)]
    if record.artifact.format is not Format.TENSORRT or missing:
        what = f"it leaves out {', '.join(missing)}" if missing else f"it tells of a file in {record.artifact.format}"
        raise InputError(f"{beside} is not an engine's record: {what}", fix=_BUILD_AGAIN)
    if record.artifact.sha256 != file_sha256(path):
        raise InputError(f"{path} is not the engine that {beside.name} tells of: its SHA-256 differs", fix=_BUILD_AGAIN)
    return Opened(record.artifact.model_copy(update={"path": path}), record.contract)
