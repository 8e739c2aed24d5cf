"""What goes into a package: the winner's files, and all that stands beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from edgedistill.distill.start import start_of
from edgedistill.distill.train import Lessons, schedule_of
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.lengths import batch_size_of
from edgedistill.documents.package import Manifest, ManifestArtifact, Study
from edgedistill.documents.results import BuildResult
from edgedistill.formats import format_for
from edgedistill.formats.format import Opened
from edgedistill.outputs.package.answers import wrong_pictures
from edgedistill.outputs.package.card import model_card
from edgedistill.outputs.package.package import PACKAGE, PackageContents, PackageFile
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.golden import golden_of
from edgedistill.pipeline.ship import Files, device_commands, name_of
from edgedistill.pipeline.shipped import Shipped
from edgedistill.pipeline.workbench import Workbench


def contents_of(
    bench: Workbench,
    source: Source,
    winner: Files,
    shipped: Sequence[Shipped],
    result: BuildResult,
    lessons: Lessons,
    out: Path,
) -> PackageContents:
    """All that goes into the package of `result`, in the output folder `out`: of the `winner`'s files those that are
    `shipped`."""
    files = tuple(_file(bench, source, one) for one in shipped)
    golden = golden_of(bench, source, {name_of(bench, one.artifact): one for one in shipped})
    train = lessons.config
    training = {
        "recipe": train.recipe_name,
        "loss": " + ".join(term.label for term in train.composition),
        "batch size": str(batch_size_of(train.batch_size, len(bench.taught.splits.train))),
        "learning rate": f"{schedule_of(train, bench.rungs[-1]).learning_rate:.2g}",
        "epochs": str(bench.rungs[-1]),
    }
    if result.student is not None and (start := start_of(bench.space, result.student.spec.family)) is not None:
        training["starts from"] = start.described
    if result.teacher.ensemble:
        members = (f"{member.name} (weight {member.weight:.2f})" for member in result.teacher.ensemble)
        training["teachers together"] = ", ".join(members)
    about, told = bench.config.package.about, result.predictions_on_test
    card = model_card(result, source.contract, training, about)
    mistakes = told.mistakes if told else ()
    return PackageContents(
        files=files,
        contract=source.contract,
        golden=golden,
        manifest=_manifest(bench, result, shipped),
        card=card,
        proven=next((f.name for f, m in zip(files, shipped, strict=True) if (p := m.made.result.proof) and p.met), ""),
        trtexec=device_commands(bench, winner),
        pictures={
            shown.path: out / mistake.thumbnail
            for shown, mistake in zip(wrong_pictures(told) if told else (), mistakes, strict=False)
        },
    )


def _file(bench: Workbench, source: Source, shipped: Shipped) -> PackageFile:
    artifact, name = shipped.artifact, name_of(bench, shipped.artifact)
    return PackageFile(
        format=artifact.format,
        precision=artifact.scheme.precision,
        source=artifact.path,
        name=name,
        inputs=shipped.made.model.inputs,
        outputs=shipped.made.model.outputs,
        record=format_for(artifact.format).record(Opened(artifact, source.contract), name) or "",
        probabilities=shipped.probabilities,
    )


def _manifest(bench: Workbench, result: BuildResult, shipped: Sequence[Shipped]) -> Manifest:
    toolchain = {tool: version for one in shipped for tool, version in one.artifact.toolchain.items()}
    states = Counter(trial.state for trial in result.trials)
    config = bench.config
    return Manifest(
        edgedistill_version=result.edgedistill_version,
        build_key=result.build_key,
        target=result.target,
        about=config.package.about,
        settings=settings_of(config),
        study=Study(
            trials=len(result.trials),
            complete=states["complete"],
            pruned=states["pruned"],
            over_budget=states["over_budget"],
            failed=states["failed"],
        ),
        data_fingerprint=result.data.fingerprint,
        toolchain=dict(sorted(toolchain.items())),
        metric=result.metric,
        artifacts={
            artifact.path.removeprefix(f"{PACKAGE}/"): ManifestArtifact(
                sha256=artifact.sha256,
                measured_sha256=artifact.as_measured,
                bytes=artifact.bytes,
                quality=artifact.quality,
                latency=artifact.latency,
                not_reproducible=format_for(artifact.format).not_reproducible,
            )
            for artifact in result.artifacts
        },
    )


def settings_of(config: BuildConfig) -> dict[str, Any]:
    """The settings that are not the defaults, as JSON takes them."""
    found: dict[str, Any] = _named(config.model_dump(mode="python", exclude_defaults=True))
    return found


def _named(value: Any) -> Any:
    """A setting as JSON takes it, of a path its last part alone, also behind a word such as `onnx:`: where a user keeps
    files is no part of a package."""
    if isinstance(value, Mapping):
        return {name: _named(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_named(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        kind, colon, rest = value.rpartition(":")
        return f"{kind}{colon}{Path(rest).name}" if Path(rest).is_absolute() else value
    return value.name if isinstance(value, Path) else value
