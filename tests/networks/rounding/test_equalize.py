"""Equalisation: the very same function, with evener channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_networks import CONTRACT, Chain, Tokens, images, made

from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.networks.rounding.equalize import equalize, seams_of
from edgedistill.networks.rounding.graph import run_graph, to_graph
from edgedistill.networks.rounding.simulate import simulate

INT8 = QuantScheme(precision=Precision.INT8)


@pytest.mark.parametrize("kind", [Chain, Tokens])
@settings(max_examples=3)
@given(seed=st.integers(0, 1000), spread=st.floats(0, 4))
def test_nothing_changes_but_the_scales(kind, seed, spread):
    graph = to_graph(made(kind, seed, spread), CONTRACT)
    evened = equalize(graph, images(16))
    before, after = run_graph(graph, images(8, 1)), run_graph(evened, images(8, 1))
    assert np.array_equal(before, after), "factors are powers of two: not a bit may change"


def test_the_graph_given_stays_as_it_is():
    graph = to_graph(made(Chain), CONTRACT)
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    changed = equalize(graph, images(16)).state_dict()
    assert all(torch.equal(before[name], value) for name, value in graph.state_dict().items())
    assert any(not torch.equal(before[name], value) for name, value in changed.items())


def test_seams():
    chain = {s.producer: [r.name for r in s.readers] for s in seams_of(to_graph(made(Chain), CONTRACT))}
    assert chain == {
        "stem": ["depthwise"],
        "depthwise": ["grouped"],
        "grouped": ["left", "right"],
        "last": ["head"],
    }, "left and right meet in a sum: neither has its channels to itself"
    tokens = {s.readers: s.scaled for s in seams_of(to_graph(made(Tokens), CONTRACT))}
    assert [[r.name for r in readers] for readers in tokens] == [["q", "k", "v"]]
    assert [*tokens.values()] == [("norm.weight", "norm.bias")]


@pytest.mark.parametrize("kind", [Chain, Tokens])
def test_rounding_costs_less_afterwards(kind):
    ratios = []
    for seed in range(3):
        graph, calibration = to_graph(made(kind, seed), CONTRACT), images(32)
        wanted = run_graph(graph, calibration)
        before, after = (
            float(np.square(run_graph(simulate(g, calibration, INT8).module, calibration) - wanted).mean())
            for g in (graph, equalize(graph, calibration))
        )
        ratios.append(after / before)
    assert float(np.exp(np.mean(np.log(ratios)))) < 0.9
