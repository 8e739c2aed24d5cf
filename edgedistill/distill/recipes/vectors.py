"""Losses of vectors: pure functions of their directions alone.

`student` and `teacher` are float [B, D]. Rows are divided by their length first, so that a product of two is their cosine.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Temperature = Annotated[float, Field(ge=0.001, le=100)]

_PAIRS: Final = 2**23
"""Pairs of cosines that are held in memory at a time, in some 20 bytes each: those of a whole batch of 200."""


def normalised_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all numbers of the squared differences of student and teacher at length 1: (2 - 2 cos) / D. Feature
    distillation of CLIP-KD (Yang et al. 2024, https://arxiv.org/abs/2307.12732), there with a weight of
    2000."""
    return F.mse_loss(F.normalize(student, dim=1), F.normalize(teacher, dim=1))


def contrastive(student: Tensor, teacher: Tensor, *, temperature: Temperature = 0.07) -> Tensor:
    """InfoNCE: the cross entropy of telling, from the student's vector of an image, the teacher's of the same image among
    those of the batch. Interactive contrastive learning of CLIP-KD (https://arxiv.org/abs/2307.12732), of
    images alone; its temperature is learnt from 0.07 on, and stays there here."""
    similarity = _cosines(student, teacher) / temperature
    return F.cross_entropy(similarity, torch.arange(len(student), device=student.device))


def relation_kl(student: Tensor, teacher: Tensor, *, temperature: Temperature = 0.07) -> Tensor:
    """Mean over images of KL(teacher || student) of the softmax of an image's cosines to the others of the batch, >= 0.
    Contrastive relational distillation of CLIP-KD (https://arxiv.org/abs/2307.12732), of images alone: the
    cosine of an image to itself, always 1, is left out."""
    found = [_without_diagonal(_cosines(rows, rows)) / temperature for rows in (teacher, student)]
    return _kl_of_rows(*found)


def pairwise_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all pairs of images of the squared difference of their cosines: the similarity loss of Jasper and Stella
    (Zhang et al. 2024, https://arxiv.org/abs/2412.19048)."""
    return F.mse_loss(_cosines(student, student), _cosines(teacher, teacher))


def relative_similarity(
    student: Tensor, teacher: Tensor, *, margin: Annotated[float, Field(ge=0, le=2)] = 0.015
) -> Tensor:
    """Of two images by their cosine to a third: the student has the order of the teacher, with a `margin` between. Mean of
    max(0, `margin` + the cosine of the one that is further for the teacher - that of the nearer one), after the relative
    similarity loss of Jasper and Stella (https://arxiv.org/abs/2412.19048). There any two pairs of the batch
    are compared, here those that share an image: B^3 of them and not B^4. Of a large batch those of some images at a time
    are in memory, and are computed again for the gradient."""
    ours, theirs = (_without_diagonal(_cosines(rows, rows)) for rows in (student, teacher))
    images = max(1, _PAIRS // ours[0].numel() ** 2)
    parts = list(zip(torch.split(ours, images), torch.split(theirs, images), strict=True))
    of_part = _out_of_order if len(parts) == 1 else partial(checkpoint, _out_of_order, use_reentrant=False)
    found = [of_part(*part, margin) for part in parts]
    lacking, pairs = (torch.stack(sums).sum() for sums in zip(*found, strict=True))
    return lacking / pairs.clamp(min=1)


def _out_of_order(ours: Tensor, theirs: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Of the cosines [n, m] of n images to m others: what each pair of others lacks of the teacher's order, summed, and
    how many pairs there are."""
    nearer = theirs[:, :, None] > theirs[:, None, :]
    lacking = F.relu(margin + ours[:, None, :] - ours[:, :, None])
    return (lacking * nearer).sum(), nearer.sum()


def similarity_kl(student: Tensor, teacher: Tensor, anchors: Tensor, *, temperature: Temperature = 0.01) -> Tensor:
    """Half of KL(teacher || student) of the softmax of an image's cosines to the `anchors` [M, D], and half of that of an
    anchor's to the images. Anchors are the vectors of the classes, or the teacher's of the batch where there are none. The
    distillation loss of MobileCLIP (Vasu et al. 2024, https://arxiv.org/abs/2311.17049), whose texts the
    anchors stand for; there each teacher has its own temperature, which is 0.01 for CLIP."""
    theirs, ours = (_cosines(rows, anchors) / temperature for rows in (teacher, student))
    return (_kl_of_rows(theirs, ours) + _kl_of_rows(theirs.T, ours.T)) / 2


def _cosines(rows: Tensor, others: Tensor) -> Tensor:
    """[n, m] of rows [n, D] and others [m, D]."""
    return F.normalize(rows, dim=1) @ F.normalize(others, dim=1).T


def _without_diagonal(square: Tensor) -> Tensor:
    """[n, n] to [n, n - 1]."""
    count = len(square)
    return square[~torch.eye(count, dtype=torch.bool, device=square.device)].view(count, count - 1)


def _kl_of_rows(theirs: Tensor, ours: Tensor) -> Tensor:
    p, q = F.log_softmax(theirs, dim=1), F.log_softmax(ours, dim=1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True)
