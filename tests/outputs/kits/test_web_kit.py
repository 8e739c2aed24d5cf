"""The web kit in a real browser: it replays golden data, gives Python's answers, and refuses what was changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from npm import npm_install
from PIL import Image
from small_package import NONE_BELOW, small_package

import edgedistill as api
from edgedistill.base.store import file_sha256
from edgedistill.documents.package import KitLatency

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
BROWSE = Path(__file__).with_name("browse.mjs")


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("small"), coreml=False)


@pytest.fixture(scope="module")
def built(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's page, built. `node_modules` beside `dist` has Playwright as well."""
    folder = tmp_path_factory.mktemp("web") / "kit"
    made = api.kit(package, platform="web", out=folder)
    assert made.file == "student-fp32.onnx" and made.path == str(folder)
    npm_install(folder, "playwright")
    run(["npm", "run", "build"], folder)
    shutil.copy(BROWSE, folder)
    return folder


class Isolated(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(built: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The page's address, and a copy of its files that a test may change."""
    dist = Path(shutil.copytree(built / "dist", tmp_path / "dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Isolated(*a, directory=str(dist))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", dist
        server.shutdown()
        thread.join()


def browse(built: Path, url: str, *files: Path, shots: str = "-") -> dict[str, Any]:
    command = ["node", "browse.mjs", url, str(CHROMIUM), shots, *map(str, files)]
    found: dict[str, Any] = json.loads(run(command, built))
    assert found["problems"] == []
    return found


def test_the_page_replays_golden_data_and_gives_pythons_answers_online_and_offline(
    built: Path, served: tuple[str, Path], package: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    photo = Image.fromarray(rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)).resize(
        (301, 420), Image.Resampling.BICUBIC
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    layered = photo.convert("RGBA")
    layered.putalpha(Image.linear_gradient("L").resize(photo.size))
    layered.save(tmp_path / "layered.png")
    files = [tmp_path / "turned.jpg", tmp_path / "layered.png"]
    found = browse(built, served[0], *files, shots=os.environ.get("KIT_SHOTS", "-"))
    assert found["status"] == "student-fp32.onnx is ready"
    assert found["verdict"] == "Self-test: 4 of 4 golden pictures, passed"
    assert [row[-1] for row in found["replay"][1:]] == ["pass"] * 4
    assert found["offline"] == {key: found[key] for key in ("status", "verdict")}
    latency = KitLatency.model_validate(found["latency"])
    assert (latency.platform, latency.file, latency.runs) == ("web", "student-fp32.onnx", 50)
    assert latency.sha256_sums == file_sha256(package / "SHA256SUMS")
    assert 0 < latency.run_p50_ms <= latency.run_p95_ms
    for path, answers, none in zip(files, found["answers"], found["none"], strict=True):
        best = api.run(package / "student-fp32.onnx", path).top[0].probability
        assert bool(none) == (best < NONE_BELOW)
        expected = api.run(package / "student-fp32.onnx", path).top
        assert [label for label, _ in answers] == [guess.label for guess in expected]
        shares = [float(share.removesuffix(" %")) for _, share in answers]
        np.testing.assert_allclose(shares, [100 * guess.probability for guess in expected], atol=0.3)


@pytest.mark.parametrize("name", ["student-fp32.onnx", "contract.json", "SHA256SUMS"])
def test_a_file_that_was_changed_is_refused(built: Path, served: tuple[str, Path], name: str) -> None:
    url, dist = served
    content = bytearray((dist / "model" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (dist / "model" / name).write_bytes(content)
    found = browse(built, url)
    assert found["status"].startswith(f"{name} is not ")
    assert found["verdict"] == "Self-test: not run yet"


def test_wrong_preprocessing_fails_the_self_test(built: Path, served: tuple[str, Path]) -> None:
    """Red for blue, in the script that was built."""
    url, dist = served
    (script,) = (dist / "assets").glob("*.js")
    text = script.read_text()
    wrong = re.sub(r"data\[3\*(\w+)\+(\w+)\]", r"data[3*\1+2-\2]", text, count=1)
    assert wrong != text
    script.write_text(wrong)
    found = browse(built, url)
    assert "FAILED" in found["verdict"]
