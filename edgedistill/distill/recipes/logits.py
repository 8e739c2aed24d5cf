"""Losses of logits: pure functions, each a mean over the batch.

`student` and `teacher` are logits, float [B, C]. `labels` are float [B, C] in 0..1: a row holds the shares of its image's
classes. It sums to 1, to less where a part of a mixed image has no label, and to 0 where none has.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

Temperature = Annotated[float, Field(gt=0, le=100)]
Weight = Annotated[float, Field(ge=0, le=1000)]
TINY = 1e-7
"""Least deviation of a row or column that is divided by it."""


def cross_entropy(student: Tensor, labels: Tensor, *, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Tensor:
    """Cross entropy against the labels, a mean over the batch, to which an image without a label adds 0. `smoothing` is the
    share of each label that is spread evenly over all classes (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567,
    section 7)."""
    known = labels.sum(1)
    target = labels * (1 - smoothing) + known[:, None] * smoothing / labels.shape[1]
    # A mean over the labelled images alone would give the one label of a batch the weight of a whole batch: where few images
    # have labels, that noise costs several points of accuracy.
    return -(target * F.log_softmax(student, dim=1)).sum() / len(labels)


def kl(student: Tensor, teacher: Tensor, *, temperature: Temperature = 2.0) -> Tensor:
    """T^2 * KL(teacher || student) of the softmaxes at temperature T, >= 0, and 0 iff both softmaxes agree. The factor T^2
    keeps the gradient's size independent of T (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2)."""
    p, q = (F.log_softmax(logits / temperature, dim=1) for logits in (teacher, student))
    return F.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: Temperature = 4.0,
    target: Weight = 1.0,
    others: Weight = 8.0,
) -> Tensor:
    """T^2 * (`target` * KL of the label's class against all others + `others` * KL among the others): alpha and beta of
    Zhao et al. 2022, https://arxiv.org/abs/2203.08679, equation 7. The class of an image is that with the largest share of
    its labels, or the teacher's where it has none."""
    classes = torch.where(labels.any(1), labels.argmax(1), teacher.argmax(1))
    is_class = F.one_hot(classes, student.shape[1]).bool()

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logs of the probabilities of (class, not class) [B, 2], and of the others among themselves [B, C - 1]."""
        logits = logits / temperature
        own, rest = logits[is_class][:, None], logits[~is_class].view(len(logits), -1)
        both = torch.cat([own, rest.logsumexp(1, keepdim=True)], dim=1)
        return F.log_softmax(both, dim=1), F.log_softmax(rest, dim=1)

    parts = zip(split(student), split(teacher), strict=True)
    of_class, of_others = (F.kl_div(s, t, reduction="batchmean", log_target=True) for s, t in parts)
    return (target * of_class + others * of_others) * temperature**2


def correlation(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 1.0,
    classes: Weight = 1.0,
    images: Weight = 1.0,
) -> Tensor:
    """T^2 * (`classes` * mean over images of 1 - Pearson's correlation of their probabilities + `images` * mean over classes
    of the same over the batch): DIST's inter-class and intra-class terms, beta and gamma (Huang et al. 2022,
    https://arxiv.org/abs/2205.10536, equations 8 to 10)."""
    p, q = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    return (classes * decorrelation(p, q) + images * decorrelation(p.T, q.T)) * temperature**2


def decorrelation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of 1 - Pearson's correlation of two [N, M], in 0..2; a row without deviation correlates with none."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    return 1 - F.cosine_similarity(a, b, dim=1, eps=TINY**2).mean()


def jensen_shannon(student: Tensor, teacher: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the softmaxes in nats, in 0..ln 2, symmetric (SSLD: Cui et al. 2021,
    https://arxiv.org/abs/2103.05959, equation 1)."""
    p, q = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype, device=p.device))
    of_student, of_teacher = (F.kl_div(middle, x, reduction="batchmean", log_target=True) for x in (p, q))
    return (of_student + of_teacher) / 2


def standardised_kl(student: Tensor, teacher: Tensor, *, temperature: Temperature = 2.0) -> Tensor:
    """`kl` of logits that are standardised by row: only their order and relative distances count, not how sure the teacher
    is (Sun et al. 2024, https://arxiv.org/abs/2403.01427, algorithm 1)."""

    def standardised(logits: Tensor) -> Tensor:
        deviation = logits.std(1, keepdim=True).clamp_min(TINY)
        return (logits - logits.mean(1, keepdim=True)) / deviation

    return kl(standardised(student), standardised(teacher), temperature=temperature)


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy against the teacher's softmax; of several teachers, `teacher` is the log of their mean softmax (MEAL V2:
    Shen and Savvides 2020, https://arxiv.org/abs/2009.08453, equation 3)."""
    return F.cross_entropy(student, teacher.softmax(1))
