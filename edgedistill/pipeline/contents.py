"""What goes into a package: the winner's files, and all that stands beside them."""

from __future__ import annotations

from edgedistill.distill.start import start_of
from edgedistill.distill.train import Lessons, schedule_of
from edgedistill.documents.lengths import batch_size_of
from edgedistill.documents.package import Manifest, ManifestArtifact
from edgedistill.documents.results import BuildResult
from edgedistill.formats import format_for
from edgedistill.formats.format import Opened
from edgedistill.outputs.package.card import model_card
from edgedistill.outputs.package.package import PACKAGE, PackageContents, PackageFile
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.golden import golden_of
from edgedistill.pipeline.ship import Files, device_commands, name_of
from edgedistill.pipeline.workbench import Workbench


def contents_of(
    bench: Workbench, source: Source, winner: Files, result: BuildResult, lessons: Lessons
) -> PackageContents:
    """All that goes into the package of `result`, whose files are those of `winner`."""
    files = tuple(
        PackageFile(
            format=m.artifact.format,
            precision=m.artifact.scheme.precision,
            source=m.artifact.path,
            name=name_of(bench, m.artifact),
            inputs=m.model.inputs,
            outputs=m.model.outputs,
            record=format_for(m.artifact.format).record(Opened(m.artifact, source.contract), name_of(bench, m.artifact))
            or "",
        )
        for m in winner.made
    )
    golden = golden_of(bench, source, {name_of(bench, m.artifact): m for m in winner.made})
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
    card = model_card(result, source.contract, training)
    return PackageContents(
        files=files,
        contract=source.contract,
        golden=golden,
        manifest=_manifest(result, winner),
        card=card,
        proven=next(
            (f.name for f, m in zip(files, winner.made, strict=True) if m.result.proof and m.result.proof.met), ""
        ),
        trtexec=device_commands(bench, winner),
    )


def _manifest(result: BuildResult, winner: Files) -> Manifest:
    toolchain = {tool: version for m in winner.made for tool, version in m.artifact.toolchain.items()}
    return Manifest(
        edgedistill_version=result.edgedistill_version,
        build_key=result.build_key,
        target=result.target,
        data_fingerprint=result.data.fingerprint,
        toolchain=dict(sorted(toolchain.items())),
        metric=result.metric,
        artifacts={
            artifact.path.removeprefix(f"{PACKAGE}/"): ManifestArtifact(
                sha256=artifact.sha256, bytes=artifact.bytes, quality=artifact.quality, latency=artifact.latency
            )
            for artifact in result.artifacts
        },
    )
