"""The build file: every problem at once, each with its line, in words that say what to type."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.base.errors import ExitCode, InputError
from edgedistill.documents.build_file import BuildConfig, load_config
from edgedistill.documents.toml_lines import line_of

HEAD = 'budget = "5ms"\n[teacher]\nmodel = "timm:resnet18"\n'


def problems_of(tmp_path: Path, text: str) -> list[str]:
    """Each problem of a build file as shown, without the file's folder."""
    path = tmp_path / "build.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_the_shortest_build_file(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text(HEAD)
    config = load_config(path)
    assert config.teacher.model == "timm:resnet18"
    assert config.budget.latency_ms == 5
    assert config == BuildConfig.model_validate({"budget": "5ms", "teacher": {"model": "timm:resnet18"}})


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text(
        'budget = "5ms"\ntarget = "boards/mine.toml"\n[teacher]\nmodel = "timm:x"\ncheckpoint = "t.safetensors"\n'
        '[data]\nsource = "folder"\npath = "/absolute"\nunlabelled = "more"\n'
    )
    config = load_config(path)
    assert config.target == str(tmp_path / "boards/mine.toml")
    assert config.teacher.checkpoint == tmp_path / "t.safetensors"
    assert config.data.path == Path("/absolute")
    assert config.data.unlabelled == tmp_path / "more"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load_config(path).target == "host"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # unknown keys and sections
        ('bugdet = "5ms"\n' + HEAD, "build.toml:1: unknown key bugdet (did you mean budget?)"),
        (HEAD + "[trian]\nx = 1\n", "build.toml:4: unknown key trian (did you mean train?)"),
        (
            HEAD + "[train]\nlearning_rat = 1\n",
            "build.toml:5: unknown key train.learning_rat (did you mean learning_rate?)",
        ),
        (
            HEAD + '[limits]\nmin_accuracy = "90%"\n',
            "build.toml:5: unknown key limits.min_accuracy (did you mean min_quality?)",
        ),
        (
            HEAD + '[search]\naccuracy_margin = "1%"\n',
            "build.toml:5: unknown key search.accuracy_margin (did you mean quality_margin?)",
        ),
        (
            HEAD + '[export]\nmax_accuracy_loss = "1%"\n',
            "build.toml:5: unknown key export.max_accuracy_loss (did you mean max_quality_loss?)",
        ),
        (
            'objective = "accuracy"\n' + HEAD,
            'build.toml:1: objective must be "quality" or "latency", not "accuracy" (did you mean "quality"?)',
        ),
        (HEAD + "[data]\nsplit.seeed = 4\n", "build.toml:5: unknown key data.split.seeed (did you mean seed?)"),
        (
            HEAD + "[profile]\nzzz = 1\n",
            "build.toml:5: unknown key profile.zzz (known here: burst, compare, pause, proof, session, sustained)",
        ),
        # units
        (HEAD.replace('"5ms"', "5"), 'build.toml:1: budget: 5 has no unit (write it in quotes: "5ms" or'),
        (HEAD.replace("5ms", "5 parsec"), "build.toml:1: budget: '5 parsec' has unknown unit 'parsec'"),
        (HEAD.replace("5ms", "0ms"), "build.toml:1: budget: '0ms' must be above zero and finite"),
        (HEAD.replace("5ms", "-5ms"), "build.toml:1: budget: '-5ms' must be above zero and finite"),
        (HEAD.replace("5ms", "infms"), "build.toml:1: budget: 'infms' must be above zero and finite"),
        (
            HEAD.replace("5ms", "0%"),
            "build.toml:1: budget: '0%': a share of the teacher lies above 0%, at most at 100%",
        ),
        (HEAD.replace("5ms", "101%"), "build.toml:1: budget: '101%': a share of the teacher lies above 0%, at most"),
        (
            HEAD.replace("5ms", "5ms@p90"),
            "build.toml:1: budget: '5ms@p90': unknown percentile 'p90' (use p50, p95 or p99",
        ),
        (
            HEAD + '[data]\nbackground = "whit"\n',
            "build.toml:5: data.background: 'whit' is not a colour (write white, grey, black or a value like #f0f0f0",
        ),
        (HEAD + "[data]\nbackground = 255\n", "build.toml:5: data.background: 255 is not a colour (write it in quotes"),
        (
            HEAD + '[[teachers]]\nmodel = "timm:x"\npretrained = true\n[ensemble]\nweights = [1.0]\n',
            "build.toml:1: [ensemble] weights has 1 numbers for 2 teachers (give one for each",
        ),
        (HEAD + "[ensemble]\ndrop = 0.5\n", "build.toml:1: [ensemble] has one teacher alone (add [[teachers]], or"),
        (
            HEAD + '[[teachers]]\nmodel = "timm:x"\ntext_vectors = "x.npy"\n',
            "build.toml:4: teachers[0]: text_vectors are compared with an image tower (name one",
        ),
        (HEAD + '[profile]\npause = "-1s"\n', "build.toml:5: profile.pause: '-1s' must be above zero"),
        (
            HEAD + "[export]\nmargin_speed = 0.05\n",
            "build.toml:5: export.margin_speed: 0.05 has no unit (write it in quotes",
        ),
        (HEAD + '[export]\nmargin_size = "120%"\n', "build.toml:5: export.margin_size: '120%' lies outside 0% to 100%"),
        # types
        (
            HEAD + '[train]\nbatch_size = "many"\n',
            'build.toml:5: train.batch_size must be a whole number or "auto", not "many"',
        ),
        (
            HEAD + '[train]\nbatch_size = "8"\n',
            'build.toml:5: train.batch_size must be a whole number or "auto", not "8"',
        ),
        (
            HEAD + "[train]\nbatch_size = true\n",
            'build.toml:5: train.batch_size must be a whole number or "auto", not true',
        ),
        (HEAD + "[train]\nseed = 1.5\n", "build.toml:5: train.seed must be a whole number, not 1.5"),
        (
            HEAD + "[train]\nlearning_rate = nan\n",
            'build.toml:5: train.learning_rate must be finite or "auto", not nan',
        ),
        (HEAD + "pretrained = 1\n", "build.toml:4: teacher.pretrained must be true or false, not 1"),
        (HEAD + '[train]\nworkers = "x"\n', 'build.toml:5: train.workers must be a whole number or "auto", not "x"'),
        (HEAD + "[data]\npath = 3\n", "build.toml:5: data.path must be text in quotes, not 3"),
        (HEAD + "[data]\nname = 1979-05-27\n", "build.toml:5: data.name must be text in quotes"),
        (
            HEAD + "arguments = {a = [1, 'x']}\n",
            "build.toml:4: teacher.arguments.a must be true or false or a whole number",
        ),
        (HEAD + "fit = 3\n", "build.toml:4: teacher.fit is a section of its own (write [teacher.fit], its keys below)"),
        ("train = 3\n" + HEAD, "build.toml:1: train is a section of its own (write [train], its keys below)"),
        (HEAD + "[[train]]\nseed = 0\n", "build.toml:4: train is a section of its own"),
        (HEAD + "[search]\nrungs = 4\n", "build.toml:5: search.rungs must be a list in brackets, not 4"),
        (HEAD + '[search]\nrungs = [4,\n "a"]\n', "build.toml:5: search.rungs: 'a' is no rung"),
        # ranges and choices
        (HEAD + "[train]\nbatch_size = 0\n", 'build.toml:5: train.batch_size must be at least 1 or "auto", not 0'),
        (HEAD + "[search]\nkeep = 1\n", "build.toml:5: search.keep must be below 1, not 1"),
        (HEAD + "[search]\nrungs = [8, 4]\n", "build.toml:5: search.rungs: rungs are not rising in one unit"),
        (HEAD + "[augmentation]\nscale = [0.9, 0.5]\n", "build.toml:5: augmentation.scale: [0.9, 0.5] falls"),
        (
            HEAD + "[augmentation]\nratio = [1.0]\n",
            "build.toml:5: augmentation.ratio must hold more items (1 are too few)",
        ),
        (
            HEAD + "[augmentation]\nratio = [1, 1, 1]\n",
            "build.toml:5: augmentation.ratio must hold at most 2 items, not 3",
        ),
        (
            HEAD + '[train]\nrecipe = "distil"\n',
            "build.toml:5: train.recipe: there is no recipe 'distil' (did you mean dist? use labels, ",
        ),
        (
            HEAD + '[train]\nrecipe = "cross_entropy"\n',
            "build.toml:5: train.recipe: there is no recipe 'cross_entropy' (did you mean labels? use ",
        ),
        (
            HEAD + '[train]\nrecipe = "kd"\n[[train.terms]]\nloss = "kl"\n',
            "build.toml:4: train: recipe and terms are both there (remove one: ",
        ),
        (
            HEAD + "[[train.terms]]\nloss = 'kl'\nweight = 0\n",
            "build.toml:6: train.terms[0].weight must be above 0, not 0",
        ),
        (
            HEAD + '[export]\nformats = ["onxx"]\n',
            'build.toml:5: export.formats[0] must be "onnx", "coreml", "tensorrt", "litert" or "executorch"',
        ),
        (HEAD + '[export]\nformats = ["null"]\n', "build.toml:5: export.formats: null ships nothing"),
        (
            HEAD.replace("timm:resnet18", "resnet18"),
            "build.toml:3: teacher.model: 'resnet18' is not a model (write timm:NAME",
        ),
        (
            HEAD + '[data]\nsource = "folder"\n',
            'build.toml:4: data: source = "folder" has no folder (add path = "FOLDER")',
        ),
        (HEAD + '[data]\npath = "a\\u0000b"\n', "build.toml:5: data.path: a path holds no null byte"),
        # what must be there
        ('budget = "5ms"\n', "build.toml:1: teacher is missing (add [teacher])"),
        ('[teacher]\nmodel = "timm:x"\n', "build.toml:1: budget is missing (add budget = ...)"),
        ('budget = "5ms"\n[teacher]\n', "build.toml:2: teacher.model is missing (add model = ...)"),
    ],
)
def test_what_is_wrong_and_where(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(expected)


def test_every_problem_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = (
        'budget = "-1ms"\ntarget = 3\n[teacher]\nmodel = "resnet"\n[data]\nsource = "fodler"\n'
        "split = {validation = 0, test = 2}\n[train]\nrecipe = 'x'\nbatch = 1\n"
    )
    found = problems_of(tmp_path, text)
    assert [problem.split(" ")[0] for problem in found] == [
        *("build.toml:1:", "build.toml:2:", "build.toml:4:", "build.toml:6:", "build.toml:7:", "build.toml:7:"),
        *("build.toml:9:", "build.toml:10:"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("budget = \n", 1, "Invalid value"),
        (HEAD + "[train\n", 4, "Expected"),
        (HEAD + 'model = "again"\n', 4, "given twice"),
        (HEAD + "[teacher]\n", 4, "given twice"),
        (HEAD + 'name = "never closed\n', 4, ""),
        (HEAD + 'name = """never closed\n', 4, "Unterminated"),
        ("just words\n", 1, "Expected"),
    ],
)
def test_broken_toml_names_the_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(f"build.toml:{line}: ")
    assert word in problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_bytes(b'budget = "5ms"\nname = "\xff"\n')
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "build.toml")
    assert str(caught.value.problems[0]) == f"{tmp_path}/build.toml:2: byte 0xff is not UTF-8"
    for path, words in {
        tmp_path / "biuld.toml": f"did you mean {tmp_path}/build.toml?",
        tmp_path: f"name the file: {tmp_path}/build.toml",
        tmp_path / "build.toml" / "x.toml": "check its path and permissions",
        tmp_path / f"{'x' * 300}.toml": "check its path and permissions",
        tmp_path / "nowhere" / "a.toml": "check the path",
    }.items():
        with pytest.raises(InputError) as caught:
            load_config(path)
        assert caught.value.fix == words


def test_nesting_without_end(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(InputError):
        load_config(path)


# -- where a key stands -----------------------------------------------------------------------------------------

ODD = '''\
# comment = 1
top = """
[not.a.header]
key = 1
"""
list = [
  [1, 2],
  { a = 1 },  # ] not the end
]
"quoted key" = 'x # no comment'
[ table . "in.ner" ]
key = 1
sub.key = 2
[[rows]]
name = "first"
[rows.more]
key = 1
[[rows]]
name = "second"
[rows.more]
key = 2
'''


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("top",), 2),
        (("list", 1, "a"), 6),
        (("quoted key",), 10),
        (("table", "in.ner"), 11),
        (("table", "in.ner", "key"), 12),
        (("table", "in.ner", "sub", "key"), 13),
        (("table", "in.ner", "absent"), 11),
        (("rows",), 14),
        (("rows", 0, "name"), 15),
        (("rows", 0, "more", "key"), 17),
        (("rows", 1), 18),
        (("rows", 1, "name"), 19),
        (("rows", 1, "more", "key"), 21),
        (("nowhere",), 1),
        ((), 1),
    ],
)
def test_line_of(location: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(ODD)
    assert line_of(ODD, location) == line


@settings(max_examples=60)
@given(
    st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from(["", "# [x]", "# a = 1"]), min_size=1, max_size=4),
    st.data(),
)
def test_line_of_any_key_whatever_stands_between(keys: list[str], fillers: list[str], data: st.DataObject) -> None:
    lines: list[str] = []
    expected = {}
    for key in keys:
        lines += data.draw(st.lists(st.sampled_from(fillers), max_size=2))
        expected[key] = len(lines) + 1
        values = ["1", "'''\n[z]\nz = 1\n'''", "[\n1,\n2\n]", '"[ # \\" "', "{ b = [1, 2] }"]
        lines += f"{key} = {data.draw(st.sampled_from(values))}".split("\n")
    text = "\n".join(lines)
    assert set(tomllib.loads(text)) == set(keys)
    assert {key: line_of(text, (key,)) for key in keys} == expected


def test_all_that_an_embedding_cannot_have_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text(
        'task = "embedding"\nbudget = "5ms"\n[teacher]\nmodel = "timm:x"\nfit = { epochs = 2 }\n'
        '[embedding]\nscore = "zero_shot"\n[train]\nrecipe = "kd"\n'
    )
    with pytest.raises(InputError) as caught:
        load_config(path)
    told = [problem.what for problem in caught.value.problems]
    assert len(told) == 3 and all(problem.fix for problem in caught.value.problems)
    for part in ("recipe kd is for classification", "fit trains a classifier", "needs a vector for each class"):
        assert any(part in one for one in told)
