"""What a student is trained to minimise: pure functions of logits and labels, each the mean over the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of the softmaxes at temperature T, a scalar >= 0 that is 0 iff both softmaxes agree.

    Logits are float [B, classes]. The factor T^2 keeps the gradient's size independent of T (Hinton, Vinyals and Dean,
    "Distilling the Knowledge in a Neural Network", 2015, section 2).
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def cross_entropy(
    student_logits: Tensor, label_a: Tensor, label_b: Tensor, lam: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy against labels of which each image may carry two: `lam` of `label_a`, the rest of `label_b`.

    Logits float [B, classes], labels int64 [B], `lam` float [B] in [0, 1] (1 for an image that is not mixed).
    `label_smoothing` in [0, 1) is the share of each target spread evenly over all classes (Szegedy et al., 2016).
    """
    of_a = F.cross_entropy(student_logits, label_a, reduction="none", label_smoothing=label_smoothing)
    of_b = F.cross_entropy(student_logits, label_b, reduction="none", label_smoothing=label_smoothing)
    return (lam * of_a + (1 - lam) * of_b).mean()


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label_a: Tensor,
    label_b: Tensor,
    lam: Tensor,
    *,
    temperature: float,
    hard_label_weight: float,
) -> Tensor:
    """(1 - w) * `kl_divergence` + w * `cross_entropy`, with w = `hard_label_weight` in [0, 1]."""
    soft = kl_divergence(student_logits, teacher_logits, temperature)
    hard = cross_entropy(student_logits, label_a, label_b, lam)
    return (1 - hard_label_weight) * soft + hard_label_weight * hard
