"""One preprocessing in four languages: each makes the same bytes of two hundred odd pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from npm import npm_install
from odd_pictures import COUNT, write_odd_pictures

from edgedistill.documents.specs import Contract
from edgedistill.outputs.kits.kits import HERE

_OF = {"mean": (0, 0, 0), "std": (1, 1, 1), "labels": ("a", "b")}
CONTRACTS = [
    Contract(resolution=96, **_OF),
    Contract(resolution=33, resize_filter="bicubic", crop="center", background=(10, 200, 30), **_OF),
    Contract(resolution=64, resize_filter="bicubic", background=(0, 0, 0), **_OF),
]
PROGRAMS = Path(__file__).parent


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write_odd_pictures(folder, CONTRACTS)
    return folder


def run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def agrees(odd: Path, out: Path) -> None:
    """A program wrote `N-K.rgb` for each picture and contract into `out`."""
    assert len(list(out.iterdir())) == COUNT * len(CONTRACTS)
    for path in out.iterdir():
        found, expected = (np.frombuffer(p.read_bytes(), np.uint8) for p in (path, odd / path.name))
        np.testing.assert_array_equal(found, expected, path.name)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_typescript(odd: Path, tmp_path: Path) -> None:
    npm_install(tmp_path, "typescript")
    compiler = tmp_path / "node_modules" / ".bin" / "tsc"
    options = ("--target", "es2022", "--module", "es2022", "--strict", "--ignoreConfig", "--outDir", tmp_path)
    run(compiler, HERE / "web" / "src" / "preprocess.ts", *options)
    (tmp_path / "preprocess.js").rename(tmp_path / "preprocess.mjs")
    shutil.copy(PROGRAMS / "odd.mjs", tmp_path)
    (tmp_path / "out").mkdir()
    run("node", tmp_path / "odd.mjs", odd, tmp_path / "out")
    agrees(odd, tmp_path / "out")


@pytest.mark.skipif(shutil.which("swiftc") is None, reason="needs Swift")
def test_swift(odd: Path, tmp_path: Path) -> None:
    source = HERE / "ios" / "Sources" / "Classifier" / "Preprocess.swift"
    run(
        "swiftc", "-O", source, PROGRAMS / "odd.swift", "-o", tmp_path / "odd", "-module-cache-path", tmp_path / "cache"
    )
    (tmp_path / "out").mkdir()
    run(tmp_path / "odd", odd, tmp_path / "out")
    agrees(odd, tmp_path / "out")


JSON = Path("/usr/share/java/json-android.jar")


@pytest.mark.skipif(not all(map(shutil.which, ("npm", "java"))), reason="needs npm and Java")
@pytest.mark.skipif(not JSON.is_file(), reason="needs libandroid-json-org-java")
def test_kotlin(odd: Path, tmp_path: Path) -> None:
    npm_install(tmp_path, "kotlin-compiler")
    (source,) = (HERE / "android").rglob("Preprocess.kt")
    compiler = tmp_path / "node_modules" / "kotlin-compiler" / "bin" / "kotlinc"
    jar, own = tmp_path / "odd.jar", (source, PROGRAMS / "odd.kt")
    run("bash", compiler, *own, "-cp", JSON, "-include-runtime", "-d", jar)
    (tmp_path / "out").mkdir()
    run("java", "-cp", f"{jar}:{JSON}", "edgedistill.kit.OddKt", odd, tmp_path / "out")
    agrees(odd, tmp_path / "out")


def test_the_index_has_each_step() -> None:
    """So that no step goes untested."""
    steps = {step for contract in CONTRACTS for step in (contract.crop, contract.resize_filter)}
    assert steps == {"stretch", "center", "bilinear", "bicubic"}
    assert len({json.dumps(contract.background) for contract in CONTRACTS}) == 3
