"""What makes a Core ML program a classifier, for which Vision gives classifications and Xcode a preview: behind the logits
their probabilities, and the most probable class by name.

The operations are written by coremltools itself, as a program of their own, and put behind those of the network: what was
converted, quantised or compressed before stays as it is.
"""

from __future__ import annotations

import importlib
import shutil
from typing import Any, Final

import numpy as np

from edgedistill.base.quiet import quiet
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.specs import Contract
from edgedistill.formats.coreml_sdk import DEPLOYMENT_TARGET, import_coremltools

LABEL: Final = "classLabel"
PROBABILITIES: Final = f"{LABEL}_probs"
CLASSIFIER: Final = (
    TensorSignature(name=LABEL, dtype="string", shape=()),
    TensorSignature(name=PROBABILITIES, dtype="probability by class", shape=()),
)
"""What a classifier gives beside its logits, in Core ML's own names."""
_PREVIEW: Final = "com.apple.coreml.model.preview.type"
_INVERSE: Final = "inverse_temperature"


def add_classifier(spec: Any, contract: Contract) -> None:
    """Give the program of a Model protobuf, with the contract's logits float32 [1, C] as its one output, two more outputs:
    the most probable of the contract's labels, and the probability of each, softmax(logits / temperature). The temperature
    is 1 until `set_temperature`. In place."""
    made = _classifier(contract)
    block, added = _main(spec), _main(made)
    # The order is coremltools' own: the class, its probabilities, then what else the program gives.
    block.operations.extend(added.operations)
    block.outputs[:] = [*added.outputs, *block.outputs]
    description, (answer, shares) = spec.description, made.description.output
    answer.shortDescription, shares.shortDescription = "the most probable class", "the probability of each class"
    outputs = [answer, shares, *description.output]
    del description.output[:]
    description.output.extend(outputs)
    description.predictedFeatureName, description.predictedProbabilitiesName = LABEL, PROBABILITIES
    description.metadata.userDefined[_PREVIEW] = "imageClassifier"


def set_temperature(spec: Any, temperature: float) -> None:
    """Divide the logits of a classifier by `temperature` for its probabilities. In place."""
    (constant,) = (op for op in _main(spec).operations if op.outputs and op.outputs[0].name == _INVERSE)
    constant.attributes["val"].immediateValue.tensor.floats.values[:] = [1 / temperature]


def _main(spec: Any) -> Any:
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return block


def _classifier(contract: Contract) -> Any:
    """A Model protobuf of what stands behind the logits: its operations take a variable that has the name of the contract's
    output."""
    ct = import_coremltools()
    builder = importlib.import_module("coremltools.converters.mil").Builder
    target, given = getattr(ct.target, DEPLOYMENT_TARGET), "given"

    def behind(given: Any) -> Any:
        inverse = builder.const(val=np.float32(1), name=_INVERSE)
        scaled = builder.mul(x=given, y=inverse, name=f"{contract.output_name}_by_temperature")
        return builder.softmax(x=scaled, axis=-1, name=f"{contract.output_name}_probabilities")

    specified = builder.program(input_specs=[builder.TensorSpec(shape=(1, contract.width))], opset_version=target)
    with quiet():
        model = ct.convert(
            specified(behind),
            convert_to="mlprogram",
            # No pass: one takes out a multiplication with 1, and the temperature comes later.
            pass_pipeline=ct.PassPipeline.EMPTY,
            classifier_config=ct.ClassifierConfig(list(contract.labels)),
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
    shutil.rmtree(model.package_path, ignore_errors=True)
    spec = model.get_spec()
    for binding in (b for op in _main(spec).operations for a in op.inputs.values() for b in a.arguments):
        if binding.name == given:
            binding.name = contract.output_name
    return spec
