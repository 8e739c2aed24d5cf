"""The command line as a process: how fast it answers, what it imports, how it ends."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from edgedistill.cli.app import app

HEAVY = (
    "torch",
    "timm",
    "pydantic",
    "onnx",
    "onnxruntime",
    "coremltools",
    "plotly",
    "optuna",
    "sklearn",
    "numpy",
    "PIL",
)
LISTS_HEAVY = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
"""
# A loop that says that it runs and then waits to be ended.
# A process started in the background of a script inherits that Ctrl-C is ignored.
WAITS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import edgedistill as api
from edgedistill.base.progress import StageStarted
def build(path, listener, **options):
    import time
    listener(StageStarted("train", "a student", 100))
    print("running", flush=True)
    time.sleep(60)
api.build_all = build
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["build", "--help"], ["--version"], ["cache", "--help"], ["nonsense"]]
)
def test_help_and_usage_errors_import_nothing_heavy(process: Any, arguments: list[str]) -> None:
    _, err = process(*arguments, before=LISTS_HEAVY).communicate(timeout=60)
    loaded = set(re.findall(r"'(\w+)'", err.rsplit("heavy:", 1)[1]))
    # Recent releases of typer load pydantic themselves to look at a command's arguments.
    assert loaded <= (set() if arguments in (["--help"], ["--version"]) else {"pydantic"})


def test_the_package_imports_nothing_heavy() -> None:
    code = f"import edgedistill, sys; print([n for n in {(*HEAVY, 'typer', 'rich')!r} if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_python_face() -> None:
    import edgedistill
    import edgedistill as api
    from edgedistill.base import errors

    assert edgedistill.build is api.build
    assert edgedistill.profile is api.profile
    assert edgedistill.EdgedistillError is errors.EdgedistillError
    assert {"build", "profile", "__version__"} <= set(dir(edgedistill))
    with pytest.raises(AttributeError, match="has no attribute 'bulid'"):
        edgedistill.bulid  # noqa: B018


def test_version(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from edgedistill.base.versions import __version__

    assert command("--version") == 0
    assert capsys.readouterr().out == f"edgedistill {__version__}\n"


def test_version_is_that_of_the_distribution() -> None:
    from edgedistill.base.versions import __version__

    try:
        assert importlib.metadata.version("edgedistill") == __version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("edgedistill is not installed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bild"], "Did you mean 'build'?"),
        (["build"], "Missing argument"),
        (["build", "a.toml", "--bugdet", "5ms"], "No such option"),
        (["build", "a.toml", "--budget"], "requires an argument"),
        (["build", "a.toml", "b.toml"], "unexpected extra argument"),
        (["cache", "drop"], "No such command"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_use_is_2_and_points_to_help(
    command: Any, arguments: list[str], words: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if as_json and arguments[-1] == "--budget":
        arguments = ["build", "--json", "a.toml", "--budget"]
    elif as_json:
        arguments = [*arguments[:1], "--json", *arguments[1:]]
        words = words if "bild" in arguments or "build" in arguments else "No such"
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert re.search(r"fix: see edgedistill[a-z ]* --help", captured.err)
    if as_json:
        assert json.loads(captured.out)["error"]["exit_code"] == 2
    else:
        assert captured.out == ""


@pytest.mark.parametrize(("arguments", "named"), [([], "doctor"), (["cache"], "clear")])
def test_no_command_shows_help_once_and_is_2(
    command: Any, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert named in captured.err and captured.err.count("Usage:") == 1
    assert captured.out == ""


# -- help -------------------------------------------------------------------------------------------------------

PANELS = {
    "Build": ["build", "search", "explain", "report", "kit", "init", "recipes", "views"],
    "Model files": ["export", "quantize", "verify", "evaluate", "run", "inspect", "package"],
    "Devices": ["profile", "calibrate", "doctor", "profiles", "targets", "devices"],
    "Cache": ["cache"],
}
INNER = [
    *("cache info", "cache clear", "devices check", "devices runner", "targets show", "targets new", "targets check"),
    *("profiles list", "profiles show", "profiles export", "profiles import", "profiles diff"),
]
COMMANDS = [*(name for names in PANELS.values() for name in names), *INNER]
WITH_PROGRESS = ["build", "search", "export", "quantize", "evaluate", "profile", "calibrate", "doctor"]


@pytest.fixture
def help_of(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The help of a command as a terminal of 80 columns shows it, without colours."""
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*arguments: str) -> str:
        assert command(*arguments, "--help") == 0
        text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert max(map(len, text.splitlines())) <= 80
        return text

    return shown


def test_help_groups_the_commands(help_of: Any) -> None:
    _, *parts = re.split(r"╭─ ([A-Z][a-z ]+) ─+╮", help_of())
    found = {name: re.findall(r"^│ ([a-z]+) ", body, re.MULTILINE) for name, body in zip(parts[::2], parts[1::2])}
    found.pop("Options")
    assert found == PANELS
    assert list(found) == list(PANELS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_ends_with_an_example_that_it_takes(help_of: Any, name: str) -> None:
    (example,) = re.findall(r"^ Example: edgedistill (.+?) *$", help_of(*name.split()), re.MULTILINE)
    group: Any = get_command(app)
    words = example.split()
    if name == "cache":
        assert f"edgedistill {example}" == "edgedistill cache info"
        return
    assert example == name or example.startswith(f"{name} ")
    for word in name.split():
        group, words = group.commands[word], words[1:]
    group.make_context(name, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_lines_where_the_terminal_ends(help_of: Any, name: str) -> None:
    """Not where the docstring does: a line of prose is short only at the end of its paragraph."""
    text = help_of(*name.split()).partition("╭")[0]
    for line, following in itertools.pairwise(text.splitlines()[3:]):
        if line.strip() and following.strip():
            assert len(line.rstrip()) + 1 + len(following.split()[0]) > 78, line


@pytest.mark.parametrize("name", COMMANDS)
def test_what_has_progress_can_be_quiet_or_verbose(help_of: Any, name: str) -> None:
    text = help_of(*name.split())
    assert ("--quiet" in text and "--verbose" in text) == (name in WITH_PROGRESS)


@pytest.mark.parametrize(("given", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_torchs_threads_spin_for_as_long_as_the_user_says_or_shortly(
    process: Any, given: dict[str, str], spins: str
) -> None:
    tell = "import atexit, os\natexit.register(lambda: print(os.environ['GOMP_SPINCOUNT']))"
    out, _ = process("--version", before=tell, env=given).communicate(timeout=20)
    assert out.split()[-1] == spins


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_build_cleanly(process: Any, number: signal.Signals) -> None:
    running = process("build", "build.toml", before=WAITS)
    assert running.stdout.readline() == "running\n"
    running.send_signal(number)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "run the same command to go on" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_changes_no_outcome(process: Any, result: Any, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(result.model_copy(update={"status": "not_met"}).model_dump_json())
    before = f"""
from pathlib import Path
import edgedistill as api
from edgedistill.documents.results import BuildResult
api.build_all = lambda *a, **k: BuildResult.model_validate_json(Path({str(tmp_path / "result.json")!r}).read_text())
"""
    for options in ([], ["--json"]):
        read, write = os.pipe()
        running = process("build", "build.toml", *options, before=before, stdout=write)
        os.close(read)
        os.close(write)
        _, err = running.communicate(timeout=60)
        assert (running.returncode, err) == (3, "")


def test_a_terminal_that_knows_no_unicode(process: Any) -> None:
    out, err = process("targets", env={"PYTHONIOENCODING": "ascii"}).communicate(timeout=60)
    assert "pixel-6" in out
    assert err == ""


def on_a_terminal(process: Any, *arguments: str, before: str = "", env: dict[str, str] | None = None, ends: str) -> str:
    """Runs the command with a terminal for stderr until `ends` is seen there or it ends, and returns what was shown."""
    master, slave = pty.openpty()
    running = process(
        *arguments, before=before, stderr=slave, env={"TERM": "xterm-256color", "COLUMNS": "100"} | (env or {})
    )
    os.close(slave)
    shown, until = "", time.monotonic() + 30
    while time.monotonic() < until and ends not in shown:
        if select.select([master], [], [], 0.2)[0]:
            try:
                shown += os.read(master, 65536).decode()
            except OSError:
                break
    running.kill()
    running.communicate()
    os.close(master)
    return shown


ADVANCES = WAITS.replace(
    'print("running", flush=True)',
    """
    from edgedistill.base.progress import Note, StageAdvanced, StageFinished
    listener(StageFinished("views", "digits [8 px]", 12.3, reused=False))
    for done in range(60):
        listener(StageAdvanced("train", done, note="loss 0.12"))
        time.sleep(0.05)
    listener(Note("the end"))
""".strip().replace("\n    ", "\n    "),
)


def test_live_progress_on_a_terminal(process: Any) -> None:
    shown = on_a_terminal(process, "build", "build.toml", before=ADVANCES, ends="the end")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "views digits [8 px]  12 s" in plain
    assert re.search(r"train a student\s.* \d+/100\s+loss 0\.12", plain)
    assert re.search(r"\d+:\d\d", plain)
    assert "\x1b[1m" in shown


def test_no_color_while_working(process: Any) -> None:
    shown = on_a_terminal(process, "build", "build.toml", before=ADVANCES, env={"NO_COLOR": "1"}, ends="the end")
    assert "loss 0.12" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)


def test_quiet_on_a_terminal_shows_nothing(process: Any) -> None:
    """Not even a bar that is gone at once."""
    before = ADVANCES.replace("time.sleep(60)", "raise api.EdgedistillError('over')")
    shown = on_a_terminal(process, "build", "build.toml", "-q", before=before, ends="over")
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).strip() == "error: over"


CHATTERS = """
import os, sys
import edgedistill as api
from edgedistill.base.quiet import quiet_import
def profile(path, listener, **options):
    with quiet_import():
        os.write(2, b"INFO: Created a delegate\\n")
        print("drawn meanwhile", file=sys.stderr)
    os.write(2, b"heard again\\n")
    raise api.EdgedistillError("the end")
api.profile = profile
"""


def test_what_native_code_says_at_an_import_is_dropped_and_what_is_drawn_meanwhile_is_not(process: Any) -> None:
    out, err = process("profile", "model.onnx", before=CHATTERS).communicate(timeout=60)
    assert (out, err.splitlines()) == ("", ["drawn meanwhile", "heard again", "error: the end"])


def test_no_color(process: Any) -> None:
    shown = on_a_terminal(process, "build", "no-such.toml", env={"NO_COLOR": "1"}, ends="check the path")
    assert "error: " in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)
