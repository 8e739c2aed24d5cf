"""Arguments that several commands have."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.base.errors import ExitCode
from edgedistill.cli.completion import complete_target

ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="A .onnx, .mlpackage, .engine, .tflite or .pte.")]
TargetName = Annotated[
    str, typer.Option(metavar="NAME|PATH.toml", autocompletion=complete_target, help="Device the file is for.")
]
MeasuredOn = Annotated[
    str, typer.Option(metavar="NAME|PATH.toml", autocompletion=complete_target, help="Device to measure on.")
]
DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME|ADDRESS",
        help="Where the target is measured: a name in your devices.toml, ssh://USER@HOST or adb://SERIAL.",
    ),
]
BuildOutput = Annotated[Path, typer.Argument(metavar="OUT", help="A build's output folder, or the build.json in it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be tried and what it costs, and do nothing.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print reused stages and each step too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Formats = Annotated[
    str, typer.Option(metavar="LIST|all", help="onnx, coreml, tensorrt, litert, executorch; with commas, or all.")
]


@dataclass
class Asked:
    """What a command line says of the progress that it wants to see: before its command's name, or behind it."""

    quiet: bool = False
    verbose: bool = False


asked = Asked()
"""Of the command line that runs now. `quiet` has the last word."""


def progress_options(quiet: Quiet = False, verbose: Verbose = False) -> None:
    """What every command takes that shows its progress."""


def search_options(
    path: Annotated[Path, typer.Argument(metavar="BUILD.toml", help="The build file; `edgedistill init` writes one.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH.toml",
            autocompletion=complete_target,
            help="Device to build for, in place of the file's; may be given several times. `edgedistill targets` lists "
            "them.",
        ),
    ] = None,
    one_student: Annotated[
        bool, typer.Option("--one-student", help="One student for all targets, instead of a winner for each.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="5ms[@p95]|20%[@p95]",
            help="Latency to stay within, in place of the file's: milliseconds, or a share of the teacher's.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="out/ beside BUILD.toml")
    ] = None,
    device: DeviceName = "",
    require_measured: Annotated[
        bool, typer.Option("--require-measured", help="Exit 4 unless the budget was measured on the device.")
    ] = False,
    remeasure: Annotated[
        bool,
        typer.Option("--remeasure", help="Take all measurements again; the new proof stands beside the one before."),
    ] = False,
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Candidates to begin at most, in place of the file's.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="2h", help="No further candidates begin after so long: 90s, 4m, 2h, 1h30m.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be used, and say which.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", metavar="N", help="Views labelled, then students trained at a time.")
    ] = 1,
    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="What trains: this machine, or a Ray cluster.")
    ] = "local",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Where the study is kept; processes that name the same one share the work.",
            show_default="OUT/study.journal",
        ),
    ] = None,
) -> None:
    """What `build` and `search` take: the build file, and what replaces what it says."""


def model_options(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="timm:, transformers: or open_clip:NAME, module:function, .pt2 or .onnx."),
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights: safetensors or a state dict.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Classes of the model.")] = None,
    resolution: Annotated[int | None, typer.Option(min=8, max=1024, metavar="R", help="Side of its input.")] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Normalisation, in 0..1 as model cards give it.")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="See --mean.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.")] = None,
    text_vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Vectors of the classes for open_clip: .npy or .npz.")
    ] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Leave a library's weights out.")] = False,
    target: TargetName = "host",
) -> None:
    """What `export` and `quantize` take: the model, how it is opened, and what its files are for."""


def help_without_command(context: typer.Context) -> None:
    """Shows a group's help on stderr, and ends with the code of wrong use, where none of its commands was named. Typer's own
    `no_args_is_help` shows it on stdout, which belongs to results."""
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            typer.echo(context.get_help())  # with rich, typer prints it itself and returns nothing
        raise typer.Exit(int(ExitCode.BAD_INPUT))
