"""Losses by name, and recipes made of them: what a batch is trained with.

A loss is a function of tensors: `student` first, then those of INPUTS that it needs, then its settings
as keywords with defaults and ranges. What it needs and may be set to is read off its signature.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import Tensor

from edgedistill.base.errors import InputError, Problem, first_line
from edgedistill.distill.recipes import features, logits, vectors
from edgedistill.documents.build_file import TrainConfig
from edgedistill.documents.problems import faults
from edgedistill.documents.recipes import EMBEDDING, LOGITS, OUTPUTS, TermConfig

ENTRY_POINTS = "edgedistill.losses"
_OWN = (
    logits.cross_entropy,
    logits.kl,
    logits.decoupled_kl,
    logits.correlation,
    logits.standardised_kl,
    logits.jensen_shannon,
    logits.soft_cross_entropy,
    features.smooth_l1,
    features.cosine,
    features.log_sum,
    vectors.normalised_mse,
    vectors.contrastive,
    vectors.relation_kl,
    vectors.pairwise_similarity,
    vectors.relative_similarity,
    vectors.similarity_kl,
)
INPUTS = ("teacher", "labels", "anchors")
_PLACES: tuple[list[str], ...] = ([], ["teacher"], ["labels"], ["teacher", "labels"], ["teacher", "anchors"])
_TERM_KEYS = frozenset(TermConfig.model_fields)


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
        if places[:1] != ["student"] or places[1:] not in _PLACES:
            raise TypeError(f"{name} takes ({', '.join(places)}), not (student, teacher, labels) or the first of them")
        if len(places) + len(keywords) < len(parameters) or any(p.default is p.empty for p in keywords):
            raise TypeError(f"{name}: settings are keywords with a default each")
        if taken := _TERM_KEYS & {p.name for p in keywords}:
            raise TypeError(
                f"{name}: a setting cannot be called {', '.join(sorted(taken))}: each term has one of its own"
            )
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {p.name: (hints.get(p.name, float), p.default) for p in keywords}
        settings = create_model(name, __config__=ConfigDict(extra="forbid", frozen=True), **fields)
        return cls(name, function, tuple(places[1:]), settings)


@dataclass(frozen=True)
class Term:
    """A loss with the settings of `config`, at its weight."""

    loss: Loss
    config: TermConfig
    settings: Mapping[str, Any]

    def of(self, student: Tensor, labels: Tensor, teacher: Tensor | None, anchors: Tensor | None = None) -> Tensor:
        """The weighted loss of float32 rows, the teacher's aligned with the student's, and of label shares [B, classes].
        Without `anchors` [M, D] the teacher's rows are such. Raises ValueError where the teacher's are needed and not
        there."""
        inputs = {"teacher": teacher, "labels": labels, "anchors": teacher if anchors is None else anchors}
        given = [inputs[name] for name in self.loss.inputs]
        if any(tensor is None for tensor in given):
            raise ValueError(f"{self.loss.name} was given a batch without the teacher's {self.config.tap}")
        return self.config.weight * self.loss.function(student, *given, **self.settings)


@dataclass(frozen=True)
class Recipe:
    """What is minimised: the sum of its terms."""

    terms: tuple[Term, ...]

    @property
    def taps(self) -> tuple[str, ...]:
        """Where the teacher is asked for what its terms need of it; nowhere for labels alone."""
        asked = (term.config.tap for term in self.terms if "teacher" in term.loss.inputs)
        return tuple(sorted(set(asked), key=lambda tap: (tap not in OUTPUTS, tap)))

    @property
    def output(self) -> str:
        """The tap at which students give what they are for: logits, or an embedding."""
        return next(term.config.tap for term in self.terms if term.config.tap in OUTPUTS)

    @property
    def of_outputs(self) -> Recipe:
        """Its terms of outputs, all on the shared head: what a network can still learn whose layers cannot be told apart."""
        kept = [term for term in self.terms if term.config.tap in OUTPUTS]
        shared = (replace(term, config=term.config.model_copy(update={"head": "shared"})) for term in kept)
        return Recipe(tuple(shared))


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


def problems_of(terms: Mapping[str, TermConfig]) -> list[Problem]:
    """What is wrong with each of these terms, which stand where the keys say."""
    return [found for where, term in terms.items() if isinstance(found := _bound(where, term), Problem)]


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
    recipe = Recipe(tuple(entry for entry in found if isinstance(entry, Term)))
    if not any(term.config.tap in OUTPUTS and term.config.head == "shared" for term in recipe.terms):
        raise InputError(
            "the recipe cannot be used: no term trains the classifier",
            fix="add a term of logits, such as kl or cross_entropy, to [[train.terms]]",
        )
    return recipe


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
        found = faults(loss.settings, error, term.settings)
        what, fixes = "; ".join(what for _, what, _ in found), [fix for _, _, fix in found if fix]
        return Problem(where, f"{loss.name}: {what}", "; ".join(fixes))
    if term.tap == EMBEDDING:
        if "labels" in loss.inputs or "teacher" not in loss.inputs:
            return Problem(
                where, f"{loss.name} is a loss of logits", "use cosine, relation_kl or another loss of vectors"
            )
        if (term.aligner, term.normaliser, term.head) != ("none", "none", "shared"):
            what = f"{loss.name}: aligner and normaliser are for features, a head of its own for logits"
            return Problem(where, what, "leave them out")
    elif term.tap != LOGITS:
        if loss.inputs != ("teacher",):
            return Problem(where, f"{loss.name} is a loss of logits", f'leave tap = "{term.tap}" out, or use smooth_l1')
        if term.aligner == "none":
            what = f"{loss.name}: a student's features have another width than the teacher's {term.tap}"
            return Problem(where, what, 'add an aligner: "linear", "orthogonal" or "select"')
        if term.head != "shared":
            return Problem(where, f"{loss.name}: a head gives logits, and tap is {term.tap!r}", "leave one of both out")
    elif (term.aligner, term.normaliser) != ("none", "none"):
        what = f"{loss.name}: aligner and normaliser are for features"
        return Problem(where, what, 'leave them out, or add tap = "features"')
    return Term(loss, term, settings.model_dump())
