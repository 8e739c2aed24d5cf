"""The command line: `edgedistill COMMAND`. Commands import what they need when they run, so that `--help` is instant."""

from __future__ import annotations

import contextlib
import inspect as introspect
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from edgedistill.base.errors import ExitCode, InputError
from edgedistill.base.versions import __version__
from edgedistill.cli import (
    build,
    cache,
    calibrate,
    devices,
    doctor,
    evaluate,
    explain,
    export,
    init,
    inspect,
    kit,
    package,
    profile,
    profiles,
    quantize,
    recipes,
    report,
    targets,
    verify,
    views,
)
from edgedistill.cli import run as classify
from edgedistill.cli.options import Quiet, Verbose, asked, help_without_command
from edgedistill.cli.signature import Command, showing_progress

app = typer.Typer(
    name="edgedistill",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which the help lists them, by panel. Each bears the name of its function; its help ends with an example.
_COMMANDS: dict[str, tuple[tuple[Command, str], ...]] = {
    "Build": (
        (showing_progress(build.build), "build build.toml --target raspberry-pi-5"),
        (showing_progress(build.search), "search build.toml --budget 5ms --trials 20"),
        (explain.explain, "explain out --budget 4ms"),
        (report.report, "report out --open"),
        (kit.kit, "kit out --platform web"),
        (init.init, "init --data photos --target pixel-6 --budget 5ms"),
    ),
    "Model files": (
        (showing_progress(export.export), "export timm:resnet18 --out files --formats onnx,coreml"),
        (showing_progress(quantize.quantize), "quantize timm:resnet18 --data photos --out files"),
        (verify.verify, "verify out/package/student-int8.onnx"),
        (showing_progress(evaluate.evaluate), "evaluate out/package/student-int8.onnx --data photos"),
        (classify.run, "run out/package/student-int8.onnx --input photo.jpg"),
        (inspect.inspect, "inspect out/package/student-int8.onnx --layers"),
    ),
    "Devices": (
        (showing_progress(profile.profile), "profile out/package/student-int8.onnx --sessions 5"),
        (showing_progress(calibrate.calibrate), "calibrate --target host --models 30"),
        (showing_progress(doctor.doctor), "doctor --json"),
    ),
}


def _reflowed(text: str | None) -> str:
    """A docstring with each paragraph as one line, which the help breaks where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in introspect.cleandoc(text or "").split("\n\n"))


for _panel, _commands in _COMMANDS.items():
    for _command, _example in _commands:
        app.command(
            help=_reflowed(_command.__doc__), epilog=f"Example: edgedistill {_example}", rich_help_panel=_panel
        )(_command)
app.add_typer(recipes.app, name="recipes", rich_help_panel="Build", epilog="Example: edgedistill recipes show kd")
app.add_typer(views.app, name="views", rich_help_panel="Build", epilog="Example: edgedistill views info build.toml")
app.add_typer(
    package.app, name="package", rich_help_panel="Model files", epilog="Example: edgedistill package verify out/package"
)
app.add_typer(
    profiles.app, name="profiles", rich_help_panel="Devices", epilog="Example: edgedistill profiles show host"
)
app.add_typer(
    targets.app, name="targets", rich_help_panel="Devices", epilog="Example: edgedistill targets show raspberry-pi-5"
)
app.add_typer(devices.app, name="devices", rich_help_panel="Devices", epilog="Example: edgedistill devices --json")
app.add_typer(cache.app, name="cache", rich_help_panel="Cache", epilog="Example: edgedistill cache info")

# What the command-line parser raises for a wrong option: its class has moved between releases of typer, which exports
# only this subclass.
_UsageError: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgedistill {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Distil a vision teacher into a student that is proven to meet a latency budget on your device.

    Begin with `edgedistill init`, then `edgedistill build build.toml`.
    """
    asked.quiet, asked.verbose = quiet, verbose
    help_without_command(context)


def main() -> None:
    """Entry point of the `edgedistill` command."""
    _set_stderr_apart()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a build.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _interrupt)
    # GNU's OpenMP, whose threads torch computes with, reads it when it is loaded. They meet after every layer, and spin
    # there for milliseconds until all have come. Beside a busy neighbour one of them is without a processor, and each
    # meeting lasts that long. After a shorter spin they sleep, which costs little where the machine is quiet.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.exit(run(sys.argv[1:]))


def _set_stderr_apart() -> None:
    """Give Python's stderr a descriptor of its own: native code writes to 2, which is silenced now and then (see
    edgedistill/base/quiet.py)."""
    with contextlib.suppress(AttributeError, OSError):  # there is none
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        code = app(arguments, prog_name="edgedistill", standalone_mode=False)
    except _UsageError as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        from edgedistill.cli.errors import show_bug

        show_bug(error, __version__, as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0


def _usage(error: Exception, as_json: bool) -> int:
    """A wrong option or argument: what is wrong and where the help is."""
    from edgedistill.cli.errors import show_error

    context = getattr(error, "ctx", None)
    message = getattr(error, "format_message", lambda: str(error))()
    fix = f"see {context.command_path if context is not None else 'edgedistill'} --help"
    show_error(InputError(message, fix=fix), as_json=as_json)
    return int(ExitCode.BAD_INPUT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a build as Ctrl-C does: what is finished stays, and the same command goes on."""
    raise KeyboardInterrupt
