from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill.base.errors import InputError
from edgedistill.base.store import digest, file_sha256
from edgedistill.data.fingerprint import fingerprint, idx_files
from edgedistill.documents.build_file import DataConfig, SplitConfig


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from edgedistill.documents.build_file import DataConfig\n"
        "from edgedistill.data.fingerprint import fingerprint\n"
        "fingerprint(DataConfig())\n"
        "heavy = {'torch', 'sklearn', 'datasets', 'PIL', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    package_root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=package_root, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_of_the_content_and_not_of_splits(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=2)
    config = DataConfig(source="folder", path=folders.root)
    before = fingerprint(config)
    other_split = DataConfig(source="folder", path=folders.root, split=SplitConfig(seed=5), limit=3)
    assert fingerprint(other_split) == before

    moved = folders.root.rename(folders.root.with_name("elsewhere"))
    assert fingerprint(DataConfig(source="folder", path=moved)) == before


@pytest.mark.parametrize("change", ["add", "remove", "rename", "rewrite", "empty class"])
def test_every_change_of_the_content_changes_it(folders: Any, change: str) -> None:
    folders.add_classes("cat", "dog", count=2)
    config = DataConfig(source="folder", path=folders.root)
    before = fingerprint(config)
    file = folders.root / "cat" / "000.png"
    if change == "add":
        folders.add("cat/new.png")
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(file.with_name("renamed.png"))
    elif change == "rewrite":
        file.write_bytes(file.read_bytes() + b"x")
    else:
        (folders.root / "horse").mkdir()
    assert fingerprint(config) != before


def test_it_is_of_relative_paths_content_and_background_alone(folders: Any) -> None:
    """What caches are keyed by: where it changes, everything is made again."""
    folders.add_classes("cat", "cat-big", count=2)
    (folders.root / "README.md").write_text("about")
    names = ["README.md", "cat-big/000.png", "cat-big/001.png", "cat/000.png", "cat/001.png"]
    content = [(name, file_sha256(folders.root / name)) for name in names]
    labelled = digest({"folder": content, "folders": ["cat", "cat-big"]})
    expected = digest({"labelled": labelled, "background": [255, 255, 255]})
    assert fingerprint(DataConfig(source="folder", path=folders.root)) == expected
    assert fingerprint(DataConfig(source="folder", path=folders.root, skip_broken=True)) == expected


def test_another_background_makes_other_images(folders: Any) -> None:
    folders.add_classes("cat", "dog", count=1)
    config = DataConfig(source="folder", path=folders.root)
    assert fingerprint(config.model_copy(update={"background": (0, 0, 0)})) != fingerprint(config)


def test_the_columns_count_where_a_table_has_the_labels(folders: Any) -> None:
    folders.add("a.png", "b.png")
    one, other = (DataConfig(source="folder", path=folders.root, label_column=name) for name in ("label", "kind"))
    assert fingerprint(one) == fingerprint(other)
    (folders.root / "labels.csv").write_text("file,label,kind\na.png,cat,x\nb.png,dog,y\n")
    assert fingerprint(one) != fingerprint(other)


def test_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        fingerprint(DataConfig(source="idx", path=tmp_path / "nothing"))


def test_hub_data_is_known_by_name_and_columns() -> None:
    one = fingerprint(DataConfig(source="huggingface", name="mnist"))
    assert one == fingerprint(DataConfig(source="huggingface", name="mnist"))
    assert one != fingerprint(DataConfig(source="huggingface", name="beans"))
    assert one != fingerprint(DataConfig(source="huggingface", name="mnist", label_column="digit"))


def test_idx_files_in_both_spellings_plain_before_gzipped(tmp_path: Path) -> None:
    for name in ("train-images.idx3-ubyte", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (tmp_path / name).write_bytes(b"")
    assert {role: path.name for role, path in idx_files(tmp_path).items()} == {
        "train images": "train-images.idx3-ubyte",
        "train labels": "train-labels-idx1-ubyte.gz",
    }
