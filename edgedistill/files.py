"""From a network to the files that a runtime loads: export, quantise, compile; each a stage of the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgedistill.artifacts import (
    CompiledArtifact,
    ExportedModel,
    StandIn,
)
from edgedistill.export.program import reference_logits, to_program
from edgedistill.runtimes import runtime_for
from edgedistill.specs import Format, Frozen, Precision, QuantScheme, Target
from edgedistill.store import stage_key, write_atomic
from edgedistill.workbench import Source, Workbench

F = TypeVar("F", bound=Frozen)

STAND_IN = "stand-in.json"

EXPORT_TOOLS = ("torch", "torchao", "onnx", "onnxscript", "onnxruntime", "coremltools", "tensorrt", "tensorrt-rtx-cu12")


def portable(bench: Workbench, source: Source, scheme: QuantScheme, form: Format) -> ExportedModel:
    """The portable file of `source` in this precision that `form`'s runtime compiles: ONNX for ONNX Runtime and TensorRT,
    a package for Core ML. Raises TrialFailure where the exporter or quantiser cannot."""
    if form is Format.TENSORRT and scheme.precision is not Precision.INT8:
        form = Format.ONNX  # the very same file; only the places of Q/DQ pairs differ between the two runtimes
    inputs = {
        "source": source.key,
        "contract": source.contract.model_dump(mode="json"),
        "scheme": scheme.model_dump(mode="json"),
        "format": form,
        "machine": bench.machine,
        "runtime": bench.target.runtime,
        "calibration": bench.data_key if scheme.precision is Precision.INT8 else None,
    }
    code = ("edgedistill.export", "edgedistill.quantize", "edgedistill.students")
    key = stage_key(inputs, code=code, tools=EXPORT_TOOLS)

    def make(folder: Path) -> None:
        model = _EXPORTERS[form](bench, source, scheme, folder)
        _save(model, folder / "exported.json")

    folder = bench.store.stage("export", key, make, subject=f"{source.label} {form} {scheme.label}")
    return _load(ExportedModel, folder / "exported.json")


def _export_null(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.runtimes.null import export_null

    return export_null(source.load(), source.contract, scheme, folder)


def _export_onnx(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.export.onnx import export_onnx
    from edgedistill.quantize.onnx_fp16 import to_fp16
    from edgedistill.quantize.onnx_static import IntegerStyle, to_int8

    if scheme.precision is Precision.FP32:
        program = to_program(source.load(), source.contract)
        return export_onnx(program, source.contract, folder / "model.onnx", build_hash=source.key)
    full = portable(bench, source, QuantScheme(precision=Precision.FP32), Format.ONNX)
    if scheme.precision is Precision.FP16:
        return to_fp16(full, folder)
    # The ONNX files of a TensorRT target are what its builder reads, there or on the device.
    on_gpu = bench.target.runtime is Format.TENSORRT
    style = IntegerStyle.TENSORRT if on_gpu else IntegerStyle.for_onnxruntime(bench.machine)
    return to_int8(full, bench.calibration(source.contract), scheme, folder, style)


def _export_tensorrt(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.quantize.onnx_static import IntegerStyle, to_int8

    full = portable(bench, source, QuantScheme(precision=Precision.FP32), Format.ONNX)
    return to_int8(full, bench.calibration(source.contract), scheme, folder, IntegerStyle.TENSORRT)


def _export_coreml(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.export.coreml import export_coreml
    from edgedistill.quantize.coreml import quantize_coreml

    path = folder / "model.mlpackage"
    if scheme.precision is Precision.INT8:
        calibration = bench.calibration(source.contract)
        model, quantised = quantize_coreml(
            source.load(), calibration, source.contract, scheme, path, build_hash=source.key
        )
        logits = reference_logits(quantised, bench.images("validation", source.contract))
        accuracy = float((logits.argmax(axis=1) == bench.labels("validation")).mean())
        found = StandIn(what="the quantised torch program it was converted from", accuracy_validation=accuracy)
        write_atomic(folder / STAND_IN, found.model_dump_json())
        return model
    program = to_program(source.load(), source.contract)
    return export_coreml(program, source.contract, path, scheme.precision, build_hash=source.key)


_EXPORTERS: dict[Format, Callable[[Workbench, Source, QuantScheme, Path], ExportedModel]] = {
    Format.ONNX: _export_onnx,
    Format.TENSORRT: _export_tensorrt,
    Format.COREML: _export_coreml,
    Format.NULL: _export_null,
}


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
