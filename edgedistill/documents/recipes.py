"""What a student is trained to minimise, as data: terms, and the recipes that come with edgedistill."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgedistill.base.errors import InputError
from edgedistill.documents.specs import TaskName

LOGITS: Final = "logits"
FEATURES: Final = "features"
EMBEDDING: Final = "embedding"
OUTPUTS: Final = (LOGITS, EMBEDDING)
"""Taps that are a network's output, each of a task."""
DEFAULT: Final = "default"
"""The recipe of a build file that names none: one of RECIPES, chosen when the data and the teacher are known."""


class TermConfig(BaseModel):
    """`[[train.terms]]`: a loss by name, its weight in the sum, and its settings, each a key of its own.

    `tap` is where the tensors are taken that it compares: `logits`, for an embedding `embedding`, or `features`, what goes
    into the classifier, or the path of a module of the teacher, whose output the student's features are held against. What
    is no vector is averaged over space or tokens. Teacher and student differ there in width: `aligner` brings the student to
    the teacher's (`linear`, or `orthogonal`, whose columns stay orthonormal), or takes as many of the teacher's units as the
    student has, those that tell classes apart best (`select`). `normaliser` is applied to the teacher's tensor: `layer_norm`
    over an image's units, or `standardise`, each unit by its mean and deviation over images.

    A term with `head = "own"` is learnt by a classifier of its own on the same features. Training alone has it: afterwards
    it and the shared one become one, at the share that is most accurate on the validation split."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    loss: str
    weight: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    tap: Annotated[str, Field(min_length=1)] = LOGITS
    aligner: Literal["none", "linear", "orthogonal", "select"] = "none"
    normaliser: Literal["none", "layer_norm", "standardise", "batch_norm"] = "none"
    head: Literal["shared", "own"] = "shared"

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that are the loss's own."""
        return dict(self.model_extra or {})

    @property
    def given(self) -> dict[str, Any]:
        """What a build file would say of it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def label(self) -> str:
        """`0.9 kl(temperature=2)`, `smooth_l1 of features, aligner orthogonal`."""
        settings = ", ".join(f"{name}={_shown(value)}" for name, value in self.settings.items())
        text = f"{self.weight:g} {self.loss}" + (f"({settings})" if settings else "")
        chosen = {"aligner": self.aligner, "normaliser": self.normaliser}
        aside = [f"{name} {value}" for name, value in chosen.items() if value != "none"]
        aside += ["head own"] if self.head == "own" else []
        return ", ".join([text if self.tap in OUTPUTS else f"{text} of {self.tap}", *aside])


@dataclass(frozen=True)
class NamedRecipe:
    """Terms whose weighted sum is minimised. `when` tells when it helps, in one line; `source` is where it comes from.
    `mix` is the share of views that are blended with a partner where `[augmentation]` says nothing of it. It is for students
    of that `task`."""

    name: str
    when: str
    terms: tuple[TermConfig, ...]
    source: str = ""
    mix: float | None = None
    task: TaskName = "classification"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _term(loss: str, weight: float = 1.0, **settings: float | str) -> TermConfig:
    return TermConfig.model_validate({"loss": loss, "weight": weight, **settings})


def _vector(loss: str, weight: float = 1.0, **settings: float | str) -> TermConfig:
    return _term(loss, weight, tap=EMBEDDING, **settings)


def labels_alone(smoothing: float = 0.0) -> TermConfig:
    """What is learnt without a teacher, and how a teacher is fitted."""
    return _term("cross_entropy", smoothing=smoothing)


_LABELS = _term("cross_entropy", 0.1)
_KD = (_term("kl", 0.9, temperature=2.0), _LABELS)

RECIPES = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            NamedRecipe(
                "labels",
                "There is no better teacher than the labels. No teacher is asked.",
                (labels_alone(),),
            ),
            NamedRecipe(
                "label_smoothing",
                "As `labels`, for students that get too sure of themselves. No teacher is asked.",
                (labels_alone(smoothing=0.1),),
                "Szegedy et al. 2016, https://arxiv.org/abs/1512.00567",
            ),
            NamedRecipe(
                "kd",
                "Most images have no label: try it first. The teacher knows more than the labels, and is not always sure.",
                _KD,
                "Hinton et al. 2015, https://arxiv.org/abs/1503.02531",
            ),
            NamedRecipe(
                "dkd",
                "The teacher is sure: what it thinks of the other classes counts, however little is left for them.",
                (_term("cross_entropy"), _term("decoupled_kl", temperature=4.0, target=1.0, others=8.0)),
                "Zhao et al. 2022, https://arxiv.org/abs/2203.08679",
            ),
            NamedRecipe(
                "dist",
                "The teacher is much larger than the student: ranks and relations are asked for, not its exact answers.",
                (_term("cross_entropy"), _term("correlation", temperature=1.0, classes=1.0, images=1.0)),
                "Huang et al. 2022, https://arxiv.org/abs/2205.10536",
            ),
            NamedRecipe(
                "standardised",
                "Student and teacher differ in how sure they are: only order and relative distances of classes count.",
                (_term("cross_entropy", 0.1), _term("standardised_kl", 9.0, temperature=2.0)),
                "Sun et al. 2024, https://arxiv.org/abs/2403.01427",
            ),
            NamedRecipe(
                "js",
                "Most images have no label: the teacher alone is followed, and its mistakes weigh less than with `kl`.",
                (_term("jensen_shannon"),),
                "Cui et al. 2021, https://arxiv.org/abs/2103.05959",
            ),
            NamedRecipe(
                "soft",
                "The teacher's probabilities are better labels than the labels: no temperature, no labels.",
                (_term("soft_cross_entropy"),),
                "Shen and Savvides 2020, https://arxiv.org/abs/2009.08453",
            ),
            NamedRecipe(
                "funmatch",
                "There is time for a long schedule (raise `rungs`): the teacher is matched on blends of images too.",
                (_term("kl", temperature=1.0),),
                "Beyer et al. 2022, https://arxiv.org/abs/2106.05237",
                mix=1.0,
            ),
            NamedRecipe(
                "vkd",
                "Few classes, so that logits say little: the student's features are held against the teacher's, rotated.",
                (*_KD, _term("smooth_l1", tap=FEATURES, aligner="orthogonal", normaliser="layer_norm")),
                "Miles et al. 2024, https://arxiv.org/abs/2403.06213",
            ),
            NamedRecipe(
                "units",
                "As `vkd`, for a student far narrower than its teacher: it learns those units that tell classes apart.",
                (*_KD, _term("smooth_l1", tap=FEATURES, aligner="select", normaliser="standardise")),
                "after Wang and Saadi 2025, https://arxiv.org/abs/2507.10155",
            ),
            NamedRecipe(
                "srd",
                "Most images have labels: try it first. Beside labels a teacher's units say more than its classes.",
                (
                    _term("cross_entropy"),
                    _term("kl", temperature=1.0),
                    _term("log_sum", 2.0, tap=FEATURES, aligner="linear", normaliser="batch_norm"),
                ),
                "Miles and Mikolajczyk 2024, https://arxiv.org/abs/2303.11098",
            ),
            NamedRecipe(
                "dho",
                "Few images have labels, and the teacher errs: labels and teacher get a head each, made one at the end.",
                (_term("kl", 0.5, temperature=2.0), _term("cross_entropy", 0.5, head="own")),
                "Kang et al. 2025, https://arxiv.org/abs/2505.07675",
            ),
            NamedRecipe(
                "clip_kd",
                "For embeddings, the first to try: the teacher's vectors, and how it sees images beside one another.",
                (_vector("normalised_mse", 2000.0), _vector("contrastive"), _vector("relation_kl")),
                "Yang et al. 2024, https://arxiv.org/abs/2307.12732",
                task="embedding",
            ),
            NamedRecipe(
                "vectors",
                "For embeddings whose vectors are held against those of the teacher itself: nothing but their direction.",
                (_vector("cosine"),),
                "Zhang et al. 2024, https://arxiv.org/abs/2412.19048, equation 1",
                task="embedding",
            ),
            NamedRecipe(
                "relational",
                "For embeddings of which relations are asked for too: as in Jasper and Stella, direction, cosines, order.",
                (
                    _vector("cosine", 10.0),
                    _vector("pairwise_similarity", 200.0),
                    _vector("relative_similarity", 20.0, margin=0.015),
                ),
                "Zhang et al. 2024, https://arxiv.org/abs/2412.19048",
                task="embedding",
            ),
            NamedRecipe(
                "mobile_clip",
                "For embeddings that are compared with class vectors: how the teacher sees an image beside them.",
                (_vector("similarity_kl", temperature=0.01),),
                "Vasu et al. 2024, https://arxiv.org/abs/2311.17049",
                task="embedding",
            ),
        )
    }
)
"""By name, in the order in which they are listed."""
OF_CLASSES: Final = tuple(name for name, recipe in RECIPES.items() if recipe.task == "classification")
"""Names of the recipes for classifiers."""
DEFAULT_EMBEDDING: Final = "clip_kd"
"""What `default` is for embeddings."""


def unknown_recipe(name: str) -> tuple[str, str]:
    """What is wrong with the name of a recipe that there is not, and what to type instead."""
    former = {"distill": "kd", "cross_entropy": "labels"}
    near = [former[name]] if name in former else difflib.get_close_matches(name, RECIPES, 1)
    return f"there is no recipe {name!r}", "".join(f"did you mean {n}? " for n in near) + f"use {', '.join(RECIPES)}"


def recipe_named(name: str) -> NamedRecipe:
    """The recipe of that name. Raises InputError with the nearest."""
    if name in RECIPES:
        return RECIPES[name]
    what, fix = unknown_recipe(name)
    raise InputError(what, fix=fix)
