"""What `calibrate` is asked for."""

from __future__ import annotations

import pytest

from edgedistill.base.errors import InputError
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.documents.specs import Precision


def test_wishes_are_read_from_lists_with_commas() -> None:
    asked = CalibrationRequest.parse(8, "resnet, vit", "64,32,64", "int8,fp32")
    assert asked == CalibrationRequest(8, ("resnet", "vit"), (32, 64), (Precision.FP32, Precision.INT8))


def test_all_that_cannot_be_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        CalibrationRequest.parse(2, "resnet,nofamily,timm:resnet18", "32,5", "fp32,mixed")
    told = [(problem.where, problem.what) for problem in caught.value.problems]
    assert told == [
        ("--models", "2 are too few to fit to"),
        ("--resolution", "5 is no side of an input"),
        ("--family", "timm:resnet18 is a model and no family: a device is calibrated by the families"),
        ("--family", "unknown family 'nofamily'"),
        ("--precision", "unknown name 'mixed'"),
    ]
