"""Parse and format quantities: ms, bytes, percent, colours. Nowhere else in the package does either."""

from __future__ import annotations

import math
import re

from edgedistill.base.errors import InputError

_NUMBER = r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf|nan)"
_MS_PER_UNIT = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "m": 6e4, "h": 3.6e6}
_LATENCY_UNITS = {unit: ms for unit, ms in _MS_PER_UNIT.items() if unit != "m"}
_CLOCK = re.compile(r"(?:(?P<h>\d+)\s*h)?\s*(?:(?P<m>\d+)\s*m(?:in)?)?\s*(?:(?P<s>\d+)\s*s)?")
Color = tuple[int, int, int]
"""Red, green and blue, each in 0..255."""

_COLORS: dict[str, Color] = {"white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}
_BYTES_PER_UNIT = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration_ms(text: str) -> float:
    """`"500ms"`, `"90s"`, `"4m"`, `"1h30m"` to milliseconds, positive and finite. Raises InputError otherwise."""
    examples = "5ms, 90s, 4m or 1h30m"
    clock = _CLOCK.fullmatch(text.strip())
    parts = {unit: number for unit, number in clock.groupdict().items() if number} if clock else {}
    if len(parts) < 2:
        return _positive(text, _MS_PER_UNIT, "a duration", examples)
    return _checked(sum(float(number) * _MS_PER_UNIT[unit] for unit, number in parts.items()), text, examples)


def parse_latency_ms(text: str) -> float:
    """`"5ms"`, `"800us"`, `"0.2s"` to milliseconds, positive and finite. Raises InputError otherwise, and for `"5m"`: no
    network takes minutes, and it is a slip of `"5ms"`."""
    return _positive(text, _LATENCY_UNITS, "a duration", "5ms, 800us or 0.2s")


def parse_bytes(text: str) -> int:
    """`"512MiB"`, `"8GB"` to bytes, positive and finite. Raises InputError otherwise."""
    return round(_positive(text, _BYTES_PER_UNIT, "a size", "512MiB or 8GB"))


def parse_fraction(text: str) -> float:
    """`"20%"` to 0.2. Any finite value; the caller bounds it. Raises InputError otherwise."""
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if not match or not math.isfinite(float(match["number"])):
        raise InputError(f"{text!r} is not a percentage", fix="write it like 20%")
    return float(match["number"]) / 100


def parse_color(text: str) -> Color:
    """`"white"`, `"grey"`, `"black"` or `"#rrggbb"` to red, green and blue in 0..255. Raises InputError otherwise."""
    text = text.strip().lower()
    if text in _COLORS:
        return _COLORS[text]
    if not re.fullmatch(r"#[0-9a-f]{6}", text):
        raise InputError(f"{text!r} is not a colour", fix=f"write {', '.join(_COLORS)} or a value like #f0f0f0")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def format_color(colour: Color) -> str:
    """As `parse_color` reads it: `white`, `#f0f0f0`."""
    names = {value: name for name, value in _COLORS.items()}
    return names.get(colour, f"#{bytes(colour).hex()}")


def _positive(text: str, units: dict[str, float] | dict[str, int], what: str, examples: str) -> float:
    match = re.fullmatch(_NUMBER + r"\s*(?P<unit>[a-zA-Zµ]*)", text.strip())
    if not match:
        raise InputError(f"{text!r} is not {what}", fix=f"write it like {examples}")
    if match["unit"] not in units:
        unit = f"unknown unit {match['unit']!r}" if match["unit"] else "no unit"
        raise InputError(f"{text!r} has {unit}", fix=f"write it like {examples}")
    return _checked(float(match["number"]) * units[match["unit"]], text, examples)


def _checked(value: float, text: str, examples: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{text!r} must be above zero and finite", fix=f"write it like {examples}")
    return value


def format_ms(value_ms: float) -> str:
    """Milliseconds with three significant digits: `0.0812 ms`, `12.3 ms`, `1.50 s`."""
    if value_ms >= 1000:
        return f"{value_ms / 1000:.2f} s"
    decimals = 0 if value_ms >= 100 else 1 if value_ms >= 10 else 2 if value_ms >= 1 else 3 if value_ms >= 0.1 else 4
    return f"{value_ms:.{decimals}f} ms"


def format_bytes(value: int) -> str:
    """Bytes in binary units: `812 B`, `45.2 KiB`, `3.1 MiB`."""
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def format_percent(fraction: float, decimals: int = 1) -> str:
    """A fraction of one as a percentage: 0.9734 to `97.3%`."""
    return f"{fraction * 100:.{decimals}f}%"


def format_seconds(seconds: float) -> str:
    """A span that a person waits: `0.4 s`, `42 s`, `3 min 10 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def beginning(text: str) -> str:
    """Text as it begins a sentence: its first letter a capital, the others as they are."""
    return text[:1].upper() + text[1:]
