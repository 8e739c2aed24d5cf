"""The build file that init writes loads, and its comments tell the true defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.commands.init import InitAnswers, build_file, data_source, write_build_file
from edgedistill.documents.build_file import BuildConfig, load_config

COMMENTED = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)
# Shown by an example, for they have no default.
UNSET = re.compile(
    r"^# (checkpoint|max_size|max_memory|min_quality|max_parameters|max_bytes|mix|rungs|time|folds|none_of_these|sustained)"
    " = .*",
    re.MULTILINE,
)


def test_the_default_answers_load(tmp_path: Path) -> None:
    path = tmp_path / "new" / "build.toml"
    write_build_file(path, InitAnswers())
    config = load_config(path)
    assert config.teacher.model == "timm:resnet18"
    assert config.teacher.fit is not None
    assert config.data.source == "digits"
    assert config.target == "host"
    assert config.budget.share_of_teacher == pytest.approx(0.2)


def test_every_commented_line_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    text = build_file(InitAnswers(), tmp_path)
    path.write_text(text)
    as_written = load_config(path)
    path.write_text(COMMENTED.sub("", re.sub(UNSET, "", text)))
    assert load_config(path) == as_written
    assert len(COMMENTED.findall(text)) > 40


def test_every_example_of_a_key_without_a_default_loads(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text(COMMENTED.sub("", build_file(InitAnswers(), tmp_path)))
    config = load_config(path)
    assert (config.limits.max_size, config.limits.max_memory, config.limits.min_quality) == (2 * 2**20, 2**26, 0.9)
    assert (config.space.max_parameters, config.space.max_bytes) == (1_000_000, 2**20)
    assert config.search.time == 2 * 3_600_000
    assert config.profile.sustained == 60_000
    assert config.teacher.checkpoint == tmp_path / "teacher.safetensors"


def test_every_key_with_a_default_is_there() -> None:
    text = build_file(InitAnswers(), Path())
    written = set(re.findall(r"^(?:# )?([a-z_]+) = ", text, re.MULTILINE))
    for section, field in BuildConfig.model_fields.items():
        assert section in written or f"[{section}]" in text
        if section == "budget":  # written in one text
            continue
        keys = getattr(field.annotation, "model_fields", {})
        defaults = {key for key, inner in keys.items() if inner.default is not None and not inner.is_required()}
        # Column names belong to data sets of Hugging Face, a split is a section of its own.
        assert defaults - written - {"image_column", "label_column", "split"} == set(), section


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each kind of data, in the working folder."""
    (tmp_path / "flowers" / "rose").mkdir(parents=True)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    (tmp_path / "file.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("digits", "digits"),
        ("hf:mnist", "huggingface"),
        ("flowers", "folder"),
        ("mnist", "idx"),
        ("saved", "huggingface"),
    ],
)
def test_data_is_known_by_what_lies_there(folders: Path, data: str, source: str) -> None:
    assert data_source(data)[0] == source
    path = folders / "builds" / "a" / "build.toml"
    write_build_file(path, InitAnswers(data=data))
    config = load_config(path)
    assert config.data.source == source
    if config.data.path is not None:
        # Written relative to the build file, which lies two folders down.
        assert f'path = "../../{data}"' in path.read_text()
        assert config.data.path.resolve() == folders / data
    else:
        assert config.data.name == (data.removeprefix("hf:") if source == "huggingface" else None)


@pytest.mark.parametrize("data", ["nowhere", "file.png", "hf:", "~nobody-of-that-name/x"])
def test_data_that_is_none(folders: Path, data: str) -> None:
    with pytest.raises(InputError):
        data_source(data)


def test_a_function_as_teacher_is_not_asked_to_fit(folders: Path) -> None:
    board = 'name = "b"\ntitle = "B"\nruntime = "onnx"\nformats = ["onnx"]\nprecisions = ["fp32"]\ntransport = "none"\n'
    (folders / "board.toml").write_text(board)
    path = folders / "build.toml"
    write_build_file(path, InitAnswers(data="flowers", teacher="mine:make", target="./board.toml"))
    config = load_config(path)
    assert config.teacher.fit is None
    assert not config.teacher.pretrained
    assert config.target == str(folders / "board.toml")


def test_a_teacher_that_timm_does_not_have_is_told_with_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_build_file(tmp_path / "build.toml", InitAnswers(teacher="timm:mobilenetv3_larg_100"))
    (problem,) = caught.value.problems
    assert problem.where == "--teacher" and "has no model 'mobilenetv3_larg_100'" in problem.what
    assert "did you mean mobilenetv3_large_100" in problem.fix


def test_every_wrong_answer_at_once(tmp_path: Path) -> None:
    wrong = InitAnswers(data="nowhere", teacher="resnet", target="hots", budget="0ms")
    with pytest.raises(InputError) as caught:
        write_build_file(tmp_path / "build.toml", wrong)
    assert [problem.where for problem in caught.value.problems] == ["--data", "--teacher", "--target", "--budget"]
    assert not (tmp_path / "build.toml").exists()


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text("mine")
    with pytest.raises(InputError) as caught:
        write_build_file(path, InitAnswers())
    assert "--force" in caught.value.fix
    assert path.read_text() == "mine"
    write_build_file(path, InitAnswers(), force=True)
    assert load_config(path).target == "host"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        write_build_file(tmp_path / "file" / "build.toml", InitAnswers())


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20))
def test_any_folder_name_survives_quoting(name: str) -> None:
    import tomllib

    from edgedistill.commands.init import _quoted

    assert tomllib.loads(f"x = {_quoted(name)}") == {"x": name}
