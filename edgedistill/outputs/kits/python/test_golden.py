"""Whether this machine gives the answers of the one that built the model. Run: python -m unittest"""

from __future__ import annotations

import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np
from classifier import MODEL, Model
from PIL import Image


class Golden(unittest.TestCase):
    def test_each_golden_picture_gives_the_golden_outputs(self) -> None:
        model = Model()
        golden = json.loads(model.read(model.contract["golden"]))
        expected = golden["files"][model.name]
        for picture, outputs in zip(golden["pictures"], expected["outputs"], strict=True):
            with self.subTest(picture["file"]):
                with Image.open(MODEL / picture["file"]) as opened:
                    prepared = model.prepare(opened)
                wanted = np.asarray(Image.open(MODEL / picture["prepared"])).astype(int)
                self.assertLessEqual(int(np.abs(prepared.astype(int) - wanted).max()), 1)
                difference = float(np.abs(model.run(prepared) - np.array(outputs)).max())
                self.assertLessEqual(difference, expected["tolerance"])

    def test_a_file_that_was_changed_is_refused(self) -> None:
        for name in ("SHA256SUMS", "contract.json", Model().name):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copytree(MODEL, Path(folder) / "model"))
                content = bytearray((copy / name).read_bytes())
                content[len(content) // 2] ^= 1
                (copy / name).write_bytes(content)
                with self.assertRaises(ValueError):
                    Model(copy)


if __name__ == "__main__":
    unittest.main()
