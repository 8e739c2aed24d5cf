"""Forty pictures in four classes, of every kind that people have, one of them broken: a whole build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Note

DATA = """source = "digits"
limit = 320
split = { validation = 0.1, test = 0.1 }
"""
FOLDER = """source = "folder"
path = "./pictures"
background = "#00ff40"
split = { validation = 0.2, test = 0.2 }
"""
KINDS = ("rgb", "rgba", "grey alpha", "palette", "cmyk", "sixteen bit", "turned", "thin", "animated", "one bit")
COLOURS = {"blue": (30, 60, 220), "brown": (120, 70, 30), "red": (220, 40, 30), "yellow": (230, 220, 40)}


def draw(folder: Path, number: int, colour: tuple[int, int, int], generator: np.random.Generator) -> None:
    """A picture of mostly one colour, of the kind of that number."""
    kind, path = KINDS[number % len(KINDS)], folder / f"{number}.png"
    size = (40 + 3 * number, 33 + number)
    noise = generator.integers(-25, 26, (size[1], size[0], 3))
    picture = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
    if kind == "rgba":
        disc = Image.new("L", size, 0)
        disc.paste(255, (8, 8, size[0] - 4, size[1] - 4))
        picture.putalpha(disc)
    elif kind == "grey alpha":
        picture = picture.convert("LA")
    elif kind == "palette":
        picture = picture.quantize(8)
        picture.info["transparency"] = 0
    elif kind == "cmyk":
        path, picture = path.with_suffix(".jpg"), picture.convert("CMYK")
    elif kind == "sixteen bit":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif kind == "thin":
        picture = picture.resize((1, 300))
    elif kind == "animated":
        picture.save(path.with_suffix(".gif"), save_all=True, append_images=[picture.rotate(180)])
        return
    elif kind == "one bit":
        picture = picture.convert("1")
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    picture.save(path, **({"exif": exif} if kind == "turned" else {}))


@pytest.fixture(scope="session")
def build_file(loop: Any) -> Path:
    path: Path = loop.write("few-pictures", "1000ms", (DATA, FOLDER), *loop.few)
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        folder = path.parent / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(10):
            draw(folder, number, colour, generator)
    (path.parent / "pictures" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return path


def test_a_broken_one_ends_it_unless_it_may_be_left_out(loop: Any, build_file: Path) -> None:
    with pytest.raises(InputError, match=r"broken\.jpg") as caught:
        loop.build(build_file)
    assert "--skip-broken" in str(caught.value)


def test_forty_pictures_make_a_student_and_say_how_little_they_tell(loop: Any, build_file: Path) -> None:
    built = loop.build(build_file, skip_broken=True)
    result = built.result
    assert result.status == "met", result.verdict
    assert (result.data.train + result.data.validation + result.data.test, result.data.classes) == (40, 4)
    warned = [event.text for event in built.events if isinstance(event, Note) and event.warning]
    assert any("1 file is left out: red/broken.jpg" in text for text in warned)
    assert any("the validation split has 8 images, of which one is 12.5 points" in text for text in warned)
    # The palette's first colour and what lies outside of the discs; the alpha of grey ones hides nothing.
    assert any("8 of 41 images are transparent in parts: they are put on #00ff40" in note for note in built.notes)
    assert any("one of them may be lost" in note for note in result.notes)
    assert result.overrides == {"--target": result.overrides["--target"], "--skip-broken": ()}
    contract = json.loads((built.out / "package" / "contract.json").read_text())
    assert contract["preparation"][:2] == [
        {"step": "orient", "by": "exif"},
        {"step": "composite", "background": [0, 255, 64]},
    ]
    assert "put on \\#00ff40" in (built.out / "package" / "MODEL_CARD.md").read_text()
