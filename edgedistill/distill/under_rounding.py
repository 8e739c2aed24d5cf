"""A short fine-tune under rounding: the student learns from the teacher's stored views while its layers are in int8.

The forward pass rounds as `simulate` does, with ranges of activations read off the calibration images beforehand and scales
of weights that follow the weights; gradients pass straight through. What comes out is a float network, which each format
calibrates and rounds in its own way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from edgedistill.base.progress import Listener, silent
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.loop import STATE, Stretch, train
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.train import Lessons, schedule_of
from edgedistill.documents.specs import Contract, QuantScheme
from edgedistill.networks.rounding.graph import overwrite, to_graph
from edgedistill.networks.rounding.simulate import simulate
from edgedistill.networks.rounding.weights import with_weights, write_weights
from edgedistill.networks.tasks import class_vectors

WEIGHTS = "tuned.safetensors"
RATE_SHARE = 0.0125
"""Of the learning rate that the weights were trained with: they are close to where they should be."""

_aten = torch.ops.aten


def tune(
    module: nn.Module,
    contract: Contract,
    calibration: NDArray[np.uint8],
    scheme: QuantScheme,
    lessons: Lessons,
    folder: Path,
    listener: Listener = silent,
) -> GraphModule:
    """`module` (eval, CPU, float32 [N, 3, R, R] in 0..255 to its outputs; not changed) after `scheme.qat_epochs` epochs over
    the views of `lessons`, with the terms of outputs of their recipe: what goes into a classifier cannot be told in a traced
    graph. Weights keep their names. Progress is told as StageAdvanced of `tune`.

    Goes on from what a killed call left in `folder` and leaves tuned.safetensors there, which
    `rounding.weights.with_weights` reads. Raises UnsupportedError where the module cannot be traced, TrialFailure where
    training diverges.
    """
    graph, config = to_graph(module, contract), lessons.config
    if not (folder / WEIGHTS).is_file():
        schedule = schedule_of(config, scheme.qat_epochs)
        outcome = train(
            _pupil(_trainable(graph, calibration, scheme), lessons, contract),
            lessons.batches(contract),
            replace(schedule, learning_rate=schedule.learning_rate * RATE_SHARE, warmup_epochs=0.0),
            # Traced graphs cannot be handed to other processes, and these epochs are few.
            replace(choose_hardware(config, lessons.dataset.images), processes=1),
            Stretch(scheme.qat_epochs, folder, listener=listener, stage="tune"),
        )
        trained = outcome.pupil.network.state_dict()
        for name in graph.state_dict():
            overwrite(graph, name, trained[name].detach().cpu())
        write_weights(graph, folder / WEIGHTS)
        (folder / STATE).unlink()
    return with_weights(module, contract, folder / WEIGHTS)


def _pupil(network: GraphModule, lessons: Lessons, contract: Contract) -> Pupil:
    recipe = recipe_of(lessons.config).of_outputs
    return Pupil(network, recipe, len(lessons.dataset.classes), anchors=class_vectors(contract))


def _trainable(graph: GraphModule, calibration: NDArray[np.uint8], scheme: QuantScheme) -> GraphModule:
    """The graph under rounding, its parameters with gradients."""
    module = simulate(graph, calibration, scheme).module
    for node in module.graph.nodes:
        if node.target is _aten.view.default:
            # Training runs in channels-last layout, in which a view may not be one.
            node.target = _aten.reshape.default
    module.recompile()
    return module.requires_grad_(True)
