"""Sensitivity: a layer that cannot bear rounding comes first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantize_networks import CONTRACT, Chain, images, made

from edgedistill.documents.specs import Calibration, Precision, QuantScheme
from edgedistill.networks.rounding.graph import layers_of, run_graph, to_graph
from edgedistill.networks.rounding.sensitivity import rank_layers
from edgedistill.networks.rounding.simulate import simulate
from edgedistill.networks.tasks import CLASSIFICATION

INT8 = QuantScheme(precision=Precision.INT8)


def fragile(layer: str) -> torch.nn.Module:
    """The network with two output channels of `layer` that matter no more than others and are a thousand times larger: what
    reads them reads a thousandth. Rounded a tensor at a time, the others vanish."""
    module = made(Chain, spread=0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter *= 3.0 if name.endswith("weight") else 0.1
        for parameter in (getattr(module, layer).weight, getattr(module, layer).bias):
            parameter[:2] *= 1000
        readers = {"stem": [module.depthwise], "grouped": [module.left, module.right], "last": [module.head]}[layer]
        for reader in readers:
            if reader is module.depthwise:
                reader.weight[:2] /= 1000
            else:
                reader.weight[:, :2] /= 1000
    return module


@pytest.mark.parametrize("layer", ["stem", "grouped", "last"])
def test_a_fragile_layer_ranks_first(layer):
    ranks = rank_layers(fragile(layer), CONTRACT, images(64), INT8)
    readers = {"stem": {"depthwise"}, "grouped": {"left", "right"}, "last": {"head"}}[layer]
    assert ranks[0].layer == layer or ranks[0].layer in readers, "the damage is done on the tensor between them"
    assert {damage.layer for damage in ranks[: 1 + len(readers)]} == {layer, *readers}
    assert ranks[0].distance > 10 * ranks[1 + len(readers)].distance
    assert {damage.layer for damage in ranks} == set(layers_of(to_graph(made(Chain), CONTRACT)))


def test_what_is_rounded():
    graph = to_graph(made(Chain, spread=1), CONTRACT)
    calibration = images(16)
    wanted = run_graph(graph, calibration)
    simulation = simulate(graph, calibration, INT8)
    assert not np.array_equal(run_graph(simulation.module, calibration), wanted)
    simulation.round(())
    assert np.array_equal(run_graph(simulation.module, calibration), wanted)
    assert set(simulation.module.state_dict()) >= set(graph.state_dict())


@pytest.mark.parametrize("method", Calibration)
def test_every_calibration_reads_ranges(method):
    graph, calibration = to_graph(made(Chain, spread=1), CONTRACT), images(32)
    scheme = QuantScheme(precision=Precision.INT8, calibration=method)
    rounded = run_graph(simulate(graph, calibration, scheme).module, calibration)
    wanted = run_graph(graph, calibration)
    assert 0 < np.abs(rounded - wanted).max() < np.abs(wanted).max()


def test_divergence_is_that_of_softmaxes():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 4)).astype(np.float32)
    assert CLASSIFICATION.distance(logits, logits + 3) == pytest.approx(0, abs=1e-7)
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.5, 0.25]])
    expected = float((p * np.log(p / q)).sum())
    assert CLASSIFICATION.distance(np.log(p).astype(np.float32), np.log(q).astype(np.float32)) == pytest.approx(
        expected, rel=1e-5
    )
