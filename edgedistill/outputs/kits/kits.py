"""Ready projects around a package, one for each platform: the sources as they lie here, and what is of the package.

A file whose name ends in `.j2` is a template of that of the project.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgedistill.base.errors import InputError
from edgedistill.base.store import file_sha256, whole
from edgedistill.base.versions import __version__
from edgedistill.documents.package import PackageContract, Platform
from edgedistill.documents.specs import Format
from edgedistill.outputs.package.integrity import SUMS, check_sums
from edgedistill.outputs.package.package import CONTRACT, MODEL_CARD
from edgedistill.outputs.package.replay import read_contract, read_golden

HERE: Final = Path(__file__).parent
_TEMPLATE: Final = ".j2"
_NO_PART: Final = ("*.j2", "runners", "node_modules", "dist", ".build", "__pycache__")
"""What lies among the sources of a kit, and is no part of a project."""


@dataclass(frozen=True)
class Kit:
    """A platform's project. `model` is the folder in it for the package's files, `first_steps` a shell command that starts
    it, `of_format` what its templates say of a model file's format."""

    model: str
    first_steps: str
    of_format: Mapping[Format, Mapping[str, object]] = field(default_factory=dict)


KITS: Final[dict[Platform, Kit]] = {
    "ios": Kit("Sources/Classifier/model", "swift test"),
    "android": Kit(
        "classifier/src/main/assets/model",
        "gradle wrapper && ./gradlew test",
        {
            Format.LITERT: {
                "runner": "runners/LitertRunner.kt",
                "runtime": "com.google.ai.edge.litert:litert:1.4.0",
                "kept": "org.tensorflow.lite",
            },
            Format.ONNX: {
                "runner": "runners/OnnxRunner.kt",
                "runtime": "com.microsoft.onnxruntime:onnxruntime-android:1.22.0",
                "kept": "ai.onnxruntime",
            },
        },
    ),
    "web": Kit("public/model", "npm install && npm run dev"),
    "python": Kit("model", "pip install -r requirements.txt && python -m unittest"),
}


def write_kit(package: Path, platform: Platform, out: Path) -> str:
    """A project for `platform` around the package, in the new folder `out`; the name of its model file. Raises InputError
    where the package is damaged or has no file for the platform, and where `out` is there already."""
    kit = KITS[platform]
    if problems := check_sums(package):
        raise InputError(f"{package} is not as it was built", problems=problems)
    contract = read_contract(package)
    if (name := contract.recommended.get(platform)) is None:
        raise InputError(
            f"{package} has no file for {platform}: it has {', '.join(contract.files)}",
            fix="name the format under [export] formats, and build again",
        )
    if contract.files[name].tolerance is None:
        raise InputError(
            f"{name} could not be run when {package} was made: a kit could not test itself",
            fix="build where it can be run (`edgedistill doctor` tells)",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already", fix="name another folder with --out, or remove it")
    with whole(out) as folder:
        shutil.copytree(HERE / platform, folder, ignore=shutil.ignore_patterns(*_NO_PART))
        for path in files_of(package, contract, name):
            target = folder / kit.model / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, target)
        classes = f"{len(contract.labels)} classes"
        values = {
            "model": classes if contract.vector is None else f"vectors of {contract.output.width}",
            "file": name,
            "version": __version__,
            "sums_sha256": file_sha256(package / SUMS),
            **kit.of_format.get(contract.files[name].format, {}),
        }
        for made, text in _rendered(platform, values):
            (folder / made).write_text(text, encoding="utf-8")
    return name


def files_of(package: Path, contract: PackageContract, name: str) -> Iterator[Path]:
    """What of a package an app with the model file `name` takes."""
    golden = read_golden(package)
    pictures = [own for picture in golden.pictures for own in (picture.file, picture.prepared)]
    labels = [contract.labels_file] if contract.labels_file else []
    return (package / own for own in (SUMS, CONTRACT, MODEL_CARD, name, contract.golden, *labels, *pictures))


def _rendered(platform: Platform, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The templates of a kit with these values, by their path in the project."""
    environment = Environment(
        loader=FileSystemLoader(HERE / platform),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # it is source code and Markdown, and no value comes from a user
    )
    for path in environment.list_templates(filter_func=lambda name: name.endswith(_TEMPLATE)):
        yield path.removesuffix(_TEMPLATE), environment.get_template(path).render(values)
