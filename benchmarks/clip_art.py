"""Clip art as a data set of pictures: Debian's package openclipart-png, a class for each of its large folders.

    python benchmarks/clip_art.py /usr/share/openclipart/png --out CLIP_ART

Classes are the folders with at least LEAST pictures, without the two that gather what fits nowhere. A picture that is there
twice is taken once, and not at all where its classes differ. Pictures above LIMIT pixels are left out. The others are
copied as they are, with their transparency: a build puts them on `[data] background`, white by default. A build file for
it, with weights of ImageNet (timm's efficientnet_lite0):

    [teacher]
    model = "timm:efficientnet_lite0"
    checkpoint = "lite0.pth"
    resolution = 96
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]
    fit = { epochs = 10 }

    [data]
    source = "folder"
    path = "CLIP_ART"
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image

LEAST: Final = 200
LIMIT: Final = 40_000_000
MIXED: Final = ("special", "unsorted")


def distinct(folder: Path) -> Iterator[Path]:
    """The pictures of a class's folders, each content once; none that another class has too."""
    seen: dict[str, Path] = {}
    elsewhere: set[str] = set()
    for path in sorted(folder.rglob("*.png")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        first = seen.setdefault(content, path)
        if class_of(first, folder) != class_of(path, folder):
            elsewhere.add(content)
    yield from (path for content, path in seen.items() if content not in elsewhere)


def class_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[0]


def small(path: Path) -> bool:
    """Whether the picture is within the limit."""
    with Image.open(path) as picture:
        return picture.width * picture.height <= LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    # The limit is this script's own: PIL's would end it.
    Image.MAX_IMAGE_PIXELS = None
    chosen = list(distinct(arguments.pictures))
    counts = Counter(class_of(path, arguments.pictures) for path in chosen)
    classes = sorted(name for name, count in counts.items() if count >= LEAST and name not in MIXED)
    written: Counter[str] = Counter()
    for name in classes:
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
        members = [path for path in chosen if class_of(path, arguments.pictures) == name]
        for number, path in enumerate(members):
            if small(path):
                shutil.copyfile(path, arguments.out / name / f"{number:04}.png")
                written[name] += 1
    print(f"{written.total():,} pictures: {', '.join(f'{name} {count:,}' for name, count in written.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
