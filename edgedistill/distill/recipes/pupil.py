"""A network in training, with what its recipe needs beside it: aligners, and a classifier of its own.

None of it is part of the network. `network` is what is exported, so an aligner cannot reach a file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.distill.batches import Batch
from edgedistill.distill.recipes.aligners import Link, UnitStatistics
from edgedistill.distill.recipes.losses import Recipe, bound
from edgedistill.distill.recipes.taps import as_rows, classifier_of, tapped
from edgedistill.documents.recipes import FEATURES, OUTPUTS, TermConfig

SHARES: Final = tuple(step / 20 for step in range(21))
"""Of the own head's logits in those of both heads, that are tried."""


class Pupil(nn.Module):
    """`network` takes float 0..255 [B, 3, R, R] to logits [B, classes], or to vectors [B, D]. `statistics` are those of the
    teacher's units at each tap of the recipe beside the output, `anchors` float32 [M, D] vectors of classes. Fresh
    parameters come from torch's global generator. Raises InputError for a network whose classifier cannot be told."""

    anchors: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        classes: int,
        statistics: Mapping[str, UnitStatistics] | None = None,
        anchors: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.classes = classes
        self.statistics = dict(statistics or {})
        self.register_buffer("anchors", None if anchors is None else torch.from_numpy(anchors), persistent=False)
        self.own_head: nn.Linear | nn.Conv2d | None = None
        self.links = nn.ModuleDict()
        if not self._features_needed:
            return
        head = classifier_of(network, classes)
        if any(term.config.head == "own" for term in recipe.terms):
            self.own_head = _fresh(head)
        width = _width(head)
        for number, term in enumerate(recipe.terms):
            if term.config.tap not in OUTPUTS:
                self.links[str(number)] = Link(term.config, width, self.statistics[term.config.tap])

    def taken_apart(self) -> tuple[Any, ...]:
        """What `put_together` makes it of in another process: a whole one cannot be pickled, since torch's parametrised
        modules and the types of losses' settings cannot."""
        terms = tuple(term.config for term in self.recipe.terms)
        anchors = None if self.anchors is None else self.anchors.cpu().numpy()
        return self.network, terms, self.classes, self.statistics, anchors, self.state_dict()

    @classmethod
    def put_together(
        cls,
        network: nn.Module,
        terms: Sequence[TermConfig],
        classes: int,
        statistics: Mapping[str, UnitStatistics],
        anchors: NDArray[np.float32] | None,
        state: Mapping[str, Tensor],
    ) -> Pupil:
        """The one that was taken apart."""
        found = cls(network, bound(terms), classes, statistics, anchors)
        found.load_state_dict(state)
        return found

    @property
    def _features_needed(self) -> bool:
        return any(term.config.tap not in OUTPUTS or term.config.head == "own" for term in self.recipe.terms)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float 0..255 [B, 3, R, R] to what the terms compare: the recipe's output, and where they are needed
        `features` and `own_logits`."""
        with ExitStack() as stack:
            kept = stack.enter_context(tapped(self.network, FEATURES, self.classes)) if self._features_needed else []
            outputs = {self.recipe.output: self.network(images)}
        if kept:
            outputs[FEATURES] = as_rows(kept[0])
            if self.own_head is not None:
                outputs["own_logits"] = self.own_head(kept[0]).flatten(1)
        return outputs

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The recipe's loss of a batch, a scalar, from what `forward` gave for its images."""
        total: Tensor | None = None
        for number, term in enumerate(self.recipe.terms):
            config, teacher = term.config, batch.teacher.get(term.config.tap)
            if config.tap in OUTPUTS:
                student = outputs["own_logits" if config.head == "own" else config.tap].float()
                part = term.of(student, batch.labels, None if teacher is None else teacher.float(), self.anchors)
            else:
                link = self.links[str(number)]
                assert isinstance(link, Link)
                part = term.of(
                    link.student(outputs[FEATURES].float()),
                    batch.labels,
                    None if teacher is None else link.teacher(teacher.float()),
                )
            total = part if total is None else total + part
        assert total is not None
        return total

    def folded(self, share: float) -> nn.Module:
        """The network, its classifier giving (1 - `share`) of its own logits and `share` of the own head's. Both are linear
        maps of the same features, so that one classifier gives the blend exactly."""
        if self.own_head is None:
            return self.network
        head = classifier_of(self.network, self.classes)
        with torch.no_grad():
            for mine, other in zip(head.parameters(), self.own_head.parameters(), strict=True):
                mine.lerp_(other, share)
        return self.network


def _fresh(head: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """A classifier like `head`, with weights of its own."""
    made = copy.deepcopy(head)
    nn.init.normal_(made.weight, 0.0, 0.01)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def _width(head: nn.Linear | nn.Conv2d) -> int:
    return head.in_features if isinstance(head, nn.Linear) else head.in_channels
