"""The quantisation ladder inside a build: its files are stages of the store, so that a second look at a rung is free.

`choose` is what a build asks: which scheme takes the place of int8 for this network in this format, and what it is made
from. `climbing.py` climbs the same ladder for a model that is there already, without a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from edgedistill.artifacts import Inspected, LadderRung, SchemeResult, UnknownLatency, answers_of
from edgedistill.devices.turns import training
from edgedistill.files import calibration, compiled, portable, rewritten_source
from edgedistill.isolation import CONVERSION, in_child
from edgedistill.ladder import Margins, Measured, Tools, climb
from edgedistill.measuring import relative_p50
from edgedistill.pipeline import TRAINING_CODE, stand_in_for, verified
from edgedistill.progress import StageAdvanced
from edgedistill.quantizers.damage import LayerDamage
from edgedistill.quantizers.onnx_sensitivity import rank_layers as rank_onnx_layers
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.quantizers.qat import WEIGHTS as TUNED
from edgedistill.quantizers.qat import tune
from edgedistill.quantizers.rewrites import with_weights
from edgedistill.quantizers.sensitivity import rank_layers
from edgedistill.specs import Format, Precision, QuantScheme
from edgedistill.store import stage_key, write_atomic
from edgedistill.teachers.cache import ViewStore
from edgedistill.tools import EXPORT_TOOLS, TRAINING_TOOLS
from edgedistill.workbench import Source, Workbench

QAT_EPOCHS = 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """What takes the place of a scheme, and the network its file is made from. `tried` tells of the rungs where none of
    several was accepted, so that the scheme itself stays."""

    scheme: QuantScheme
    source: Source
    tried: str = ""


def choose(
    bench: Workbench,
    source: Source,
    scheme: QuantScheme,
    form: Format,
    baseline: SchemeResult | None,
    views: ViewStore | None = None,
) -> Chosen:
    """For int8 the rung that the ladder accepts in that format, with `views` one trained under rounding as the last resort.
    The scheme itself where it is another precision, where there is no wider file (`baseline`) to lose to, or where no rung
    is accepted."""
    if scheme.precision is not Precision.INT8 or baseline is None:
        return Chosen(scheme, source)
    rungs = climbed(bench, source, form, baseline, views=views)
    for rung in rungs:
        if rung.accepted:
            return Chosen(rung.scheme, settled(bench, source, rung.scheme, views))
    seen = [rung for rung in rungs if rung.accuracy is not None]
    if len(seen) < 2:
        return Chosen(scheme, source)
    best = max(seen, key=lambda rung: rung.accuracy or 0.0)
    return Chosen(scheme, source, f"of {len(rungs)} rungs tried the best ({best.scheme.details}) {best.reason}")


def climbed(
    bench: Workbench, source: Source, form: Format, baseline: SchemeResult, *, views: ViewStore | None = None
) -> tuple[LadderRung, ...]:
    """The rungs of int8 for one format, up to the accepted one. `baseline` is the widest file of that format. With `views`
    the last rung trains under rounding."""
    export = bench.config.export
    margins = Margins(export.max_accuracy_loss, export.margin_speed, export.margin_size)
    key = stage_key(
        {
            "source": source.key,
            "baseline": baseline.artifact.sha256,
            "format": form,
            "target": bench.target.name,
            "export": export.model_dump(mode="json"),
            "data": bench.data_key,
            "views": views.folder.name if views else None,
            "profile": baseline.profile,
        },
        code=("edgedistill.ladder", "edgedistill.quantizers", "edgedistill.converters"),
        tools=EXPORT_TOOLS,
    )
    known = TypeAdapter(tuple[LadderRung, ...])

    def make(folder: Path) -> None:
        found = climb(
            _tools(bench, source, form, baseline, views),
            Measured(answers_of(baseline), baseline.artifact.bytes),
            margins,
            images=export.calibration_images,
            qat_epochs=QAT_EPOCHS if views else 0,
            layers_kept=form is not Format.NULL,
        )
        write_atomic(folder / "ladder.json", known.dump_json(found.rungs))

    folder = bench.store.stage("ladder", key, make, subject=f"{source.label} {form}")
    return known.validate_json((folder / "ladder.json").read_bytes())


def _tools(
    bench: Workbench, source: Source, form: Format, baseline: SchemeResult, views: ViewStore | None
) -> Tools[SchemeResult]:
    def make(scheme: QuantScheme) -> SchemeResult:
        origin = settled(bench, source, scheme, views)
        model = portable(bench, origin, scheme, form)
        artifact = compiled(bench, model, form)
        verification = verified(bench, artifact, source)
        stand_in = stand_in_for(bench, artifact, model, source) if isinstance(verification, Inspected) else None
        unknown = UnknownLatency(reason="not measured yet", device=bench.target.name)
        return SchemeResult(
            scheme=scheme, artifact=artifact, verification=verification, latency=unknown, stand_in=stand_in
        )

    def relative(result: SchemeResult) -> float | None:
        if form is not bench.target.runtime:
            return None
        return relative_p50(bench, result.artifact, source, baseline.artifact)

    return Tools(
        make=make,
        answers=answers_of,
        bytes=lambda result: result.artifact.bytes,
        relative_p50=relative,
        ranked=lambda scheme: [d.layer for d in damages(bench, settled(bench, source, scheme, views), scheme, form)],
    )


def settled(bench: Workbench, source: Source, scheme: QuantScheme, views: ViewStore | None) -> Source:
    """What a file of `scheme` is made from: `source`, or what training it under rounding made of it. Raises TrialFailure
    where that diverges."""
    if not scheme.qat_epochs:
        return source
    assert views is not None
    store, config = bench.store, bench.config.train
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": scheme.model_dump(mode="json"),
            "data": [bench.data_key, bench.config.export.calibration_images],
            "views": views.folder.name,
            "recipe": config.model_dump(mode="json", exclude={"checkpoint_seconds", "workers"}),
        },
        code=("edgedistill.quantizers", *TRAINING_CODE),
        tools=(*TRAINING_TOOLS, "torchao"),
    )

    def make(folder: Path) -> None:
        images = calibration(bench, source.contract)

        def on_progress(done: int, total: int, note: str) -> None:
            store.listener(StageAdvanced("tune", done, total, note))

        with training(store.listener):
            tune(source.load(), source.contract, images, scheme, bench.dataset, views, config, folder, on_progress)

    folder = store.stage("tune", key, make, subject=f"{source.label} {scheme.details}", resumable=True)
    return Source(
        source.label, key, source.contract, lambda: with_weights(source.load(), source.contract, folder / TUNED)
    )


def damages(bench: Workbench, source: Source, scheme: QuantScheme, form: Format) -> tuple[LayerDamage, ...]:
    """The layers of `source` that int8 damages, most damaged first: measured on the ONNX file where that is what is
    quantised, else on the torch program. Raises UnsupportedError where it cannot be traced."""
    origin = rewritten_source(bench, source, scheme)
    images = calibration(bench, source.contract)
    if form not in (Format.ONNX, Format.TENSORRT):
        return rank_layers(origin.load(), source.contract, images, scheme)
    full = portable(bench, origin, QuantScheme(precision=Precision.FP32), Format.ONNX)
    on_gpu = Format.TENSORRT in (form, bench.target.runtime)
    style = IntegerStyle.TENSORRT if on_gpu else IntegerStyle.for_onnxruntime(bench.machine)
    return in_child("measuring layers", CONVERSION, rank_onnx_layers, full, images, scheme, style)
