"""What is asked for, in short words, and read back from documents of before."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgedistill.documents.results import StudentSummary
from edgedistill.documents.specs import StudentSpec, Target

OLD = {"family": "resnet", "width": 0.5, "depth": 1.0, "resolution": 32}
FULL = StudentSpec(**OLD, kernel=5, expansion=4, channel_multiple=16)


def test_a_label_shows_the_choices_that_are_not_the_usual_ones() -> None:
    assert StudentSpec(**OLD).label == "resnet w0.5 d1 @32"
    assert FULL.label == "resnet w0.5 d1 k5 e4 m16 @32"
    assert FULL.described == "width 0.5, depth 1, kernel 5, expansion 4, channels in multiples of 16, 32 px"
    assert StudentSpec(**OLD).described == "width 0.5, depth 1, 32 px"


def test_a_document_without_the_newer_choices_reads_as_the_usual_ones() -> None:
    spec = StudentSpec.model_validate(OLD)
    assert (spec.kernel, spec.expansion, spec.channel_multiple) == (None, None, 8)
    assert StudentSummary.model_validate({**OLD, "parameters": 1, "multiply_adds": 2}).spec == spec
    target = {"name": "a", "title": "A", "runtime": "onnx", "formats": ["onnx"], "precisions": ["fp32"]}
    assert Target.model_validate({**target, "transport": "local"}).channel_multiple == 8


def test_a_summary_has_the_students_choices() -> None:
    assert StudentSummary(**FULL.model_dump(), parameters=1, multiply_adds=2).spec == FULL
    assert type(StudentSummary(**FULL.model_dump(), parameters=1, multiply_adds=2).spec) is StudentSpec


@pytest.mark.parametrize(
    ("choice", "wrong"),
    [("kernel", 1), ("kernel", 4), ("kernel", 13), ("expansion", 0), ("channel_multiple", 0)],
)
def test_kernels_are_odd_and_expansions_above_zero(choice: str, wrong: float) -> None:
    with pytest.raises(ValidationError, match=choice):
        StudentSpec.model_validate({**OLD, choice: wrong})
