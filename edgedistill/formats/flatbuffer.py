"""Flatbuffers read with every offset checked: what a hostile file can cause here is `Damaged`, never a crash.

A table is a position in the bytes; its vtable says where each field lies. Fields are asked for by number in the order of the
schema (a union takes two: its type, then its value). Offsets may point to one table from many places, so that a small file
can stand for endless work: a reader counts the tables that it opens and stops at as many as the file could really hold.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST_TABLE = 4


class Damaged(Exception):
    """What is wrong with the bytes."""


class Buffer:
    """Bytes of one flatbuffer. `identifier` is what files of its kind hold in bytes 4 to 7. Every method raises Damaged."""

    def __init__(self, data: bytes, identifier: bytes) -> None:
        if len(data) < 8 or data[4:8] != identifier:
            raise Damaged(f"begins with {bytes(data[4:8])!r} where {identifier!r} is expected")
        self.data = data
        self._tables_left = len(data) // _SMALLEST_TABLE

    def root(self) -> Table:
        """The table that holds all others."""
        return self.table(self.follow(0))

    def number(self, kind: str, position: int) -> int:
        """The whole number of struct's `kind` at `position`."""
        size = struct.calcsize(kind)
        if not 0 <= position <= len(self.data) - size:
            raise Damaged(f"an offset points to byte {position} of {len(self.data)}")
        value: int = struct.unpack_from(kind, self.data, position)[0]
        return value

    def follow(self, position: int) -> int:
        """Where the offset that stands at `position` points to."""
        return position + self.number("<I", position)

    def table(self, start: int) -> Table:
        """The table at byte `start`."""
        self._tables_left -= 1
        if self._tables_left < 0:
            raise Damaged("its tables refer to one another without end")
        vtable = start - self.number("<i", start)
        length = self.number("<H", vtable)
        if length < 4 or length % 2 or vtable + length > len(self.data):
            raise Damaged(f"the table at byte {start} has no layout")
        return Table(self, start, vtable, length)


@dataclass(frozen=True)
class Table:
    """One table of a Buffer."""

    buffer: Buffer
    start: int
    vtable: int
    length: int

    def _at(self, field: int) -> int | None:
        """Position of a field, None where it is absent."""
        slot = 4 + 2 * field
        if slot + 2 > self.length:
            return None
        offset = self.buffer.number("<H", self.vtable + slot)
        return self.start + offset if offset else None

    def integer(self, field: int, kind: str = "<I") -> int:
        """A whole number of struct's `kind`, 0 where it is absent."""
        at = self._at(field)
        return 0 if at is None else self.buffer.number(kind, at)

    def table(self, field: int) -> Table | None:
        """A table, None where it is absent."""
        at = self._at(field)
        return None if at is None else self.buffer.table(self.buffer.follow(at))

    def union(self, field: int) -> tuple[int, Table | None]:
        """Type and value of a union whose type is at `field`."""
        return self.integer(field, "<B"), self.table(field + 1)

    def text(self, field: int) -> str:
        """A string, empty where it is absent."""
        try:
            return self.octets(field).decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"a string is not text: {error}") from error

    def octets(self, field: int) -> bytes:
        """A vector of bytes or a string's."""
        begin, count = self._vector(field, 1)
        return self.buffer.data[begin : begin + count]

    def numbers(self, field: int, dtype: str) -> NDArray[np.int64]:
        """A vector of whole numbers of NumPy's `dtype`, as int64."""
        begin, count = self._vector(field, np.dtype(dtype).itemsize)
        values = np.frombuffer(self.buffer.data, dtype, count, begin)
        if dtype == "<u8" and values.size and values.max() > np.iinfo(np.int64).max:
            raise Damaged(f"a size or offset is {values.max()}")
        return values.astype(np.int64)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where it is absent."""
        begin, count = self._vector(field, 4)
        return [self.buffer.table(self.buffer.follow(begin + 4 * index)) for index in range(count)]

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """First byte and number of elements, none where it is absent."""
        at = self._at(field)
        if at is None:
            return 0, 0
        start = self.buffer.follow(at)
        count = self.buffer.number("<I", start)
        if start + 4 + count * size > len(self.buffer.data):
            raise Damaged(f"a list at byte {start} has {count} elements, more than the file")
        return start + 4, count
