"""Bias correction: the mean of what rounding does is gone, the rest stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantize_networks import CONTRACT, Chain, Tokens, images, made

from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.networks.rounding.bias_correction import correct_biases
from edgedistill.networks.rounding.graph import layers_of, run_graph, to_graph
from edgedistill.networks.rounding.simulate import simulate

INT8 = QuantScheme(precision=Precision.INT8)


@pytest.mark.parametrize("kind", [Chain, Tokens])
def test_the_mean_error_shrinks(kind):
    ratios = []
    for seed in range(3):
        graph, calibration = to_graph(made(kind, seed, spread=1), CONTRACT), images(64)
        wanted = run_graph(graph, calibration)
        before, after = (
            np.abs((run_graph(simulate(g, calibration, INT8).module, calibration) - wanted).mean(axis=0)).max()
            for g in (graph, correct_biases(graph, calibration, INT8, images=64))
        )
        ratios.append(after / before)
    # What is left is the rounding of the logits themselves, which comes after the last bias.
    assert max(ratios) < 0.7 and float(np.mean(ratios)) < 0.3


def test_only_biases_move_and_a_layer_without_one_gets_one():
    module = made(Chain, spread=1)
    module.norm = torch.nn.Identity()
    graph = to_graph(module, CONTRACT)
    assert layers_of(graph)["depthwise"].bias is None
    corrected = correct_biases(graph, images(16), INT8)
    assert layers_of(corrected)["depthwise"].bias == "depthwise.bias"
    before, after = graph.state_dict(), corrected.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.endswith(".weight"))
    assert sorted(set(after) - set(before)) == ["depthwise.bias"]
    assert to_graph(corrected, CONTRACT).state_dict().keys() == after.keys(), "it can be exported again, names and all"


def test_kept_layers_are_not_rounded():
    graph = to_graph(made(Chain, spread=1), CONTRACT)
    every = QuantScheme(precision=Precision.MIXED, kept=tuple(layers_of(graph)))
    corrected = correct_biases(graph, images(16), every)
    assert all(torch.allclose(value, corrected.state_dict()[name]) for name, value in graph.state_dict().items())
