"""What computes which operations: how it is told, when it is an error, what Core ML's plan comes to."""

from __future__ import annotations

import pytest
from factories import make_target

from edgedistill.documents.measurements import Fallbacks
from edgedistill.documents.specs import Format
from edgedistill.formats.coreml.on_device import fallbacks_of
from edgedistill.formats.format import fallback_problems

SOME = Fallbacks(by="XNNPACK", operations=63, elsewhere={"native_layer_norm": 2, "gelu": 1})
PHONE = make_target(Format.COREML, transport="none", accelerator="Neural Engine")


@pytest.mark.parametrize(
    ("fallbacks", "sentence"),
    [
        (SOME, "XNNPACK computes 60 of 63 operations; elsewhere: gelu 1, native_layer_norm 2"),
        (Fallbacks(by="TensorRT", operations=5, elsewhere={}), "TensorRT computes 5 of 5 operations"),
        (Fallbacks(by="Core ML", unknown="it needs a Mac"), "not known here: it needs a Mac"),
    ],
)
def test_a_sentence_tells_it(fallbacks: Fallbacks, sentence: str) -> None:
    assert fallbacks.sentence == sentence


def test_each_operation_is_a_problem_with_a_way_out() -> None:
    gelu, norm = fallback_problems("m.pte", SOME, PHONE)
    assert (gelu.where, norm.where) == ("m.pte: 1 x gelu", "m.pte: 2 x native_layer_norm")
    assert "from the Neural Engine to the CPU" in gelu.what and "allow_fallbacks = true" in gelu.fix


@pytest.mark.parametrize("change", [{"accelerator": ""}, {"allow_fallbacks": True}])
def test_on_a_cpu_and_where_they_are_allowed_they_are_counted_and_no_more(change: dict[str, object]) -> None:
    assert fallback_problems("m.pte", SOME, PHONE.model_copy(update=change)) == ()


def test_what_is_not_known_is_no_problem() -> None:
    assert fallback_problems("m", Fallbacks(by="Core ML", unknown="it needs a Mac"), PHONE) == ()


def test_core_mls_plan_is_counted_by_the_device_that_is_preferred() -> None:
    plan = [
        ("ios17.conv", "MLNeuralEngineComputeDevice"),
        ("ios17.relu", "MLGPUComputeDevice"),
        ("ios17.reshape", "MLCPUComputeDevice"),
        ("ios17.reshape", "MLCPUComputeDevice"),
    ]
    found = Fallbacks(**fallbacks_of(plan))
    assert (found.operations, found.elsewhere) == (4, {"reshape": 2})
