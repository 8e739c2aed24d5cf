"""Losses by name, and recipes made of them: what a batch is trained with.

A loss is a function of tensors: `student` first, then those of `teacher` and `labels` that it needs, then its settings
as keywords with defaults and ranges. What it needs and may be set to is read off its signature.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import Tensor

from edgedistill.base.errors import InputError, Problem, first_line
from edgedistill.distill.batches import Batch
from edgedistill.distill.recipes import logits
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.problems import first_fault
from edgedistill.documents.recipes import TermConfig

ENTRY_POINTS = "edgedistill.losses"
_OWN = (
    logits.cross_entropy,
    logits.kl,
    logits.decoupled_kl,
    logits.correlation,
    logits.standardised_kl,
    logits.jensen_shannon,
    logits.soft_cross_entropy,
)
INPUTS = ("teacher", "labels")


@dataclass(frozen=True)
class Loss:
    """A function, which of INPUTS it takes, and the type of its settings."""

    name: str
    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    settings: type[BaseModel]

    @classmethod
    def of(cls, name: str, function: Callable[..., Tensor]) -> Loss:
        """Raises TypeError where the signature is not a loss's."""
        parameters = list(inspect.signature(function).parameters.values())
        places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        if places[:1] != ["student"] or places[1:] not in ([], ["teacher"], ["labels"], ["teacher", "labels"]):
            raise TypeError(f"{name} takes ({', '.join(places)}), not (student, teacher, labels) or the first of them")
        if len(places) + len(keywords) < len(parameters) or any(p.default is p.empty for p in keywords):
            raise TypeError(f"{name}: settings are keywords with a default each")
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {p.name: (hints.get(p.name, float), p.default) for p in keywords}
        settings = create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
        return cls(name, function, tuple(places[1:]), settings)


@dataclass(frozen=True)
class Term:
    """A loss with its settings, at `weight`."""

    loss: Loss
    weight: float
    settings: Mapping[str, Any]

    def of(self, student: Tensor, batch: Batch) -> Tensor:
        """`weight` times the loss of a batch. `student` is float32 [B, C]. Raises ValueError for a batch that lacks the
        teacher's outputs where they are needed."""
        inputs = {"teacher": None if batch.teacher is None else batch.teacher.float(), "labels": batch.labels}
        given = [inputs[name] for name in self.loss.inputs]
        if any(tensor is None for tensor in given):
            raise ValueError(f"{self.loss.name} was given a batch without the teacher's outputs")
        return self.weight * self.loss.function(student, *given, **self.settings)


@dataclass(frozen=True)
class Recipe:
    """What is minimised: the sum of its terms."""

    terms: tuple[Term, ...]

    @property
    def needs_teacher(self) -> bool:
        """Whether batches have to carry the teacher's outputs."""
        return any("teacher" in term.loss.inputs for term in self.terms)

    def loss(self, student: Tensor, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar. `student` is float32 [B, C]."""
        total = self.terms[0].of(student, batch)
        for term in self.terms[1:]:
            total = total + term.of(student, batch)
        return total


@cache
def losses() -> dict[str, Loss]:
    """Those that come with edgedistill, and those of installed packages: functions by the entry point group
    `edgedistill.losses`. One that cannot be loaded raises InputError."""
    found = {function.__name__: Loss.of(function.__name__, function) for function in _OWN}
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else "an installed package"
        if point.name in found:
            raise InputError(f"{package} provides the loss {point.name}, which there is", fix=f"remove {package}")
        try:
            found[point.name] = Loss.of(point.name, point.load())
        except Exception as error:  # another package may raise anything
            raise InputError(
                f"the loss {point.name} of {package} cannot be used: {first_line(error)}",
                fix=f"repair or remove {package}",
            ) from error
    return found


def recipe_of(config: TrainConfig) -> Recipe:
    """The recipe of `[train]`. Raises InputError with every term that is wrong."""
    return bound(config.composition)


def code_of(config: TrainConfig) -> tuple[str, ...]:
    """The modules that the losses of `[train]` come from, for keys. Raises InputError as `recipe_of` does."""
    return tuple(sorted({term.loss.function.__module__ for term in recipe_of(config).terms}))


def bound(terms: Sequence[TermConfig]) -> Recipe:
    """A recipe of these terms. Raises InputError with every one that is wrong."""
    found = [_bound(f"[[train.terms]] {number}", term) for number, term in enumerate(terms, 1)]
    problems = [entry for entry in found if isinstance(entry, Problem)]
    if problems:
        raise InputError("the recipe cannot be used", problems=problems)
    return Recipe(tuple(entry for entry in found if isinstance(entry, Term)))


def _bound(where: str, term: TermConfig) -> Term | Problem:
    known = losses()
    if term.loss not in known:
        near = difflib.get_close_matches(term.loss, known, 1)
        fix = f"did you mean {near[0]}? " if near else ""
        return Problem(where, f"unknown loss {term.loss!r}", f"{fix}use {', '.join(known)}")
    loss = known[term.loss]
    try:
        settings = loss.settings.model_validate(term.settings)
    except ValidationError as error:
        names = ", ".join(loss.settings.model_fields) or "none"
        return Problem(where, f"{loss.name}: {first_fault(error)}", f"its settings: {names}")
    return Term(loss, term.weight, settings.model_dump())
