"""The command line: `edgedistill COMMAND`. Commands import what they need when they run, so that `--help` is instant."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer

from edgedistill.base.errors import ExitCode, InputError
from edgedistill.base.versions import __version__
from edgedistill.cli import (
    build,
    cache,
    calibrate,
    doctor,
    evaluate,
    explain,
    export,
    init,
    inspect,
    profile,
    profiles,
    quantize,
    report,
    targets,
    verify,
)
from edgedistill.cli import run as classify
from edgedistill.cli.options import help_without_command

app = typer.Typer(
    name="edgedistill",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which the help lists them; each bears the name of its function.
_COMMANDS: tuple[Callable[..., None], ...] = (
    build.build,
    build.search,
    export.export,
    quantize.quantize,
    inspect.inspect,
    verify.verify,
    evaluate.evaluate,
    classify.run,
    init.init,
    targets.targets,
    doctor.doctor,
    profile.profile,
    calibrate.calibrate,
    profiles.profiles,
    report.report,
    explain.explain,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(cache.app, name="cache")

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
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more while working.")] = False,
) -> None:
    """Distil a vision teacher into a student that is proven to meet a latency budget on your device.

    Begin with `edgedistill init`, then `edgedistill build build.toml`.
    """
    context.obj = verbose
    help_without_command(context)


def main() -> None:
    """Entry point of the `edgedistill` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a build.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


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
