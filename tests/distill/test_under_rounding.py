"""Training under rounding: distillation's own loop, and a float network that rounds well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from quantize_networks import CONTRACT, Chain, made

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.train import Lessons
from edgedistill.distill.under_rounding import WEIGHTS, tune
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.recipes import TermConfig
from edgedistill.documents.specs import Contract, Precision, QuantScheme, VectorContract
from edgedistill.networks.build import at_unit_length
from edgedistill.networks.rounding.graph import run_graph, to_graph
from edgedistill.networks.rounding.simulate import simulate
from edgedistill.networks.rounding.weights import with_weights
from edgedistill.networks.tasks import CLASSIFICATION, packed, task_of

KL = (TermConfig(loss="kl"),)
SCHEME = QuantScheme(precision=Precision.INT8, qat_epochs=3, calibration_images=64)


class Digits(Chain):
    """A head for ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(10, 10)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DataConfig(source="digits", limit=300))


@pytest.fixture(scope="module")
def contract(dataset) -> Contract:
    return CONTRACT.model_copy(update={"labels": dataset.classes})


@pytest.fixture(scope="module")
def student(dataset, contract) -> torch.nn.Module:
    """Random weights, and a head whose answers spread evenly over the classes."""
    module = made(Digits, spread=1.5)
    images = torch.from_numpy(prepare(dataset.images, dataset.splits.train, contract)).float()
    with torch.no_grad():
        logits = module(images)
        scale = 2 / logits.std(dim=0)
        module.head.weight *= scale[:, None]
        module.head.bias -= logits.mean(dim=0)
        module.head.bias *= scale
    return module


@pytest.fixture(scope="module")
def stored(dataset, contract, student, tmp_path_factory) -> SplitStore:
    """The student's own answers: what it has to keep giving once it is rounded."""
    teacher = Teacher("itself", student, contract, "key", 0)
    store = Store(tmp_path_factory.mktemp("cache"))
    views = stored_views(store, dataset, AugmentationConfig(views=1))
    return SplitStore(views, Labelling(store, Labeller(teacher, dataset, views, device="cpu"), silent).build())


def tuned(student, contract, dataset, stored, folder: Path, rate: float = 4e-3) -> torch.fx.GraphModule:
    config = TrainConfig(batch_size=50, learning_rate=rate, terms=KL, device="cpu", workers=0)
    calibration = prepare(dataset.images, dataset.splits.train[:64], contract)
    lessons = Lessons(dataset, config, stored)
    return tune(student, contract, calibration, SCHEME, lessons, folder)


def test_it_rounds_better_afterwards(student, contract, dataset, stored, tmp_path):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    result = tuned(student, contract, dataset, stored, tmp_path)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    images = prepare(dataset.images, dataset.splits.validation[:100], contract)
    graph = to_graph(student, contract)
    wanted = run_graph(graph, images)
    calibration = prepare(dataset.images, dataset.splits.train[:64], contract)

    def damage(network: torch.fx.GraphModule) -> float:
        return CLASSIFICATION.distance(wanted, run_graph(simulate(network, calibration, SCHEME).module, images))

    assert damage(result) < damage(graph)
    assert sorted(p.name for p in tmp_path.iterdir()) == [WEIGHTS], "no state is left behind"
    again = with_weights(student, contract, tmp_path / WEIGHTS)
    assert np.array_equal(run_graph(again, images), run_graph(result, images))
    assert set(result.state_dict()) == set(graph.state_dict()), "names stay"


def test_a_run_that_diverges_says_so(student, contract, dataset, stored, tmp_path):
    broken = made(Digits, spread=1.5)
    with torch.no_grad():
        broken.head.bias.fill_(float("inf"))
    with pytest.raises(TrialFailure):
        tuned(broken, contract, dataset, stored, tmp_path)


class Vectors(torch.nn.Module):
    """The student's logits as vectors of length 1."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return at_unit_length(self.network(image))


def test_vectors_round_better_too(student, contract, dataset, tmp_path):
    """By their cosine; the classes' vectors take part in the loss."""
    classes = packed(np.eye(10, dtype=np.float32))
    vector = VectorContract(dimension=10, score="zero_shot", class_vectors=classes)
    asked = contract.model_copy(update={"task": "embedding", "output_name": "embedding", "vector": vector})
    network = Vectors(student).eval()
    store = Store(tmp_path / "cache")
    views = stored_views(store, dataset, AugmentationConfig(views=1))
    labeller = Labeller(Teacher("itself", network, asked, "key", 0), dataset, views, ("embedding",), device="cpu")
    stored = SplitStore(views, Labelling(store, labeller, silent).build())
    of_classes = TermConfig.model_validate({"loss": "similarity_kl", "tap": "embedding", "temperature": 0.5})
    terms = (TermConfig(loss="cosine", tap="embedding"), of_classes)
    config = TrainConfig(batch_size=50, learning_rate=4e-3, terms=terms, device="cpu", workers=0)
    calibration = prepare(dataset.images, dataset.splits.train[:64], asked)
    lessons = Lessons(dataset, config, stored)
    (tmp_path / "tuned").mkdir()
    result = tune(network, asked, calibration, SCHEME, lessons, tmp_path / "tuned")
    images = prepare(dataset.images, dataset.splits.validation[:100], asked)
    graph, task = to_graph(network, asked), task_of(asked)
    wanted = run_graph(graph, images)

    def damage(found: torch.fx.GraphModule) -> float:
        return task.distance(wanted, run_graph(simulate(found, calibration, SCHEME).module, images))

    assert damage(result) < damage(graph)
