"""Core ML: runs and measures on macOS; elsewhere a reference interpreter computes its packages."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import EdgedistillError, Problem, UnsupportedError
from edgedistill.base.quiet import quiet
from edgedistill.base.store import copy_atomic, size_bytes
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.devices.sessions import profile_file
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.measurements import Profile
from edgedistill.documents.package import ImageEdge
from edgedistill.documents.specs import ComputedBy, Contract, Format, QuantScheme, Target
from edgedistill.formats.carried import CONTRACT_KEY, carried_contract, carried_probabilities, carried_scheme
from edgedistill.formats.coreml import on_device
from edgedistill.formats.coreml.checks import CONTRACT_RECORD, check_package, contract_digest
from edgedistill.formats.coreml.package import Package, computed_precision, read_package, signature, weighted_layers
from edgedistill.formats.coreml.plan import compute_units
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET, import_coremltools
from edgedistill.formats.format import Conversion, ModelFormat, ModelMetadata, Opened, counted, fallback_problems
from edgedistill.formats.running import fitting


class CoreMLFormat(ModelFormat):
    """Core ML packages, by Core ML on a Mac and by a reference interpreter elsewhere."""

    format = Format.COREML
    suffixes = (".mlpackage",)
    computed_by = ComputedBy.DEVICE if sys.platform == "darwin" else ComputedBy.REFERENCE
    has_metadata = True
    is_folder = True
    tools = ("coremltools", "torch", "torchao")
    native = ("coremltools",)
    distribution = "coremltools"
    on_device = Path(__file__).with_name("on_device.py")
    system = "macOS"

    @property
    def here(self) -> str:
        """The same on a Mac; elsewhere a reference interpreter computes them."""
        if self.computed_by is ComputedBy.DEVICE:
            return super().here
        return "made here and computed by the reference interpreter; run and measured on macOS"

    def loaded_before(self, scheme: QuantScheme) -> tuple[str, ...]:
        """The converter and the quantiser."""
        return ("coremltools",) if scheme.floating else ("coremltools", "torchao.quantization.pt2e.quantize_pt2e")

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """Integers from the module, all else from the torch program."""
        if scheme.floating:
            from edgedistill.formats.coreml.export import export_coreml

            return export_coreml(what.program(), what.contract, path, scheme.precision, build_hash=what.build_hash)
        from edgedistill.formats.coreml.quantize import compress_coreml, quantize_coreml

        if not scheme.integer:
            return compress_coreml(what.program(), what.contract, path, scheme, build_hash=what.build_hash)
        return quantize_coreml(
            what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash
        )[0]

    def open(self, path: Path, target: Target) -> Opened:
        """A package with its contract. Its precision is what its metadata say, else that of its weighted layers. Raises
        InputError if it is missing or damaged."""
        package = read_package(path)
        scheme = carried_scheme(package.metadata, path) or QuantScheme(precision=computed_precision(package))
        artifact = self.artifact(path, scheme, target, {"precision": scheme.label, **_facts(package)})
        entries = package.metadata
        return Opened(artifact, carried_contract(entries, path), carried_probabilities(entries, path))

    def input_edge(self, contract: Contract) -> ImageEdge:
        """An image object, which Core ML itself unpacks."""
        return ImageEdge(width=contract.resolution, height=contract.resolution)

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """A file of another format, a target that has no Core ML, and, where the target is this Mac, the operations that its
        accelerator leaves to the CPU."""
        if (problems := self.not_for(model, target)) or target.transport != "local":  # the plan is this Mac's own
            return problems
        return fallback_problems(model.path.name, compute_units(model.path), target)

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """The package itself, copied into `folder` whole or not at all: the device compiles it when an app first loads
        it. The record holds what is in the package."""
        if problems := self.unsupported(model, target):
            raise UnsupportedError(f"{model.path.name} cannot be made for {target.name}", problems=problems)
        package = read_package(model.path)
        path = folder / model.path.name
        copy_atomic(model.path, path)
        record = {"precision": model.scheme.label, CONTRACT_RECORD: contract_digest(package), **_facts(package)}
        return self.artifact(path, model.scheme, target, record, compute_units(path))

    def adopt(self, path: Path, target: Target) -> CompiledArtifact:
        """What `open` gives, without the contract."""
        return self.open(path, target).artifact

    def with_metadata(self, artifact: CompiledArtifact, metadata: ModelMetadata, folder: Path) -> CompiledArtifact:
        """In the fields of Core ML's own metadata, which Xcode shows."""
        from edgedistill.formats.coreml.export import coreml_with_metadata

        return self.artifact_at(artifact, coreml_with_metadata(artifact.path, metadata, folder / artifact.path.name))

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits float32 [B, classes] of each batch: on macOS by Core ML with all compute units, elsewhere by the
        reference interpreter. Raises InputError for a damaged package and for images of another size, NotRunnableError where
        Core ML does not load the package, UnsupportedError naming operations that the interpreter lacks."""
        package = read_package(artifact.path)
        if self.computed_by is ComputedBy.REFERENCE:
            from edgedistill.formats.coreml.reference.interpreter import Interpreter

            interpreter = Interpreter(package)
            return (
                np.concatenate([_logits(interpreter.run({"image": image[None]}), package) for image in batch])
                for batch in batches
            )
        model, sides = _load(artifact), signature(package)[0][0].shape
        fitted = fitting(batches, (3, *sides), artifact.path.name)
        predictions = (
            model.predict([{"image": on_device.picture(image[None])} for image in batch]) for batch in fitted
        )
        return (np.concatenate([_logits(one, package) for one in batch]) for batch in predictions)

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions of the agent on a Mac, this one or another: each sample is what Core ML says that one prediction took.
        Raises NotRunnableError where the target is this machine and that is no Mac, and for a target that is reached in
        another way."""
        target = protocol.target
        if target.transport not in ("local", "ssh"):
            raise NotRunnableError(f"{target.title} is not this machine", fix=target.how_to_measure)
        if target.transport == "local" and sys.platform != "darwin":
            raise _not_a_mac()
        name = "" if inputs is None else signature(read_package(artifact.path))[0][0].name
        return profile_file(artifact, self.on_device, inputs, name, protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Read the package back, weights included. One that carries a contract is checked: hash, signature, metadata
        and the arithmetic that its precision promises. Raises InputError where it is damaged, EdgedistillError with
        every check that failed."""
        package = read_package(artifact.path)
        checks = list(check_package(package, artifact)) if CONTRACT_KEY in package.metadata else []
        if failed := [check for check in checks if not check.passed]:
            raise EdgedistillError(
                f"{artifact.path.name} is not the package that was built",
                problems=[Problem(str(artifact.path), check.failure) for check in failed],
                fix="build it again",
            )
        made_with = {
            key: value for key, value in package.metadata.items() if key.startswith("com.github.apple.coremltools")
        }
        inputs, outputs = signature(package)
        return Inspection(
            checks=("specification, program and weights were read back", *(check.text for check in checks)),
            inputs=inputs,
            outputs=outputs,
            operations=dict(package.operations),
            layers=weighted_layers(package),
            bytes_by_part=_parts(package),
            fallbacks=compute_units(artifact.path),
            facts={**_versions(package), **made_with},
        )


def _not_a_mac() -> NotRunnableError:
    """The error of a machine that has no Core ML."""
    return NotRunnableError(
        f"Core ML runs on macOS and iOS only, and this is {platform.system()}",
        fix="measure it on a Mac over SSH: name that with --device, and the Mac's target with --target",
    )


def _load(artifact: CompiledArtifact) -> Any:
    """A coremltools MLModel that can predict. Raises NotRunnableError where there is no Core ML, or it refuses."""
    if sys.platform != "darwin":
        raise _not_a_mac()
    ct = import_coremltools()
    with quiet():
        model = ct.models.MLModel(str(artifact.path), compute_units=ct.ComputeUnit.ALL)
    if model.__proxy__ is None:
        reason = model._framework_error or "its specification is newer than this system"
        raise NotRunnableError(
            f"Core ML on this Mac does not load {artifact.path.name}: {reason}",
            fix=f"{DEPLOYMENT_TARGET} packages need macOS 14 or later",
        )
    return model


def _logits(outputs: dict[str, Any], package: Package) -> Logits:
    """The one array among the outputs: a classifier has its answer besides. Raises UnsupportedError where there are none or
    several."""
    given = package.spec.description.output
    arrays = [feature.name for feature in given if feature.type.HasField("multiArrayType")]
    if len(arrays) != 1:
        raise UnsupportedError(
            f"{package.path.name} gives {', '.join(feature.name for feature in given) or 'nothing'}, and not one array",
            fix="convert the model with its logits as the only array among its outputs",
        )
    return np.float32(outputs[arrays[0]]).reshape(1, -1)


def _facts(package: Package) -> dict[str, str]:
    inputs, outputs = signature(package)
    layers = Counter(layer.described for layer in weighted_layers(package))
    return {
        "inputs": "; ".join(tensor.shown for tensor in inputs),
        "outputs": "; ".join(tensor.shown for tensor in outputs),
        "weighted_layers": "; ".join(f"{count} x {kind}" for kind, count in sorted(layers.items())),
        "operations": counted(package.operations),
        **{f"{part}_bytes": str(count) for part, count in _parts(package).items()},
        **_versions(package),
    }


def _parts(package: Package) -> dict[str, int]:
    return {"weights": package.weights_bytes, "program": size_bytes(package.path) - package.weights_bytes}


def _versions(package: Package) -> dict[str, str]:
    version = package.spec.specificationVersion
    systems = {int(target): target.name for target in import_coremltools().target}
    return {"specification_version": str(version), "minimum_deployment_target": systems.get(version, "unknown")}


FORMAT = CoreMLFormat
