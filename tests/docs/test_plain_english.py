"""README and docs are in plain English: short sentences, the field's terms, no word that the glossary forbids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/*.md")),
]
MOST_WORDS = 35
README_WORDS = 900
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
FORBIDDEN = ("turned away", "passed over", "does not pay", "contender", "nobody", "whoever", "whom", "steers nothing",
             "nothing here", "a stranger", "everyone")  # fmt: skip


def prose(page: Path) -> Iterator[str]:
    """The sentences of paragraphs, lists and quotes: no code, tables, headings or generated blocks."""
    text = re.sub(r"<!-- figures.*?<!-- end of figures -->|<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    text = re.sub(r"^ *```.*?^ *```", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(#.*| *\|.*|    \S.*|:::.*|---)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "CODE", text)
    for paragraph in re.split(r"\n\s*\n|\n(?= *(?:[-*]|\d+\.) )", text):
        for sentence in re.split(r"(?<=[.!?])\s+|(?<=:)\s+(?=[A-Z*\[])", " ".join(paragraph.split())):
            if sentence:
                yield sentence


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().split()) <= README_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_sentences_are_short(page: Path) -> None:
    assert [sentence for sentence in prose(page) if len(sentence.split()) > MOST_WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_page_has_a_forbidden_word(page: Path) -> None:
    if page == GLOSSARY:  # it names them
        return
    found = [
        (word, sentence) for sentence in prose(page) for word in FORBIDDEN if re.search(rf"\b{word}\b", sentence, re.I)
    ]
    assert found == []


def test_the_glossary_says_what_to_write_in_place_of_each_forbidden_word() -> None:
    text = GLOSSARY.read_text()
    assert [word for word in FORBIDDEN if word not in text] == []
