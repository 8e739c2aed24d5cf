"""The checks on a Core ML package, without running it: the hash, the signature, the metadata, the arithmetic."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edgedistill.base.store import digest, file_sha256
from edgedistill.base.units import format_percent
from edgedistill.documents.artifacts import CompiledArtifact, TensorSignature
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Contract, Precision, QuantScheme
from edgedistill.formats.carried import CONTRACT_KEY, LABELS_KEY
from edgedistill.formats.coreml.classifier import CLASSIFIER
from edgedistill.formats.coreml.export import SPECIFICATION_VERSION
from edgedistill.formats.coreml.package import (
    COMPRESSED,
    INT8,
    Package,
    computed_in,
    signature,
    stored_as,
    takes_integers,
    weight_of,
    weighted_layers,
)
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET
from edgedistill.formats.precisions import INT8_SHARE, integer_share

CONTRACT_RECORD = "contract_sha256"
"""The entry of a build's record that holds the hash of the contract."""
_LEFT_ALONE = 2048
"""coremltools compresses the weights of layers that have more of them: a small one's scales would weigh as much."""


@dataclass(frozen=True)
class Check:
    """One thing checked: the sentence that holds if `passed`, else what was found instead."""

    passed: bool
    text: str
    failure: str


def check_package(package: Package, artifact: CompiledArtifact) -> Iterator[Check]:
    """Every check on a package that carries a contract. Its hash and its contract are held against the record of the build,
    where there is one."""
    recorded = artifact.record.get(CONTRACT_RECORD)
    if recorded is not None:
        found = file_sha256(package.path)
        yield Check(
            found == artifact.sha256,
            "the hash is the one that was recorded",
            f"the hash is {found[:12]}, recorded is {artifact.sha256[:12]}",
        )
        yield Check(
            recorded == contract_digest(package),
            "the contract is the one that was recorded",
            "the contract in the metadata is not the one that was recorded",
        )
    version = package.spec.specificationVersion
    yield Check(
        version == SPECIFICATION_VERSION,
        f"specification version {version} ({DEPLOYMENT_TARGET} and later)",
        f"specification version {version}, not {SPECIFICATION_VERSION} ({DEPLOYMENT_TARGET})",
    )
    try:
        contract = Contract.model_validate_json(package.metadata.get(CONTRACT_KEY, ""))
    except ValidationError as error:
        yield Check(False, "", f"the metadata has no valid {CONTRACT_KEY}: {first_fault(error)}")
    else:
        yield from _check_signature(package, contract)
        yield Check(
            package.metadata.get(LABELS_KEY) == json.dumps(contract.labels, ensure_ascii=False),
            f"the metadata has the contract and its {len(contract.labels)} labels",
            "the labels in the metadata are not those of its contract",
        )
    yield from _CHECKS[artifact.scheme.precision](package, artifact.scheme)


def contract_digest(package: Package) -> str:
    """Hash of the contract in the metadata, as text."""
    return digest(package.metadata.get(CONTRACT_KEY, ""))


def _check_signature(package: Package, contract: Contract) -> Iterator[Check]:
    side = contract.resolution
    image = TensorSignature(name=contract.input_name, dtype="RGB image", shape=(side, side))
    output = TensorSignature(name=contract.output_name, dtype="float32", shape=(1, contract.width))
    outputs = (output,) if contract.vector else (*CLASSIFIER, output)
    for kind, actual, wanted in zip(("input", "output"), signature(package), ((image,), outputs), strict=True):
        found, asked = (", ".join(tensor.shown for tensor in some) or "absent" for some in (actual, wanted))
        told = f"one {kind}, {asked}" if len(wanted) == 1 else f"{kind}s {asked}"
        yield Check(actual == wanted, told, f"{kind}s are {found}, not {asked}")


# -- the arithmetic that a precision promises -------------------------------------------------------------------


def _check_int8(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    """Layers are int8 in weights and inputs; see INT8_SHARE for those that may have stayed in floating point."""
    layers, share = package.weighted, integer_share(weighted_layers(package))
    integer, kept = _split(layers)
    text = f"{integer} of {len(layers)} weighted layers have int8 weights and int8 activations coming in"
    stayed = f"; {len(kept)} small ones stayed in {_computed(kept)}" if kept else ""
    yield Check(
        integer + len(kept) == len(layers) and share >= INT8_SHARE,
        text + stayed,
        f"only {text}, which hold {format_percent(share)} of the weights",
    )
    yield _check_pairs(package)


def _check_mixed(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    """Each layer is int8 in weights and inputs or float in both, and there are some of either kind."""
    layers = package.weighted
    integer, kept = _split(layers)
    yield Check(
        integer > 0 and bool(kept) and integer + len(kept) == len(layers),
        f"{integer} of {len(layers)} weighted layers have int8 weights and int8 activations coming in; "
        f"{len(kept)} stayed in {_computed(kept)}",
        f"of {len(layers)} weighted layers {integer} are int8, {len(kept)} are floating point and "
        f"{len(layers) - integer - len(kept)} are neither",
    )
    yield _check_pairs(package)


def _split(layers: list[Any]) -> tuple[int, list[Any]]:
    """How many layers are int8 in weights and inputs, and those that are floating point in both."""
    integer = sum(stored_as(op) == INT8 and takes_integers(op) for op in layers)
    return integer, [op for op in layers if not stored_as(op) and not takes_integers(op)]


def _computed(layers: list[Any]) -> str:
    return " and ".join(sorted(set(map(computed_in, layers))))


def _check_pairs(package: Package) -> Check:
    pairs = package.operations
    return Check(
        pairs["quantize"] > 0,
        f"{pairs['quantize']} quantize and {pairs['dequantize']} dequantize operations",
        "no quantize operation: activations stay in floating point",
    )


def _check_weights(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    wanted, layers = COMPRESSED[scheme.precision], package.weighted
    stored = sum(stored_as(op) == wanted for op in layers)
    plain = [op for op in layers if not stored_as(op)]
    missing = sum(math.prod(weight_of(op).shape) > _LEFT_ALONE for op in plain)
    text = f"{stored} of {len(layers)} weighted layers have {wanted} weights"
    yield Check(
        bool(layers) and missing == 0 and stored + len(plain) == len(layers),
        text + (f"; the others are too small for it, {_LEFT_ALONE:,} weights at most" if plain else ""),
        f"only {text}, and of the others {missing} have more than {_LEFT_ALONE:,} weights in floating point",
    )
    computed = Counter(map(computed_in, layers))
    pairs = package.operations["quantize"]
    yield Check(
        set(computed) == {"fp16"} and not pairs,
        "all weighted layers compute in fp16, and activations are not quantised",
        f"weighted layers compute in {dict(computed)} with {pairs} quantize operations, not in fp16 without any",
    )


def _check_float(package: Package, scheme: QuantScheme) -> Iterator[Check]:
    quantized = [name for name in package.operations if name == "quantize" or name.startswith("constexpr_")]
    layers, wanted = package.products, scheme.precision.value
    found = Counter(map(computed_in, layers))
    yield Check(
        bool(layers) and set(found) == {wanted} and not quantized,
        f"all {len(layers)} weighted layers compute in {wanted}, nothing is quantised",
        f"weighted layers compute in {dict(found)}, not {wanted}" + (f"; there are {quantized}" if quantized else ""),
    )


_CHECKS: dict[Precision, Callable[[Package, QuantScheme], Iterator[Check]]] = {
    Precision.FP32: _check_float,
    Precision.FP16: _check_float,
    Precision.INT8: _check_int8,
    Precision.MIXED: _check_mixed,
    Precision.INT8_WEIGHTS: _check_weights,
    Precision.INT4_WEIGHTS: _check_weights,
}
