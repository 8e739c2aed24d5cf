"""The Android module: compiled against stubs; its JVM tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from npm import npm_install
from small_package import small_package

import edgedistill as api
from edgedistill.outputs.kits.kits import HERE

STUBS, COMPOSE = (Path(__file__).with_name(f"{name}_stubs") for name in ("android", "compose"))
JAVA = Path("/usr/share/java")
JARS = [JAVA / "junit4.jar", JAVA / "hamcrest-core.jar", JAVA / "json-android.jar"]
pytestmark = [
    pytest.mark.skipif(not all(shutil.which(name) for name in ("npm", "java")), reason="needs npm and Java"),
    pytest.mark.skipif(not all(jar.is_file() for jar in JARS), reason="needs junit4 and libandroid-json-org-java"),
]
CLASSPATH = os.pathsep.join(map(str, JARS))


def run(*command: str | Path, code: int = 0) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=600)
    told = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == code, told
    return told


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kotlin")
    npm_install(folder, "kotlin-compiler")
    return folder / "node_modules" / "kotlin-compiler" / "bin" / "kotlinc"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = small_package(tmp_path_factory.mktemp("small"), coreml=False)
    folder = tmp_path_factory.mktemp("android") / "kit"
    assert api.kit(package, platform="android", out=folder).file == "student-fp32.onnx"
    return folder


def compiled(compiler: Path, jar: Path, *sources: Path, code: int = 0) -> str:
    return run("bash", compiler, *sources, "-cp", CLASSPATH, "-include-runtime", "-d", jar, "-nowarn", code=code)


def sources_of(kit: Path) -> list[Path]:
    """The module, the screen, and stubs. The screen is compiled without Compose's plugin of the compiler, which is not
    there."""
    module, screen = (list((kit / name / "src").rglob("*.kt")) for name in ("classifier", "app"))
    assert any(path.name == "MainActivity.kt" for path in screen)
    return [*module, *screen, *STUBS.glob("*.kt"), *COMPOSE.glob("*.kt")]


def golden_test(kit: Path, jar: Path, code: int = 0) -> str:
    assets = f"-Dkit.assets={kit / 'classifier' / 'src' / 'main' / 'assets'}"
    classpath = f"{jar}{os.pathsep}{CLASSPATH}"
    return run("java", assets, "-cp", classpath, "org.junit.runner.JUnitCore", "edgedistill.kit.GoldenTest", code=code)


def test_it_compiles_and_its_tests_pass(kit: Path, compiler: Path, tmp_path: Path) -> None:
    compiled(compiler, tmp_path / "kit.jar", *sources_of(kit))
    assert "OK (6 tests)" in golden_test(kit, tmp_path / "kit.jar")


@pytest.mark.slow
def test_it_finds_wrong_preprocessing_and_compiles_with_the_other_runtime(
    kit: Path, compiler: Path, tmp_path: Path
) -> None:
    sources = sources_of(kit)
    source, runner = (next(path for path in sources if path.name == name) for name in ("Preprocess.kt", "Runner.kt"))
    text, onnx = source.read_text(), runner.read_text()
    source.write_text(text.replace("if (pixels.channels == 3) return pixels", "val background = listOf(0, 0, 0)", 1))
    runner.write_text((HERE / "android" / "runners" / "LitertRunner.kt").read_text())
    assert "class OnnxRunner" in onnx and "class LitertRunner" in runner.read_text()
    compiled(compiler, tmp_path / "kit.jar", *sources)
    assert "golden/picture-003.png differs by" in golden_test(kit, tmp_path / "kit.jar", code=1)
    source.write_text(text)
    runner.write_text(onnx)


def test_what_gradle_is_told_is_of_the_runtime(kit: Path) -> None:
    module = kit / "classifier"
    assert 'implementation("com.microsoft.onnxruntime:onnxruntime-android:' in (module / "build.gradle.kts").read_text()
    assert "-keep class ai.onnxruntime.** { *; }" in (module / "consumer-rules.pro").read_text()
    assert not (kit / "runners").exists() and not list(kit.rglob("*.j2"))
