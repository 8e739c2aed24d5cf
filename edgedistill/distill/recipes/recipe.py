"""Recipes: what a batch is trained with. A frozen type each, chosen once from the build file and never by name again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgedistill.distill.batches import Batch
from edgedistill.distill.recipes.logits import cross_entropy, distillation_loss
from edgedistill.documents.build_file import TrainConfig


@dataclass(frozen=True)
class Distill:
    """KL on the teacher's stored logits at `temperature`, hard labels mixed in at `hard_label_weight`."""

    temperature: float
    hard_label_weight: float
    needs_teacher: ClassVar[bool] = True

    def loss(self, student_logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch that carries teacher logits. `student_logits` is float32 [B, classes]."""
        if batch.teacher_logits is None:
            raise ValueError("the distill recipe was given a batch without teacher logits")
        return distillation_loss(
            student_logits,
            batch.teacher_logits.float(),
            batch.label_a,
            batch.label_b,
            batch.lam,
            temperature=self.temperature,
            hard_label_weight=self.hard_label_weight,
        )


@dataclass(frozen=True)
class CrossEntropy:
    """Labels only: what a student learns without a teacher, and how a teacher is fitted."""

    label_smoothing: float = 0.0
    needs_teacher: ClassVar[bool] = False

    def loss(self, student_logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch. `student_logits` is float32 [B, classes]."""
        return cross_entropy(student_logits, batch.label_a, batch.label_b, batch.lam, self.label_smoothing)


Recipe = Distill | CrossEntropy


def recipe_of(config: TrainConfig) -> Recipe:
    """The recipe that `[train]` names."""
    match config.recipe:
        case "distill":
            return Distill(temperature=config.temperature, hard_label_weight=config.hard_label_weight)
        case "cross_entropy":
            return CrossEntropy()
