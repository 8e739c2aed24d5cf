"""`docs/record_demo.py` makes a film of a command, and the one in the documentation is such a film."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LARGEST_BYTES = 300_000
MOST_FRAMES = 90
PROGRAM = r"""
import os, time
print("\033[1;32mbold green\033[0m", "<plain> & more", os.getcwd(), os.path.expanduser("~"))
for step in range(6):
    print(f"\rstep {step}", end="", flush=True)
    time.sleep(0.3)
print("\r\033[38;5;208mall\033[7m done\033[0m")
"""


class Film:
    """An SVG and what it shows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = ElementTree.fromstring(text)
        (strip,) = self.root.iterfind(f".//{SVG}g[@class='film']")
        contents = {row.get("id"): "".join(row.itertext()) for row in self.root.iterfind(f"{SVG}defs/{SVG}g")}
        self.screens = [[contents[use.attrib["href"].removeprefix("#")] for use in frame] for frame in strip]
        steps = text.partition("@keyframes film{")[2].partition("}}")[0]
        self.percents = [float(percent) for percent in re.findall(r"([\d.]+)%\{", steps)]

    def told(self, tag: str) -> str:
        """The text of the only element with this tag."""
        (element,) = self.root.iter(SVG + tag)
        return "".join(element.itertext())

    def look(self, text: str) -> str:
        """The style of the run that is `text`."""
        (shown,) = (element for element in self.root.iter(f"{SVG}text") if element.text == text)
        return self.told("style").partition(f".{shown.get('class')}{{")[2].partition("}")[0]

    def waits(self) -> list[float]:
        """How many seconds each screen stays."""
        found = re.search(r"animation:film ([\d.]+)s step-end infinite", self.text)
        assert found
        return [float(found[1]) * (after - before) / 100 for before, after in pairwise(self.percents)]


def recorded(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`record_demo.py` of a program, in `folder`; the film is `film.svg`."""
    (folder / "program.py").write_text(program)
    script = [sys.executable, str(ROOT / "docs" / "record_demo.py"), "--out", "film.svg", *options]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder.parent / "somebody")}
    return subprocess.run(
        [*script, "--", "python", "program.py"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def film_of(folder: Path, program: str, *options: str) -> Film:
    done = recorded(folder, program, *options)
    assert done.returncode == 0, done.stderr
    return Film((folder / "film.svg").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return film_of(tmp_path_factory.mktemp("film"), PROGRAM)


@pytest.fixture(scope="module")
def committed() -> Film:
    return Film((ROOT / "docs" / "demo.svg").read_text(encoding="utf-8"))


@pytest.fixture(params=["film", "committed"])
def either(request: pytest.FixtureRequest) -> Film:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Film)
    return found


def test_it_begins_with_the_prompt_and_ends_with_what_the_command_left(film: Film) -> None:
    assert film.screens[0] == ["$ python program.py"]
    assert film.screens[-1] == ["$ python program.py", "bold green <plain> & more . ~", "all done"]


def test_what_a_carriage_return_overwrites_is_gone(film: Film) -> None:
    steps = [[row for row in screen if row.startswith("step ")] for screen in film.screens]
    assert max(map(len, steps)) == 1
    assert len({row for rows in steps for row in rows}) >= 3


def test_text_is_escaped_and_keeps_its_colours(film: Film) -> None:
    assert "&lt;plain&gt; &amp; more" in film.text
    assert film.look("bold green") == "fill:#3fb950;font-weight:bold"
    assert film.look("all") == "fill:#ff8700"
    assert film.look(" done") == "fill:#0d1117"
    assert [box.get("fill") for box in film.root.iterfind(f"{SVG}defs//{SVG}rect")] == ["#ff8700"]


def test_it_shows_no_folder_of_the_machine(film: Film, tmp_path: Path) -> None:
    assert str(tmp_path.parents[1]) not in film.text


def test_it_plays_from_beginning_to_end_one_screen_at_a_time(either: Film) -> None:
    assert either.percents[0] == 0
    assert either.percents[-1] == 100
    assert all(before < after for before, after in pairwise(either.percents))
    assert len(either.percents) == len(either.screens) + 1
    assert 2 <= len(either.screens) <= MOST_FRAMES
    assert sum(either.waits()) <= 40


def test_it_is_one_file_without_a_script(either: Film) -> None:
    tags = {element.tag.removeprefix(SVG) for element in either.root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "defs", "g", "use", "rect", "circle", "text"}
    links = {value for element in either.root.iter() for name, value in element.items() if name.endswith("href")}
    assert [link for link in links if not link.startswith("#")] == []
    assert not re.search(r"url\(|@import|@font-face", either.text)


def test_readers_without_sight_are_told_of_the_film(either: Film) -> None:
    assert either.told("title").startswith("$ ")
    assert "the run took" in either.told("desc")
    assert "prefers-reduced-motion:reduce" in either.told("style")


def test_a_long_wait_is_shortened_and_the_true_time_told(tmp_path: Path) -> None:
    film = film_of(tmp_path, "import time\nprint('before', flush=True)\ntime.sleep(2)\nprint('after')")
    assert film.screens[-1][1:] == ["before", "after"]
    assert max(film.waits()[:-1]) <= 0.81
    took = re.search(r"the run took ([\d.]+) s", film.told("desc"))
    assert took and float(took[1]) >= 2


def test_at_most_so_many_screens_are_kept(tmp_path: Path, film: Film) -> None:
    fewer = film_of(tmp_path, PROGRAM, "--frames", "3")
    assert len(fewer.screens) == 3 < len(film.screens)
    assert (fewer.screens[0], fewer.screens[-1]) == (film.screens[0], film.screens[-1])


def test_a_command_that_fails_leaves_no_file(tmp_path: Path) -> None:
    done = recorded(tmp_path, "print('it broke')\nraise SystemExit(5)")
    assert done.returncode == 1
    assert "exit code 5" in done.stderr
    assert "it broke" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "film.svg").exists()


def test_a_budget_that_is_not_met_is_no_failure(tmp_path: Path) -> None:
    assert film_of(tmp_path, "print('not met')\nraise SystemExit(3)").screens[-1][1:] == ["not met"]


def test_the_film_of_the_documentation_is_of_the_digits_example(committed: Film) -> None:
    assert committed.told("title").startswith("$ edgedistill build examples/digits/build.toml --target host")
    assert len(committed.text.encode()) < LARGEST_BYTES
    assert not re.search(r"/(home|root|Users|tmp|work)/", committed.text)
