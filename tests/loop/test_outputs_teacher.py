"""A build of which the teacher is known by a CSV of its logits alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.commands.explain import explain
from edgedistill.commands.views import _opened
from edgedistill.data.datasets import load_dataset
from edgedistill.documents.build_file import load_config

TEACHER = """model = "timm:resnet10t"
resolution = 16
arguments = { channels = [32, 64, 96, 128] }
fit = { epochs = 2, batch_size = 64 }
"""


def logits(build: Path) -> np.ndarray:
    """Of a regression on the pixels of the training images, for all images."""
    dataset = load_dataset(load_config(build).data)
    pixels = np.stack([dataset.images[i][..., 0].ravel() / 255 for i in range(len(dataset.images))])
    train = dataset.splits.train
    fitted = LogisticRegression(max_iter=2000).fit(pixels[train], dataset.labels[train])
    found: np.ndarray = fitted.decision_function(pixels)
    return found


def write_csv(path: Path, rows: np.ndarray) -> None:
    lines = [f"{number},{','.join(f'{value:.6f}' for value in row)}" for number, row in enumerate(rows)]
    path.write_text("\n".join(["index,0,1,2,3,4,5,6,7,8,9", *lines]))


@pytest.fixture(scope="session")
def built(loop: Any) -> Any:
    path = loop.write("outputs", "1000ms", (TEACHER, 'model = "outputs:logits.csv"\n'), *loop.few)
    write_csv(path.parent / "logits.csv", logits(path))
    return loop.build(path)


def test_it_ships_and_says_what_is_known_of_the_teacher(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = built.result
    assert result.status == "met", result.verdict
    teacher = result.teacher
    assert teacher.quality > 0.8 and teacher.quality_validation > 0.8
    assert (teacher.parameters, teacher.bytes, teacher.resolution, teacher.files) == (None, None, None, ())
    assert teacher.latency.kind == "unknown" and "outputs alone" in teacher.latency.reason
    assert "Its teacher is outputs:logits.csv." in (built.out / "package" / "MODEL_CARD.md").read_text()
    assert "outputs:logits.csv" in (built.out / "report.html").read_text()
    assert explain(built.out).winner is not None
    path = str(built.path)
    for command in (["explain", str(built.out)], ["views", "info", path], ["build", path, "--dry-run"]):
        assert run(command) == 0
        assert "Traceback" not in capsys.readouterr().err


def test_what_is_learnt_is_what_the_file_says(built: Any) -> None:
    _, stored = _opened(built.path, None, lambda event: None)
    (signal,) = stored.signals
    dataset = load_dataset(load_config(built.path).data)
    rows = logits(built.path)[dataset.splits.train]
    for view in range(stored.stored_views.count):
        read = signal.at(view, np.arange(signal.images)).astype(np.float64)
        np.testing.assert_allclose(read, rows - rows.max(1, keepdims=True), atol=0.02)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("share", ('budget = "1000ms"', 'budget = "20%"'), "needs the teacher itself"),
        ("features", ('recipe = "kd"', 'recipe = "srd"'), "its file has outputs alone"),
        ("few", ("/logits.csv", "/few.csv"), r"has no line for \d+ of 680 images"),
        ("fit", ('logits.csv"\n', 'logits.csv"\nfit = { epochs = 1 }\n'), "is no network"),
    ],
)
def test_what_it_cannot_do_is_an_input_error(
    loop: Any, built: Any, name: str, change: tuple[str, str], told: str
) -> None:
    folder = built.path.parent
    rows = logits(built.path)
    write_csv(folder / "few.csv", rows[:-20])
    path = loop.write(f"outputs-{name}", "1000ms", (TEACHER, f'model = "outputs:{folder}/logits.csv"\n'), change)
    with pytest.raises(InputError, match=told):
        loop.build(path)
