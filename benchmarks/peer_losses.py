"""torchdistill's losses as losses of edgedistill, for recipes.py.

    pip install --no-deps --target DIR torchdistill==1.1.5          and DIR on PYTHONPATH

The peer's: the loss objects, KDLoss, LogitStdKDLoss, DISTLoss and SRDLoss, their sum with cross entropy (its WeightedSumLoss
of its own CrossEntropyLoss), and every weight and temperature, which are those of the sample configuration that SETTINGS
names. torchdistill 1.1.5 has no loss of DKD, so there is none here.

Ours: the training around them, and what becomes of images without a label, of which the peer says nothing. Labels become the
peer's class numbers; an image without a label has the number that its cross entropy ignores. That is a mean over the
labelled images of a batch: where one image of many has a label, it would weigh as much as all others. So the part of cross
entropy is taken times the share of labelled images in the batch, which makes it a mean over the batch, as ours is.

SRD has a linear layer and a batch norm without weights on the student's features, and such a batch norm on the teacher's.
The linear layer is our aligner `linear`. It has no bias, which that batch norm would take away; the batch norm itself is
torch's with the peer's eps, by the statistics of the batch, as in the peer's training. SRDLoss is a sum of a part of
features and one of logits. Each term of ours has one of them: the object is called for both, and each time the other part
is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from edgedistill.distill.recipes.losses import Loss, losses
from edgedistill.documents.recipes import FEATURES, TermConfig

PREFIX: Final = "torchdistill_"
SRD_FEATURES: Final = "torchdistill_srd_features"
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "torchdistill_kd": {
        "configuration": "sample/ilsvrc2012/kd/resnet18_from_resnet34.yaml",
        "key": "KDLoss",
        "kwargs": {"temperature": 1.0, "alpha": 0.5, "reduction": "batchmean"},
    },
    "torchdistill_kd_cifar": {
        "configuration": "sample/cifar100/kd/wide_resnet40_1_from_wide_resnet40_4-final_run.yaml",
        "key": "KDLoss",
        "kwargs": {"temperature": 4.0, "alpha": 0.9, "reduction": "batchmean"},
    },
    "torchdistill_logit_std": {
        "configuration": "sample/ilsvrc2012/kd_w_ls/resnet18_from_resnet34.yaml",
        "key": "LogitStdKDLoss",
        "kwargs": {"temperature": 2.0, "alpha": 0.5, "beta": 9, "reduction": "batchmean"},
    },
    "torchdistill_dist": {
        "configuration": "sample/ilsvrc2012/dist/resnet18_from_resnet34.yaml",
        "key": "DISTLoss",
        "kwargs": {"beta": 1.0, "gamma": 1.0, "tau": 1.0},
        "weight": 2.0,
        "labels": 1.0,
    },
    "torchdistill_srd": {
        "configuration": "official/ilsvrc2012/roymiles/aaai2024/srd-resnet18_from_resnet34.yaml",
        "key": "SRDLoss",
        "kwargs": {"exponent": 4.0, "temperature": 1.0, "reduction": "batchmean"},
        "weight": 1.0,
        "labels": 1.0,
        "norm_eps": 1e-4,
    },
}
"""By condition: where in torchdistill's configs/ its settings stand, the loss, its weight, and that of the cross entropy
beside it where the loss has none of its own."""
IGNORED: Final = -100
"""The class number that torch's cross entropy leaves out."""
_LOGITS, _FEATURES = ".", "norm_layer"


def terms_of(condition: str) -> tuple[TermConfig, ...]:
    """The terms of a condition of SETTINGS."""
    terms = [TermConfig(loss=condition)]
    if condition == "torchdistill_srd":
        terms.append(TermConfig(loss=SRD_FEATURES, tap=FEATURES, aligner="linear"))
    return tuple(terms)


def register() -> None:
    """Make the peer's losses known by name in this process. Ends the program without the peer."""
    try:
        version = import_module("torchdistill").__version__
        import_module("torchdistill.losses")
    except ImportError as error:
        raise SystemExit(f"{error}: pip install --no-deps --target DIR torchdistill, with DIR on PYTHONPATH") from error
    made = {name: _of_logits(name) for name in SETTINGS} | {SRD_FEATURES: _srd_features()}
    for name, function in made.items():
        function.__doc__ = f"{name.removeprefix(PREFIX)} of torchdistill {version}."
        losses()[name] = Loss.of(name, function)


def _of_logits(name: str) -> Callable[..., Tensor]:
    """The whole loss of a condition, but for SRD's features."""
    settings = SETTINGS[name]
    plain = {"criterion": _criterion(settings), "weight": settings.get("weight", 1.0)}
    alone = plain
    terms = {"distil": plain}
    if "labels" in settings:
        terms["labels"] = _cross_entropy(settings["labels"])
    else:
        # These have cross entropy inside. With alpha 0 they give their other part without its weight and T^2.
        beta = settings["kwargs"].get("beta", 1 - settings["kwargs"]["alpha"])
        weight = plain["weight"] * beta * settings["kwargs"]["temperature"] ** 2
        alone = {"criterion": _criterion(settings, alpha=0), "weight": weight}
    whole, unlabelled = (_sum(parts) for parts in (terms, {"distil": alone}))

    def loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        known = labels.any(1)
        targets = torch.where(known, labels.argmax(1), IGNORED)
        # The same features on both sides but for one number make the logarithm that SRD takes of them zero.
        given = {
            side: {_LOGITS: {"output": logits}, _FEATURES: {"output": logits.new_full((1,), float(one))}}
            for one, (side, logits) in enumerate((("student", student), ("teacher", teacher)))
        }
        distilled: Tensor = unlabelled(given, {}, targets)
        if not bool(known.any()):
            return distilled
        return distilled + known.float().mean() * (whole(given, {}, targets) - distilled)

    return loss


def _srd_features() -> Callable[..., Tensor]:
    """SRD's part of features."""
    settings = SETTINGS["torchdistill_srd"]
    criterion = _sum({"distil": {"criterion": _criterion(settings), "weight": settings["weight"]}})

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        rows = (F.batch_norm(x, None, None, training=True, eps=settings["norm_eps"]) for x in (student, teacher))
        given = {
            side: {_FEATURES: {"output": x}, _LOGITS: {"output": x.new_zeros(1, 2)}}
            for side, x in zip(("student", "teacher"), rows, strict=True)
        }
        value: Tensor = criterion(given, {}, None)
        return value

    return loss


def _criterion(settings: dict[str, Any], **changed: float) -> dict[str, Any]:
    """The peer's configuration of a loss, with the places where it finds its tensors."""
    of_features = settings["key"] == "SRDLoss"
    places = {"feature_module": _FEATURES, "linear_module": _LOGITS} if of_features else {"module": _LOGITS}
    at = {
        f"{side}_{module}_{what}": value
        for side in ("student", "teacher")
        for module, path in places.items()
        for what, value in (("path", path), ("io", "output"))
    }
    return {"key": settings["key"], "kwargs": {**at, **settings["kwargs"], **changed}}


def _cross_entropy(weight: float) -> dict[str, Any]:
    return {
        "criterion": {"key": "CrossEntropyLoss", "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {
            "key": "SimpleLossWrapper",
            "kwargs": {
                "input": {"is_from_teacher": False, "module_path": _LOGITS, "io": "output"},
                "target": {"uses_label": True},
            },
        },
        "weight": weight,
    }


def _sum(terms: dict[str, Any]) -> Callable[..., Tensor]:
    """The peer's weighted sum."""
    registry = import_module("torchdistill.losses.registry")
    found: Callable[..., Tensor] = registry.get_high_level_loss(
        {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}}
    )
    return found
