"""From a network to the files that a runtime loads: convert, compile; each a stage of the store."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from torch import nn

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.isolation import CONVERSION, in_child
from edgedistill.base.store import stage_key, write_atomic
from edgedistill.data.calibration import FILE as CALIBRATION
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel
from edgedistill.documents.specs import Format, Frozen, Precision, QuantScheme
from edgedistill.formats import format_for, tools_of
from edgedistill.formats.convert import convert
from edgedistill.formats.format import Conversion, IntegerStyle, ModelFormat
from edgedistill.networks.program.program import to_program
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Maker, Source

F = TypeVar("F", bound=Frozen)
P = ParamSpec("P")
R = TypeVar("R")

REWRITTEN = "rewritten.safetensors"


def portable(bench: Maker, source: Source, scheme: QuantScheme, form: Format) -> ExportedModel:
    """The portable file of `source` in this precision that `form` compiles. Raises TrialFailure where the exporter or
    quantiser cannot."""
    style = style_for(bench, form)
    form = format_for(form).portable
    if source.file is not None and source.file.format is form and scheme.precision is Precision.FP32:
        return source.file
    source = rewritten_source(bench, source, scheme)
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": scheme.model_dump(mode="json"),
            "format": form,
            "style": style if scheme.integer else None,
            "target": format_for(form).depends_on(bench.target),
            "calibration": bench.calibration.key if scheme.integer else None,
        },
        code=code.exporting(form),
        tools=tools_of(form),
    )

    def make(folder: Path) -> None:
        made = convert(conversion(bench, source, scheme, form, style), form, scheme, folder)
        save_made(made, folder / "exported.json")
        if scheme.integer and (chosen := bench.calibration.chosen) is not None:
            write_atomic(folder / CALIBRATION, chosen.model_dump_json())

    folder = bench.store.stage("export", key, make, subject=f"{source.label} {form} {scheme.label}")
    return load_made(ExportedModel, folder / "exported.json")


def rewritten_source(bench: Maker, source: Source, scheme: QuantScheme) -> Source:
    """`source` with what `scheme` does to its weights done: channels evened out, biases corrected. Itself where the scheme
    does neither. Raises UnsupportedError where it cannot be."""
    if not (scheme.equalized or scheme.bias_corrected):
        return source
    if source.file is not None:
        raise UnsupportedError(
            "weights of an ONNX file are not rewritten: there is no torch model behind it",
            fix="give timm:NAME, module:function or a .pt2 program",
        )
    # Evening out looks at nothing but ranges; a bias is corrected for what the very scheme rounds.
    done = scheme if scheme.bias_corrected else QuantScheme(precision=Precision.INT8, equalized=True)
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": done.model_dump(mode="json"),
            "calibration": bench.calibration.key,
        },
        code=code.REWRITING,
        tools=("torch", "torchao"),
    )

    def make(folder: Path) -> None:
        from edgedistill.networks.rounding.weights import rewritten, write_weights

        images = bench.calibration.pixels(source.contract)
        write_weights(rewritten(source.load(), source.contract, images, done), folder / REWRITTEN)

    folder = bench.store.stage("rewrite", key, make, subject=f"{source.label} {done.details}")

    def load() -> nn.Module:
        from edgedistill.networks.rounding.weights import with_weights

        return with_weights(source.load(), source.contract, folder / REWRITTEN)

    return Source(source.label, key, source.contract, load)


def style_for(bench: Maker, form: Format) -> IntegerStyle:
    """How the integers of `form`'s portable file are laid out. A portable file of the target's own runtime is what that
    compiles, here or on the device."""
    own, runtime = format_for(form), format_for(bench.target.runtime)
    reader = runtime if own.portable is form and runtime.portable is form else own
    return reader.style(bench.target.machine or platform.machine())


def conversion(bench: Maker, source: Source, scheme: QuantScheme, form: Format, style: IntegerStyle) -> Conversion:
    """What the converter of `form` is given."""
    derived = format_for(form).from_fp32 and scheme.precision is not Precision.FP32
    full = portable(bench, source, QuantScheme(precision=Precision.FP32), form) if derived else None
    return Conversion(
        contract=source.contract,
        build_hash=source.key,
        module=source.load,
        program=lambda: to_program(source.load(), source.contract),
        calibration=lambda: bench.calibration.pixels(source.contract),
        style=style,
        delegate=bench.target.delegate,
        soc=bench.target.soc,
        full=full,
    )


def compiled(bench: Maker, model: ExportedModel, form: Format | None = None) -> CompiledArtifact:
    """The file that `form`'s runtime loads on the target. Raises UnsupportedError with what stands in the way."""
    target = bench.target
    runtime = format_for(form or target.runtime)
    facts = {"name": target.name, "machine": target.machine, "capabilities": target.compute_capabilities}
    key = stage_key(
        {"model": model.sha256, "scheme": model.scheme.model_dump(mode="json"), "target": facts},
        code=code.compiling(runtime.format),
        tools=tools_of(runtime.format),
    )

    def make(folder: Path) -> None:
        save_made(apart(runtime, "compiling for", runtime.compile, model, target, folder), folder / "compiled.json")

    folder = bench.store.stage("compile", key, make, subject=f"{runtime.format} {model.scheme.label}")
    return load_made(CompiledArtifact, folder / "compiled.json")


def apart(form: ModelFormat, doing: str, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """`function` of a format, in a child process: what it does to that costs its own file alone. Raises ChildFailure where
    the process ends, and what `function` raises."""
    if form.in_this_process:
        return function(*arguments, **named)
    return in_child(f"{doing} {form.format}", CONVERSION, function, *arguments, **named)


def save_made(value: ExportedModel | CompiledArtifact, path: Path) -> None:
    """With the file's path relative to `path`, since a stage's folder is renamed when it is whole."""
    base = path.parent
    file = value.path.relative_to(base) if value.path.is_relative_to(base) else value.path
    write_atomic(path, value.model_copy(update={"path": file}).model_dump_json())


def load_made(kind: type[F], path: Path) -> F:
    """What `save_made` left."""
    content = json.loads(path.read_text())
    content["path"] = str(path.parent / content["path"])
    return kind.model_validate(content)
