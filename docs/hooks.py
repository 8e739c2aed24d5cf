"""What mkdocs does beside rendering the pages of this folder. `mkdocs.yml` names this file under `hooks`.

- `reference/command-line.md` is generated from the commands. It exists in the site alone.
- `contributing.md` shows CONTRIBUTING.md.
- A link to a file outside `docs/` becomes the path of that file, since the site does not hold it.
- The search works on pages that are opened as files, without a script of another host.

Neither torch nor mkdocs is imported with this module.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from edgedistill.cli.app import app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COMMAND_LINE = "reference/command-line.md"
CONTRIBUTING = "contributing.md"
SEARCH_SCRIPT = "assets/javascripts/iframe-worker.js"
"""`extra.polyfills` in mkdocs.yml names it; else the offline plugin would load a script from another host."""

_HEAD = """\
# Command line

This page lists every command of edgedistill with its arguments and options. It is generated from the commands.
Every command also takes `-h` or `--help`.

[edgedistill in CI](../how-to/ci.md) explains the exit codes and `--json`.
"""
_SEARCH_SCRIPT_TEXT = """\
// A browser starts no worker on a page that was opened as a file. There the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inside = this.frame.contentWindow
      inside.document.open()
      inside.document.write("<!doctype html><title>search</title><body></body>")
      inside.document.close()
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      this.loaded = new Promise((resolve, reject) => {
        script.onload = resolve
        script.onerror = reject
      })
      script.src = new URL(url, document.baseURI).href
      inside.document.body.append(script)
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
"""
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_TEST_COMMENT = re.compile(r"^<!-- test: [^>]*-->$", re.MULTILINE)


# -- what mkdocs calls ----------------------------------------------------------------------------------------------


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated files."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    files.append(File.generated(config, SEARCH_SCRIPT, content=_SEARCH_SCRIPT_TEXT))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page as the site shows it."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri)).rstrip("/")
    if page.file.src_uri == CONTRIBUTING:
        return in_the_site((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "", folder)
    return in_the_site(markdown, folder, folder)


# -- links ----------------------------------------------------------------------------------------------------------


def in_the_site(markdown: str, source: str, folder: str) -> str:
    """Markdown from the folder `source` of the repository as a page of `folder` ("docs" or one inside): links lead from
    there, those that leave `docs/` become paths, comments for the tests are left out. Code stays as it is."""
    parts = _FENCE.split(markdown)
    prose = slice(0, None, 2)
    parts[prose] = [_prose(part, source, folder) for part in parts[prose]]
    return "".join(parts)


def _prose(text: str, source: str, folder: str) -> str:
    def moved(found: re.Match[str]) -> str:
        shown, target = found["text"], found["target"]
        file, mark, anchor = target.partition("#")
        if not file or re.match(r"[a-z]+:", file):
            return found[0]
        path = posixpath.normpath(posixpath.join(source, file))
        if path.startswith("docs/"):
            return f"[{shown}]({posixpath.relpath(path, folder)}{mark}{anchor})"
        return shown if path in shown else f"{shown} (`{path}`)"

    return _LINK.sub(moved, _TEST_COMMENT.sub("", text))


# -- the command line -----------------------------------------------------------------------------------------------


def command_line() -> str:
    """The page of all commands, with their arguments and options as typer knows them."""
    return "\n\n".join([_HEAD.rstrip(), *_sections(get_command(app), "edgedistill")]) + "\n"


def _sections(command: Any, path: str) -> Iterator[str]:
    """A section for a command, then one for each of its own commands."""
    shown = [one for one in command.params if not one.hidden]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    commands: dict[str, Any] = getattr(command, "commands", {})
    yield f"{'#' * max(2, len(path.split()))} {path}"
    usage = [path, "[OPTIONS]" if options else "", *map(_value, arguments), "COMMAND" if commands else ""]
    yield f"```text\n{' '.join(filter(None, usage))}\n```"
    yield (command.help or "").strip()
    if arguments:
        rows = [(_code(_value(one)), _default(one), one.help or "") for one in arguments]
        yield _table(("argument", "default", "what it is"), rows)
    if options:
        rows_of_options = [(_names(one), _taken(one), _default(one), one.help or "") for one in options]
        yield _table(("option", "value", "default", "what it does"), rows_of_options)
    for name, inner in commands.items():
        if not inner.hidden:
            yield from _sections(inner, f"{path} {name}")


def _names(option: Any) -> str:
    """All names of an option, the long ones first."""
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: not name.startswith("--"))
    return ", ".join(map(_code, names))


def _value(parameter: Any) -> str:
    """What stands for the value of a parameter."""
    return str(parameter.metavar or parameter.name.upper())


def _taken(option: Any) -> str:
    """What an option takes, with its bounds; nothing for a flag."""
    if option.is_flag:
        return ""
    low, high, value = getattr(option, "min", None), getattr(option, "max", None), _code(_value(option))
    if low is None:
        return value if high is None else f"{value}, at most {high}"
    return f"{value}, at least {low}" if high is None else f"{value}, {low} to {high}"


def _default(parameter: Any) -> str:
    """The default of a parameter as its help shows it; nothing for a flag, or where there is none."""
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default is None or isinstance(parameter.default, bool):
        return ""
    return _code(str(parameter.default))


def _code(text: str) -> str:
    """Code in a cell of a table, where a vertical bar would end the cell."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    shown = ([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in shown)
