"""Where a key stands in a TOML text. The standard library's parser keeps no positions, so this reads headers and keys
itself, of a text that `tomllib` has already accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(?P<open>\[\[?)\s*(?P<key>{_KEY})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*(?P<key>{_KEY})\s*=")
_TOKEN = re.compile(
    r'"""(?:\\.|(?!""").)*"{3,5}' + r"|'''(?:(?!''').)*'{3,5}" + r"""|"(?:[^"\\]|\\.)*"|'[^']*'|#[^\n]*|[\[\]{}]|\n""",
    re.DOTALL,
)


def line_of(text: str, location: Sequence[str | int]) -> int:
    """Line (1-based) of the deepest key of `location` that stands in `text`; 1 where none does.

    `location` are keys and, in arrays of tables, indices: `("published", 1, "latency_ms")`. A key or an item inside an
    inline table or array is found on the line on which that value's own key stands.
    """
    wanted = list(location)
    found = [(number, len(path)) for number, path in _keys(text) if path == wanted[: len(path)]]
    line, _ = max(found, key=lambda key: key[1], default=(1, 0))  # of several that are as deep, the first
    return line


def _keys(text: str) -> Iterator[tuple[int, list[str | int]]]:
    """Each header and assignment at the top level of the text: its line and its full path."""
    table: list[str | int] = []
    arrays: dict[tuple[str | int, ...], int] = {}
    for number, statement in _statements(text):
        if header := _HEADER.match(statement):
            table = []
            parts = _parts(header["key"])
            for position, part in enumerate(parts):
                table.append(part)
                if header["open"] == "[[" and position == len(parts) - 1:
                    arrays[tuple(table)] = arrays.get(tuple(table), -1) + 1
                if tuple(table) in arrays:
                    table.append(arrays[tuple(table)])
            if isinstance(table[-1], int):
                yield number, table[:-1]
            yield number, list(table)
        elif assignment := _ASSIGNMENT.match(statement):
            yield number, [*table, *_parts(assignment["key"])]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The text cut at newlines that end a statement, not at those inside a string or a bracket, with the line of each."""
    start, depth, line = 0, 0, 1
    first_line = 1
    for token in _TOKEN.finditer(text):
        found = token[0]
        line += found.count("\n")
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        elif found == "\n" and depth == 0:
            yield first_line, text[start : token.start()]
            start, first_line = token.end(), line
    yield first_line, text[start:]


def _parts(key: str) -> list[str]:
    """The parts of a dotted key without their quotes."""
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, key)]
