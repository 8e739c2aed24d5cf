"""Ready projects around a package, one for each platform: the sources as they lie here, and what is of the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Kit:
    """A platform's project. `model` is the folder in it for the package's files; `generated` gives the files that are of
    this package alone, by their path in the project: from its contract, its file and the hash of its sums. `first_steps` is
    a shell command that starts it."""

    platform: Platform
    model: str
    generated: Callable[[PackageContract, str, str], Mapping[str, str]]
    first_steps: str


def _web(_: PackageContract, __: str, sums_sha256: str) -> Mapping[str, str]:
    said = "/** SHA-256 of the SHA256SUMS of the package that this kit was made for. */\n"
    return {"src/pinned.ts": f"{said}export const SUMS_SHA256 = {json.dumps(sums_sha256)};\n"}


def _python(_: PackageContract, __: str, sums_sha256: str) -> Mapping[str, str]:
    said = '"""SHA-256 of the SHA256SUMS of the package that this kit was made for."""'
    return {"pinned.py": f"SUMS_SHA256 = {json.dumps(sums_sha256)}\n{said}\n"}


_RUNTIMES: Final[dict[Format, tuple[str, str, tuple[str, ...]]]] = {
    Format.LITERT: ("Litert", "com.google.ai.edge.litert:litert:1.4.0", ("org.tensorflow.lite",)),
    Format.ONNX: ("Onnx", "com.microsoft.onnxruntime:onnxruntime-android:1.22.0", ("ai.onnxruntime",)),
}
"""What runs a format's files on Android: the class of the kit, the Maven package, and the packages that R8 must keep."""


def _android(contract: PackageContract, name: str, sums_sha256: str) -> Mapping[str, str]:
    sources = "classifier/src/main/kotlin/edgedistill/kit"
    kind, _, _ = _RUNTIMES[contract.files[name].format]
    said = "/** SHA-256 of the SHA256SUMS of the package that this kit was made for. */\n"
    pinned = f"package edgedistill.kit\n\n{said}const val SUMS_SHA256 = {json.dumps(sums_sha256)}\n"
    runner = (HERE / "android" / f"{kind}Runner.kt").read_text(encoding="utf-8")
    return {f"{sources}/Pinned.kt": pinned, f"{sources}/{kind}Runner.kt": runner}


def _ios(_: PackageContract, __: str, sums_sha256: str) -> Mapping[str, str]:
    said = "/// SHA-256 of the SHA256SUMS of the package that this kit was made for.\n"
    return {"Sources/Classifier/Pinned.swift": f"{said}public let sumsSHA256 = {json.dumps(sums_sha256)}\n"}


KITS: Final[dict[Platform, Kit]] = {
    "ios": Kit("ios", "Sources/Classifier/model", _ios, "swift test"),
    "android": Kit("android", "classifier/src/main/assets/model", _android, "gradle wrapper && ./gradlew test"),
    "web": Kit("web", "public/model", _web, "npm install && npm run dev"),
    "python": Kit("python", "model", _python, "pip install -r requirements.txt && python -m unittest"),
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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already", fix="name another folder with --out, or remove it")
    with whole(out) as folder:
        shutil.copytree(
            HERE / platform,
            folder,
            ignore=shutil.ignore_patterns("*.j2", "node_modules", "dist", ".build", "*Runner.kt"),
        )
        for path in files_of(package, contract, name):
            target = folder / kit.model / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, target)
        own = kit.generated(contract, name, file_sha256(package / SUMS))
        for made, text in (*own.items(), *_rendered(platform, name, contract)):
            (folder / made).write_text(text, encoding="utf-8")
    return name


def files_of(package: Path, contract: PackageContract, name: str) -> Iterator[Path]:
    """What of a package an app with the model file `name` takes."""
    golden = read_golden(package)
    pictures = [own for picture in golden.pictures for own in (picture.file, picture.prepared)]
    labels = [contract.labels_file] if contract.labels_file else []
    return (package / own for own in (SUMS, CONTRACT, MODEL_CARD, name, contract.golden, *labels, *pictures))


def _rendered(platform: Platform, name: str, contract: PackageContract) -> Iterator[tuple[str, str]]:
    """The templates of a kit, by their path in the project."""
    environment = Environment(
        loader=FileSystemLoader(HERE / platform),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    described = f"{len(contract.labels)} classes" if contract.vector is None else f"vectors of {contract.output.width}"
    _, runtime, kept = _RUNTIMES.get(contract.files[name].format, ("", "", ()))
    for path in environment.list_templates(filter_func=lambda name: name.endswith(_TEMPLATE)):
        text = environment.get_template(path).render(
            model=described, file=name, version=__version__, runtime=runtime, kept=kept
        )
        yield path.removesuffix(_TEMPLATE), text
