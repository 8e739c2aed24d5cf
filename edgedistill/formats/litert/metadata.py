"""What a LiteRT file tells of itself in TFLite Metadata, as MediaPipe's tasks and Android Studio read it: what it takes and
gives, how pixels are normalised, and the labels, which lie behind the model in the same file as an archive.

The fields and their numbers are those of TFLite Metadata's schema, metadata_schema.fbs, which MediaPipe carries.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgedistill.documents.specs import Contract
from edgedistill.formats.carried import labels_text
from edgedistill.formats.format import ModelMetadata

ENTRY: Final = "TFLITE_METADATA"
"""The name of the entry among the model's own metadata."""
LABELS: Final = "labels.txt"
_IDENTIFIER: Final = b"M001"
_PARSER: Final = "1.0.0"
_RGB, _IMAGE, _NORMALISATION, _AXIS_LABELS = 1, 2, 1, 2
"""Numbers of the schema: a colour space, a kind of content, a step of processing, a kind of file."""


def tflite_metadata(metadata: ModelMetadata) -> bytes:
    """The metadata as a flatbuffer of its own."""
    import flatbuffers

    write = _Writer(flatbuffers.Builder(1024))
    contract, about = metadata.contract, metadata.about
    of_classes = contract.vector is None
    labels = [write.table(write.text(LABELS), write.text("a class a line"), write.byte(_AXIS_LABELS))]
    outputs = write.table(
        write.text(contract.output_name),
        write.text(contract.output_said),
        *[None] * 4,
        write.tables(labels if of_classes else []),
    )
    graph = write.table(None, None, write.tables([_image(write, contract)]), write.tables([outputs]))
    root = write.table(
        write.text(metadata.name),
        write.text(metadata.description),
        write.text(about.version),
        write.tables([graph]),
        write.text(about.author),
        write.text(about.license),
        None,
        write.text(_PARSER),
    )
    write.builder.Finish(root.value, file_identifier=_IDENTIFIER)
    return bytes(write.builder.Output())


def with_labels(model: bytes, contract: Contract) -> bytes:
    """A model with the labels of its classes in an archive behind it, uncompressed and without a date; itself where it has
    no classes."""
    if contract.vector is not None:
        return model
    written = io.BytesIO(model)
    written.seek(0, io.SEEK_END)
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), labels_text(contract.labels))
    return written.getvalue()


def attached_bytes(data: bytes) -> int:
    """How long the archive behind a model is; 0 where there is none that can be read: a foreign file may end in anything."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            first = min((entry.header_offset for entry in archive.infolist()), default=len(data))
    # A damaged entry may say a name that is not UTF-8, or a version that zipfile does not know.
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError):
        return 0
    return max(0, len(data) - first)


def _image(write: _Writer, contract: Contract) -> _Field:
    """The input: an RGB image of bytes. The mean of 0 and the deviation of 1 say that pixels go in as they are."""
    side = contract.resolution
    size = write.table(write.number(side), write.number(side))
    content = write.table(write.byte(_IMAGE), write.table(write.byte(_RGB), size))
    normalisation = write.table(write.floats([0.0]), write.floats([1.0]))
    return write.table(
        write.text(contract.input_name),
        write.text(f"RGB image, {side} x {side}, values 0 to 255; the model normalises them itself"),
        None,
        content,
        write.tables([write.table(write.byte(_NORMALISATION), normalisation)]),
        write.table(write.floats([255.0]), write.floats([0.0])),
    )


class _Field:
    """A value of a table: how its slot is written."""

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, value


class _Writer:
    """Tables from the inside out, as a flatbuffer is written. A union takes two slots: its kind, and its table."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def text(self, text: str) -> _Field | None:
        return _Field("UOffsetTRelative", self.builder.CreateString(text)) if text else None

    def byte(self, value: int) -> _Field:
        return _Field("Uint8", value)

    def number(self, value: int) -> _Field:
        return _Field("Uint32", value)

    def floats(self, values: Sequence[float]) -> _Field:
        return _Field("UOffsetTRelative", self.builder.CreateNumpyVector(np.array(values, np.float32)))

    def tables(self, tables: Sequence[_Field]) -> _Field | None:
        """A vector of tables; none where it would be empty."""
        if not tables:
            return None
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table.value)
        return _Field("UOffsetTRelative", self.builder.EndVector())

    def table(self, *fields: _Field | None) -> _Field:
        """A table of these fields, in the order of the schema; None leaves one out."""
        self.builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if field is not None:
                getattr(self.builder, f"Prepend{field.kind}Slot")(slot, field.value, 0)
        return _Field("UOffsetTRelative", self.builder.EndObject())
