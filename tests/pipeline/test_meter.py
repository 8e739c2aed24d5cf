"""What a build learns of its device, and what of that stands in results."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_target
from ssh_board import free_port

from edgedistill.base.errors import InputError, UnreachableError
from edgedistill.base.progress import Event, Note
from edgedistill.base.store import Store
from edgedistill.documents.build_file import BuildConfig, load_config
from edgedistill.documents.devices import DEVICE_VARIABLE, FILE_VARIABLE
from edgedistill.pipeline.meter import Meter, reached

pytest.importorskip("asyncssh")
BOARD = make_target(name="board", title="A board", transport="ssh")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file: the target's device does not answer."""
    path = tmp_path / "devices.toml"
    path.write_text(f'[kitchen]\naddress = "ssh://user@127.0.0.1:{free_port()}"\ntarget = "board"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    return path


def config(folder: Path, budget: str) -> BuildConfig:
    path = folder / "build.toml"
    path.write_text(f'budget = "{budget}"\n[teacher]\nmodel = "timm:resnet18"\n')
    return load_config(path)


def test_why_a_device_does_not_answer_is_told_and_its_address_stands_in_no_result() -> None:
    events: list[Event] = []
    device, why = reached(BOARD, events.append)
    assert (device, why) == (None, "A board is not attached to this machine")
    (note,) = events
    assert isinstance(note, Note) and note.warning
    assert "kitchen does not answer" in note.text and "see that this works: ssh -p" in note.text


def test_of_a_target_without_a_device_there_is_no_more_to_tell(file: Path) -> None:
    file.write_text("")
    events: list[Event] = []
    assert reached(BOARD, events.append) == (None, "A board is not attached to this machine")
    assert events == []


def test_where_measurements_are_required_the_build_ends(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="kitchen does not answer"):
        Meter.attached(config(tmp_path, "5ms"), BOARD, Store(tmp_path), required=True)


def test_a_share_of_the_teacher_cannot_do_without(tmp_path: Path) -> None:
    assert not Meter.attached(config(tmp_path, "5ms"), BOARD, Store(tmp_path), required=False).measurable
    with pytest.raises(InputError, match="which cannot be measured on board"):
        Meter.attached(config(tmp_path, "20%"), BOARD, Store(tmp_path), required=False)
