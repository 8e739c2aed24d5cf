"""Record a command in a terminal as a film: one SVG that every browser plays, without a script.

    python docs/record_demo.py --out docs/demo.svg -- edgedistill build examples/digits/build.toml --target host

The command runs in a pseudo-terminal, and a terminal emulator (pyte) replays what it wrote. A screen that differs from
the one before is a frame. A long wait lasts WAIT_S. Then all is played faster, so that it takes FILM_S at most, and HOLD_S
more for the last screen. A command that fails leaves no file; exit code 3 (a budget is not met) is no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from pyte.screens import Char, Screen
from pyte.streams import ByteStream

from edgedistill.base.errors import ExitCode
from edgedistill.base.units import format_seconds

SAMPLE_S, WAIT_S, FILM_S, HOLD_S = 0.25, 0.8, 28.0, 5.0
"""The least time of the run between two screens; of the film the longest wait, all but the last screen, that screen."""
CELL, LINE, BASELINE, MARGIN, BAR, FOOT = 8.4, 18, 14, 16, 36, 34
"""Sizes in pixels: a character's width, a row's height and where its text stands, and what is around the screen."""
PROGRAMS = {"edgedistill": [sys.executable, "-m", "edgedistill"], "python": [sys.executable]}
"""Commands that run in the environment of this script."""
BACKGROUND, FOREGROUND, FAINT = "#0d1117", "#d0d7de", "#8b949e"
PALETTE = {"black": FAINT, "red": "#ff7b72", "green": "#3fb950", "brown": "#d29922", "blue": "#58a6ff"}
PALETTE |= {"magenta": "#bc8cff", "cyan": "#39c5cf", "white": "#f0f6fc"}
Written = tuple[float, bytes]
"""Seconds since the start, and what was written then."""


class Run(NamedTuple):
    """Characters of one style side by side in a row: where, how many columns wide, and the style as CSS."""

    column: int
    columns: int
    text: str
    style: str
    background: str


class Frame(NamedTuple):
    """A screen: the second at which it appears, its plain text, and the runs of each row."""

    at: float
    text: str
    rows: tuple[tuple[Run, ...], ...]


def record(command: Sequence[str], columns: int, rows: int) -> tuple[list[Written], float, int]:
    """What a command writes to a terminal of this size, how many seconds it runs, and its exit code."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (rows, columns))
    terminal = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows), "NO_COLOR": "", "COLORTERM": ""}
    variables = os.environ | terminal
    written: list[Written] = []
    began = time.monotonic()
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=variables) as process:
        os.close(follower)
        # Where no process has the terminal open any more, Linux raises an error, and macOS reads nothing.
        with contextlib.suppress(OSError):
            while chunk := os.read(leader, 65536):
                written.append((time.monotonic() - began, chunk))
    os.close(leader)
    return written, time.monotonic() - began, process.returncode


def clean(output: bytes) -> bytes:
    """`output` with `.` and `~` for the working and the home folder. Faint text, which pyte does not know, is grey."""
    for folder, short in ((Path.cwd(), b"."), (Path.home(), b"~")):
        if folder.name:
            output = output.replace(os.fsencode(folder), short)
    return output.replace(b"\x1b[2m", b"\x1b[90m")


def screens(written: Iterable[Written], columns: int, rows: int) -> list[Frame]:
    """The screens in turn, by the seconds of the run. Two neighbours differ."""
    terminal = Screen(columns, rows)
    stream = ByteStream(terminal)
    found: list[Frame] = []
    for _, group in itertools.groupby(written, lambda one: int(one[0] / SAMPLE_S)):
        chunks = list(group)
        stream.feed(clean(b"".join(chunk for _, chunk in chunks)))
        shown = tuple(_runs(terminal, row) for row in range(rows))
        if not found or found[-1].rows != shown:
            found.append(Frame(chunks[-1][0], "\n".join(terminal.display), shown))
    return found


def _runs(terminal: Screen, row: int) -> tuple[Run, ...]:
    line = terminal.buffer[row]
    found: list[Run] = []
    for (style, background), group in itertools.groupby(range(terminal.columns), lambda at: _look(line[at])):
        places = list(group)
        whole = "".join(line[at].data for at in places)  # the second place of a wide character is empty
        text = whole.rstrip(" ") if background == BACKGROUND else whole
        if text:
            found.append(Run(places[0], len(places) - len(whole) + len(text), text, style, background))
    return tuple(found)


@cache
def _look(cell: Char) -> tuple[str, str]:
    """The style of a character as CSS, and its background."""
    fill, background = _colour(cell.fg, FOREGROUND), _colour(cell.bg, BACKGROUND)
    if cell.reverse:
        fill, background = background, fill
    return f"fill:{fill}" + ";font-weight:bold" * cell.bold, background


def _colour(name: str, default: str) -> str:
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else PALETTE.get(name.removeprefix("bright"), default)


def film(found: Sequence[Frame], most: int) -> list[Frame]:
    """At most so many of the screens, evenly chosen, by the seconds of the film: the first, the last, some between."""
    waits = (min(later.at - one.at, WAIT_S) for one, later in itertools.pairwise(found))
    starts = list(itertools.accumulate(waits, initial=0.0))
    pace = FILM_S / max(starts[-1], FILM_S)
    kept = sorted({round(number * (len(found) - 1) / (most - 1)) for number in range(most)})
    return [found[number]._replace(at=starts[number] * pace) for number in kept]


def draw(frames: Sequence[Frame], columns: int, title: str, caption: str, description: str) -> str:
    """The film as SVG. The screens lie below one another on a strip, of which a window shows one at a time. What a row
    holds is drawn once, and used wherever it appears. Where nothing moves, the last screen is seen."""
    seconds, width, height = frames[-1].at + HOLD_S, columns * CELL, len(frames[-1].rows) * LINE
    names: dict[tuple[Run, ...], str] = {}
    strip, steps = "", ""
    for number, frame in enumerate(frames):
        named = [(row, names.setdefault(runs, f"r{len(names)}")) for row, runs in enumerate(frame.rows) if runs]
        uses = "".join(f'<use href="#{name}" y="{row * LINE}"/>' for row, name in named)
        strip += f'<g transform="translate(0 {number * height + BASELINE})">{uses}</g>\n'
        steps += f"{100 * frame.at / seconds:.3f}%{{transform:translateY({-number * height}px)}}"
    last = f"transform:translateY({-(len(frames) - 1) * height}px)"
    styles: dict[str, str] = {}
    rows = (f'<g id="{name}">{"".join(_drawn(run, styles) for run in runs)}</g>' for runs, name in names.items())
    contents = "\n".join(rows)
    rules = "\n".join(f".{name}{{{style}}}" for style, name in styles.items())
    size = f'width="{width + 2 * MARGIN:g}" height="{height + BAR + FOOT}"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * MARGIN:g} {height + BAR + FOOT}" {size} role="img"
  aria-labelledby="title description" xml:space="preserve">
<title id="title">{escape(title)}</title>
<desc id="description">{escape(description)}</desc>
<style>
text{{font:14px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;white-space:pre}}
.film{{{last};animation:film {seconds:.2f}s step-end infinite}}
@keyframes film{{{steps}100%{{{last}}}}}
@media (prefers-reduced-motion:reduce){{.film{{animation:none}}}}
{rules}
</style>
<defs>
{contents}
</defs>
<rect {size} rx="8" fill="{BACKGROUND}"/>
<g fill="#30363d"><circle cx="22" cy="18" r="6"/><circle cx="42" cy="18" r="6"/><circle cx="62" cy="18" r="6"/></g>
<svg x="{MARGIN}" y="{BAR}" width="{width:g}" height="{height}"><g class="film">
{strip}</g></svg>
<text x="{MARGIN}" y="{height + BAR + 22}" fill="{FAINT}">{escape(caption)}</text>
</svg>
"""


def _drawn(run: Run, styles: dict[str, str]) -> str:
    """A run at its column, with its length, so that columns stay below one another in every font."""
    name = styles.setdefault(run.style, f"s{len(styles)}")
    x, length = f"{run.column * CELL:g}", f"{run.columns * CELL:g}"
    text = f'<text x="{x}" textLength="{length}" class="{name}">{escape(run.text)}</text>'
    if run.background == BACKGROUND:
        return text
    return f'<rect x="{x}" y="{-BASELINE}" width="{length}" height="{LINE}" fill="{run.background}"/>{text}'


def main() -> None:
    """Record the command that stands behind `--`. Ends with a message where it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the SVG")
    parser.add_argument("--columns", type=int, default=80, help="of the terminal")
    parser.add_argument("--rows", type=int, default=24, help="of the terminal")
    parser.add_argument("--frames", type=int, default=90, help="at most so many, 2 or more")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    program, *arguments = asked.command
    written, run_s, code = record([*PROGRAMS.get(program, [program]), *arguments], asked.columns, asked.rows)
    typed = clean(shlex.join(asked.command).encode()).decode()
    prompt = f"\x1b[1;32m$\x1b[0m {typed}\r\n".encode()
    found = screens([(-1.0, prompt), *written], asked.columns, asked.rows)
    if code not in (ExitCode.OK, ExitCode.BUDGET_NOT_MET):
        sys.exit(f"record_demo: exit code {code}, so nothing was written. The last screen:\n{found[-1].text.rstrip()}")
    frames = film(found, max(asked.frames, 2))
    unbroken = "\n".join(frame.text.replace("\n", "") for frame in frames)  # a path may go on in the next row
    if any(folder.name and str(folder) in unbroken for folder in (Path.cwd(), Path.home())):
        sys.exit("record_demo: a screen shows a folder of this machine, so nothing was written: give relative paths")
    faster, took = run_s / max(frames[-1].at, SAMPLE_S), f"the run took {format_seconds(run_s)}"
    caption = f"played {faster:.0f} times faster; {took}" if faster >= 1.5 else took
    waits = f"A wait of more than {WAIT_S:g} s lasts {WAIT_S:g} s, before all is played faster"
    description = f"A recording of a terminal: {caption}. {waits}. The last screen stays for {HOLD_S:g} s."
    svg = draw(frames, asked.columns, f"$ {typed}", caption, description)
    asked.out.write_text(svg, encoding="utf-8")
    print(f"{asked.out}: {len(frames)} screens, {len(svg.encode()) / 1000:.0f} kB; {caption}")


if __name__ == "__main__":
    main()
