"""A data set of many classes from the fonts of a folder: letters with and without accents, in MNIST's file format.

    pip install fonttools
    apt-get download $(apt-cache search --names-only '^fonts-' | cut -d' ' -f1); for f in *.deb; do dpkg -x $f FONTS; done
    python benchmarks/glyphs.py FONTS --out GLYPHS

A class is a letter or digit of Basic Latin, Latin-1 or Latin Extended-A that FAMILIES font families have. An image is
SIDE pixels high and wide, drawn by FreeType at SIZE pixels on one baseline, so that upper and lower case differ in size.
Fonts without all letters of Basic Latin are left out, those that draw some of them alike, and those whose letters another
font has to the pixel. The test split has the families whose names' hashes say so: fonts that no training image shows.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import string
import struct
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE: Final = 28
SIZE: Final = 20
BASELINE: Final = 21
FAMILIES: Final = 60
TEST_SHARE: Final = 0.2
BASIC: Final = string.digits + string.ascii_letters
PROBE: Final = "AaGgRe08"
LETTERS: Final = BASIC + "".join(
    chr(code) for code in range(0xC0, 0x180) if unicodedata.category(chr(code)) in ("Lu", "Ll")
)


@dataclass(frozen=True, eq=False)
class Font:
    """What a font file draws: by letter uint8 [SIDE, SIDE]. `family` is the first word of its family's name."""

    family: str
    glyphs: Mapping[str, NDArray[np.uint8]]

    @property
    def tests(self) -> bool:
        """Whether its images are of the test split."""
        return int(hashlib.sha256(self.family.encode()).hexdigest(), 16) % 1000 < 1000 * TEST_SHARE


def open_font(path: Path) -> Font | None:
    """The font in a file; None where it is no font for Latin text."""
    try:
        with TTFont(path, lazy=True, fontNumber=0) as file:
            found, family = file.getBestCmap() or {}, str(file["name"].getBestFamilyName() or path.stem)
        font = ImageFont.truetype(str(path), SIZE)
    except (TTLibError, OSError, KeyError, AssertionError, struct.error):
        return None
    if not all(ord(letter) in found for letter in BASIC):
        return None
    glyphs = {letter: draw(font, letter) for letter in LETTERS if ord(letter) in found}
    if len({glyphs[letter].tobytes() for letter in PROBE}) < len(PROBE):
        return None
    return Font(family.split()[0].lower(), {letter: glyph for letter, glyph in glyphs.items() if glyph.any()})


def draw(font: ImageFont.FreeTypeFont, letter: str) -> NDArray[np.uint8]:
    """uint8 [SIDE, SIDE], white on black, in the middle from left to right; what does not fit is cut."""
    canvas = Image.new("L", (3 * SIDE, SIDE))
    ImageDraw.Draw(canvas).text((SIDE, BASELINE), letter, fill=255, font=font, anchor="ls")
    box = canvas.getbbox()
    left = 0 if box is None else min(max((box[0] + box[2] - SIDE) // 2, 0), 2 * SIDE)
    return np.asarray(canvas)[:, left : left + SIDE]


def distinct(paths: Iterable[Path]) -> list[Font]:
    """The fonts of the files, without those that draw as another one does."""
    found: dict[bytes, Font] = {}
    for path in paths:
        font = open_font(path)
        if font is not None:
            found.setdefault(b"".join(font.glyphs[letter].tobytes() for letter in PROBE), font)
    return list(found.values())


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """A file of MNIST's format."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header + values.tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    fonts = distinct(sorted(p for p in arguments.fonts.rglob("*") if p.suffix.lower() in (".ttf", ".otf")))
    families: dict[str, set[str]] = defaultdict(set)
    for font in fonts:
        for letter in font.glyphs:
            families[letter].add(font.family)
    classes = [letter for letter in LETTERS if len(families[letter]) >= FAMILIES]
    if not classes:
        parser.error(f"{arguments.fonts} has too few fonts: no letter is in {FAMILIES} families")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for name, tests in (("train", False), ("t10k", True)):
        chosen = [(font.glyphs[c], number) for font in fonts if font.tests is tests
                  for number, c in enumerate(classes) if c in font.glyphs]  # fmt: skip
        images = np.stack([glyph for glyph, _ in chosen])
        write_idx(arguments.out / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(arguments.out / f"{name}-labels-idx1-ubyte.gz", np.array([label for _, label in chosen], np.uint8))
        count = len({font.family for font in fonts if font.tests is tests})
        print(f"{name}: {len(images):,} images of {len(classes)} letters from {count} families of fonts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
