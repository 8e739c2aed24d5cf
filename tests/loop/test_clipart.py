"""The example of clip art: what its prepare.py makes of packages like the real ones, and its build on that, reduced."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "clipart"
EACH = 9
"""Pictures of each class that are in it alone, and once."""
REDUCED = (
    ("20%@p95", "60%@p95"),
    ("resolution = 96", "resolution = 32"),
    ("{ epochs = 10 }", "{ epochs = 1, head_first = false }"),
    ("flip = true", "flip = true\nviews = 1"),
    ('families = ["mobilenetv4", "efficientnet_lite"]', 'families = ["efficientnet_lite"]'),
    ("resolutions = [48, 64, 96]", "resolutions = [32]\nwidths = [0.25]\ndepths = [0.5]"),
    ("trials = 16", "trials = 2\nprobes = 2\ncandidates = 2\nrungs = [1]\n\n[train]\nrecipe = 'kd'"),
    ('formats = ["onnx", "coreml"]', ""),
    ('precisions = ["fp32", "int8"]', "precisions = ['fp32']\n\n[profile]\npause = '1ms'\n\n#"),
)
"""Fewer pixels, epochs, students and precisions, and the formats of the null device."""

Prepare = Callable[..., int]


@pytest.fixture(scope="session")
def script() -> Any:
    spec = spec_from_file_location("clipart_prepare", EXAMPLE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(path: Path, number: int, kind: int) -> None:
    """A disc on a transparent page: its colour is the class's, its place the number's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:40, :60]
    inside = np.hypot(rows - 12 - number, columns - 15 - 3 * number) < 10
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[inside] = (28 * kind, 255 - 28 * kind, 100 + number, 255)
    Image.fromarray(pixels, "RGBA").save(path)


@pytest.fixture(scope="session")
def packages(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of the clip art, `png`, and packages of random weights whose tensors have names of their own."""
    root = tmp_path_factory.mktemp("packages")
    for kind, name in enumerate(script.CLASSES):
        for number in range(EACH):
            picture(root / "png" / name / ("deeper" if number % 2 else "") / f"{number}.png", number, kind)
    picture(root / "png" / "food" / "crab.png", 30, 0)
    picture(root / "png" / "animals" / "sea" / "crab.png", 30, 0)
    picture(root / "png" / "animals" / "again" / "1.png", 1, 0)
    picture(root / "png" / "unsorted" / "0.png", 0, 0)
    for package, model in script.WEIGHTS.values():
        folder = root / package.replace("-", "_")
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").touch()
        torch.manual_seed(1)
        tensors = timm.create_model(model).state_dict()
        given = {f"_{i}.{name.split('.')[-1]}": tensor for i, (name, tensor) in enumerate(tensors.items())}
        torch.save(given, folder / "models" / f"{model}.pth")
    return root


@pytest.fixture
def prepare(script: Any, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    monkeypatch.syspath_prepend(str(packages))

    def run(out: Path, png: Path = packages / "png", *options: str) -> int:
        code: int = script.main([str(png), "--out", str(out), *options])
        return code

    return run


@pytest.fixture(scope="session")
def prepared(script: Any, packages: Path, loop: Any) -> Path:
    out = Path(loop.root) / "clipart"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(packages))
        assert script.main([str(packages / "png"), "--out", str(out)]) == 0
    return out


def test_each_class_has_its_own_pictures_once(script: Any, packages: Path, prepared: Path) -> None:
    made = {path.name: sorted(link.name for link in path.iterdir()) for path in (prepared / "pictures").iterdir()}
    assert set(made) == set(script.CLASSES) and all(len(names) == EACH for names in made.values())
    assert made["food"] == sorted(f"{'deeper--' if n % 2 else ''}{n}.png" for n in range(EACH)), "no crab"
    one = prepared / "pictures" / "food" / "deeper--1.png"
    assert one.read_bytes() == (packages / "png" / "food" / "deeper" / "1.png").read_bytes()


def test_the_weights_are_those_of_the_packages_under_the_names_of_timm(script: Any, prepared: Path) -> None:
    for name, (_, model) in script.WEIGHTS.items():
        torch.manual_seed(1)
        own, written = timm.create_model(model).state_dict(), load_file(prepared / f"{name}.safetensors")
        assert set(written) == set(own)
        assert all(torch.equal(own[key], written[key]) for key in own)


def test_it_says_what_it_leaves_out_and_all_that_is_missing(
    script: Any, prepare: Prepare, packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path / "out") == 0
    assert "left out: 2 files whose content lies in two classes, 1 further copies" in capsys.readouterr().out
    assert prepare(tmp_path / "out", packages) == 2
    told = capsys.readouterr().err
    assert "remove it first" in told and "has no folder animals, buildings, food" in told and "its folders are" in told


def test_other_folders_of_the_package_can_be_named(prepare: Prepare, packages: Path, tmp_path: Path) -> None:
    assert prepare(tmp_path, packages / "png", "--classes", "unsorted", "food") == 0
    made = {path.name: len(list(path.iterdir())) for path in (tmp_path / "pictures").iterdir()}
    assert made == {"unsorted": 1, "food": EACH + 1}, "the crab lies in no other of them"


def test_other_tensors_are_refused(script: Any) -> None:
    given = timm.create_model("tf_efficientnet_lite0").state_dict()
    with pytest.raises(ValueError, match="295 tensors in place of 296"):
        script.renamed(dict(list(given.items())[:-1]), "tf_efficientnet_lite0")
    first, second, *others = given.items()
    with pytest.raises(ValueError, match=r"bn1.weight \[32\] in place of conv_stem.weight"):
        script.renamed(dict([second, first, *others]), "tf_efficientnet_lite0")
    swapped = [*given.items()]
    swapped[1:3] = swapped[2:0:-1]
    with pytest.raises(ValueError, match=r"bn1.bias .* in place of bn1.weight"):
        script.renamed(dict(swapped), "tf_efficientnet_lite0")


def test_the_example_builds_on_what_is_prepared(loop: Any, prepared: Path) -> None:
    text = (EXAMPLE / "build.toml").read_text()
    for old, new in REDUCED:
        assert old in text, old
        text = text.replace(old, new)
    path = prepared / "build.toml"
    path.write_text(text)
    result = loop.build(path).result
    assert result.status == "met", result.verdict
    assert result.data.classes == 9
    assert result.data.train + result.data.validation + result.data.test == 9 * EACH
    tried = {trial.spec.family for trial in result.trials}
    assert tried == {"efficientnet_lite", "timm:tf_efficientnet_lite0"}, "from random weights, and from the file's"
