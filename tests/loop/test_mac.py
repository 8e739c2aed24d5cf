"""A build that proves its budget on a Mac over SSH. coremltools is the real one, Core ML a stand-in: see support/mac.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")
pytest.importorskip("asyncssh")

from mac import mac_python
from ssh_board import SSHD, Board

from edgedistill.devices.latency.folders import PROFILES_VARIABLE
from edgedistill.documents.devices import FILE_VARIABLE
from edgedistill.documents.measurements import MeasuredLatency

EDITS = (
    ("[profile]", '[export]\nformats = ["coreml"]\nprecisions = ["fp16"]\n\n[profile]'),
    ('pause = "1ms"', 'pause = "1ms"\nsession = "500ms"\ncompare = "200ms"'),
    ("views = 2", "views = 1"),
)


@pytest.mark.slow
@pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server")
def test_a_build_proves_its_budget_there(loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "board").mkdir()
    board = Board(tmp_path / "board")
    board.python = mac_python(tmp_path / "mac")
    mac = Path(__file__).parents[2] / "targets" / "macbook-air-m2.toml"
    # The stand-in is of this machine's architecture.
    own = mac.read_text().replace('machine = "arm64"\n', "").replace('"macbook-air-m2"', '"my-mac"')
    (tmp_path / "my-mac.toml").write_text(own)
    (tmp_path / "devices.toml").write_text(f'{board.section("mac")}target = "my-mac"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "devices.toml"))
    monkeypatch.setenv(PROFILES_VARIABLE, str(tmp_path / "profiles"))
    try:
        built = loop.build(loop.write("mac", "100ms", *EDITS, *loop.few), target=str(tmp_path / "my-mac.toml"))
    finally:
        board.kill()
    assert built.result.status == "met" and built.result.proof.met, built.result.verdict
    (artifact,) = built.result.artifacts
    assert artifact.path.endswith(".mlpackage") and isinstance(artifact.latency, MeasuredLatency)
    assert artifact.fallbacks.elsewhere == {} and artifact.fallbacks.operations > 10
    assert board.left() == []
