"""From a network to the files that a runtime loads: convert, compile; each a stage of the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from edgedistill.artifacts import CalibrationSet, CompiledArtifact, ExportedModel
from edgedistill.converters import Conversion, convert
from edgedistill.exporters.program import to_program
from edgedistill.quantizers.calibration_set import FILE as CALIBRATION
from edgedistill.quantizers.calibration_set import calibration_pixels, choose_calibration
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import Images
from edgedistill.specs import Contract, Format, Frozen, Precision, QuantScheme, Target
from edgedistill.store import stage_key, write_atomic
from edgedistill.tools import EXPORT_TOOLS
from edgedistill.workbench import Source, Workbench

F = TypeVar("F", bound=Frozen)

REWRITTEN = "rewritten.safetensors"


def portable(bench: Workbench, source: Source, scheme: QuantScheme, form: Format) -> ExportedModel:
    """The portable file of `source` in this precision that `form`'s runtime compiles: ONNX for ONNX Runtime and TensorRT,
    a package for Core ML. Raises TrialFailure where the exporter or quantiser cannot."""
    if form is Format.TENSORRT and not scheme.integer:
        form = Format.ONNX  # the very same file; only the places of Q/DQ pairs differ between the two runtimes
    source = rewritten_source(bench, source, scheme)
    inputs = {
        "source": source.key,
        "contract": source.contract.model_dump(mode="json"),
        "scheme": scheme.model_dump(mode="json"),
        "format": form,
        "machine": bench.machine,
        "runtime": bench.target.runtime,
        "delegate": [bench.target.delegate, bench.target.soc] if form is Format.EXECUTORCH else None,
        "calibration": bench.data_key if scheme.integer else None,
    }
    code = ("edgedistill.converters", "edgedistill.exporters", "edgedistill.quantizers", "edgedistill.students")
    key = stage_key(inputs, code=code, tools=EXPORT_TOOLS)

    def make(folder: Path) -> None:
        _save(_made(bench, source, scheme, form, folder), folder / "exported.json")
        if scheme.integer:
            write_atomic(folder / CALIBRATION, calibration_set(bench).model_dump_json())

    folder = bench.store.stage("export", key, make, subject=f"{source.label} {form} {scheme.label}")
    return _load(ExportedModel, folder / "exported.json")


def calibration_set(bench: Workbench) -> CalibrationSet:
    """The training images that ranges are read off, the same for every candidate."""
    return choose_calibration(bench.dataset, bench.config.export.calibration_images)


def calibration(bench: Workbench, contract: Contract) -> Images:
    """Their pixels through the contract, uint8 [n, 3, R, R]."""
    return calibration_pixels(calibration_set(bench), bench.dataset, contract)


def rewritten_source(bench: Workbench, source: Source, scheme: QuantScheme) -> Source:
    """`source` with what `scheme` does to its weights done: channels evened out, biases corrected. Itself where the scheme
    does neither. Raises UnsupportedError where it cannot be."""
    if not (scheme.equalized or scheme.bias_corrected):
        return source
    # Evening out looks at nothing but ranges; a bias is corrected for what the very scheme rounds.
    done = scheme if scheme.bias_corrected else QuantScheme(precision=Precision.INT8, equalized=True)
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": done.model_dump(mode="json"),
            "calibration": [bench.data_key, bench.config.export.calibration_images],
        },
        code=("edgedistill.quantizers", "edgedistill.exporters.passes", "edgedistill.students"),
        tools=("torch", "torchao"),
    )

    def make(folder: Path) -> None:
        from edgedistill.quantizers.rewrites import rewritten, write_weights

        images = calibration(bench, source.contract)
        write_weights(rewritten(source.load(), source.contract, images, done), folder / REWRITTEN)

    folder = bench.store.stage("rewrite", key, make, subject=f"{source.label} {done.details}")

    def load() -> nn.Module:
        from edgedistill.quantizers.rewrites import with_weights

        return with_weights(source.load(), source.contract, folder / REWRITTEN)

    return Source(source.label, key, source.contract, load)


def _made(bench: Workbench, source: Source, scheme: QuantScheme, form: Format, folder: Path) -> ExportedModel:
    if form is Format.NULL:
        from edgedistill.runtimes.null import export_null

        return export_null(source.load(), source.contract, scheme, folder)
    derived = form in (Format.ONNX, Format.TENSORRT) and scheme.precision is not Precision.FP32
    full = portable(bench, source, QuantScheme(precision=Precision.FP32), Format.ONNX) if derived else None
    # The ONNX files of a TensorRT target are what its builder reads, there or on the device.
    on_gpu = Format.TENSORRT in (form, bench.target.runtime)
    what = Conversion(
        contract=source.contract,
        build_hash=source.key,
        module=source.load,
        program=lambda: to_program(source.load(), source.contract),
        calibration=lambda: calibration(bench, source.contract),
        style=IntegerStyle.TENSORRT if on_gpu else IntegerStyle.for_onnxruntime(bench.machine),
        delegate=bench.target.delegate,
        soc=bench.target.soc,
        full=full,
    )
    return convert(what, form, scheme, folder)


def compiled(bench: Workbench, model: ExportedModel, form: Format | None = None) -> CompiledArtifact:
    """The file that `form`'s runtime loads on the target. Raises UnsupportedError with what stands in the way."""
    runtime = runtime_for(form or bench.target.runtime)
    key = stage_key(
        {"model": model.sha256, "scheme": model.scheme.model_dump(mode="json"), "target": _compile_facts(bench.target)},
        code=(f"edgedistill.runtimes.{runtime.format if runtime.format is not Format.ONNX else 'onnxruntime'}",),
        tools=EXPORT_TOOLS,
    )

    def make(folder: Path) -> None:
        _save(runtime.compile(model, bench.target, folder), folder / "compiled.json")

    folder = bench.store.stage("compile", key, make, subject=f"{runtime.format} {model.scheme.label}")
    return _load(CompiledArtifact, folder / "compiled.json")


def _compile_facts(target: Target) -> dict[str, Any]:
    return {"name": target.name, "machine": target.machine, "capabilities": target.compute_capabilities}


def _save(value: ExportedModel | CompiledArtifact, path: Path) -> None:
    """With the file's path relative to `path`, since a stage's folder is renamed when it is whole."""
    base = path.parent
    file = value.path.relative_to(base) if value.path.is_relative_to(base) else value.path
    write_atomic(path, value.model_copy(update={"path": file}).model_dump_json())


def _load(kind: type[F], path: Path) -> F:
    content = json.loads(path.read_text())
    content["path"] = str(path.parent / content["path"])
    return kind.model_validate(content)
