"""What the checks on a Core ML package say of each precision, and what they refuse."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from quantize_networks import CONTRACT, images
from torch import Tensor, nn

from edgedistill.base.errors import EdgedistillError
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.specs import Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.formats.carried import SCHEME_KEY
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.coreml.package import computed_precision, read_package, weighted_layers
from edgedistill.formats.coreml.quantize import compress_coreml, quantize_coreml
from edgedistill.formats.coreml.runtime import CoreMLFormat
from edgedistill.networks.program.program import to_program

pytest.importorskip("coremltools", reason="coremltools has no wheel for this machine")

SMALL = "the others are too small for it, 2,048 weights at most"
IN_FP16 = "all weighted layers compute in fp16, and activations are not quantised"


class Attention(nn.Module):
    """Three layers of 2,304 weights, one of 192, and two products of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 4, 4)
        self.query, self.key = nn.Linear(48, 48), nn.Linear(48, 48)
        self.head = nn.Linear(48, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch((image - 128.0) / 64.0).flatten(2).transpose(1, 2)
        weights = (self.query(tokens) @ self.key(tokens).transpose(1, 2)).softmax(-1)
        return self.head((weights @ tokens).mean(1))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, CompiledArtifact]:
    folder = tmp_path_factory.mktemp("precisions")
    torch.manual_seed(0)
    module = Attention().eval()
    made = {}
    for precision in Precision:
        path = folder / f"{precision}.mlpackage"
        scheme = QuantScheme(precision=precision, kept=("query",) if precision is Precision.MIXED else ())
        if scheme.integer:
            quantize_coreml(module, images(16), CONTRACT, scheme, path, build_hash="b")
        elif precision in (Precision.FP32, Precision.FP16):
            export_coreml(to_program(module, CONTRACT), CONTRACT, path, precision, build_hash="b")
        else:
            compress_coreml(to_program(module, CONTRACT), CONTRACT, path, scheme, build_hash="b")
        made[precision] = CoreMLFormat().adopt(path, load_target("host"))
    return made


@pytest.mark.parametrize(
    ("precision", "layers", "said"),
    [
        (Precision.FP32, {"float32": 4}, ["all 6 weighted layers compute in fp32, nothing is quantised"]),
        (Precision.FP16, {"float16": 4}, ["all 6 weighted layers compute in fp16, nothing is quantised"]),
        (
            Precision.INT8,
            {"int8": 4},
            ["4 of 4 weighted layers have int8 weights and int8 activations coming in"],
        ),
        (
            Precision.MIXED,
            {"int8": 3, "float16": 1},
            ["3 of 4 weighted layers have int8 weights and int8 activations coming in; 1 stayed in fp16"],
        ),
        (
            Precision.INT8_WEIGHTS,
            {"int8 weights, float16": 3, "float16": 1},
            [f"3 of 4 weighted layers have int8 weights; {SMALL}", IN_FP16],
        ),
        (
            Precision.INT4_WEIGHTS,
            {"looked-up 4-bit weights, float16": 3, "float16": 1},
            [f"3 of 4 weighted layers have looked-up 4-bit weights; {SMALL}", IN_FP16],
        ),
    ],
)
def test_the_checks_say_what_is_there(
    artifacts: dict[Precision, CompiledArtifact], precision: Precision, layers: dict[str, int], said: list[str]
) -> None:
    artifact = artifacts[precision]
    assert artifact.scheme.precision is precision
    package = read_package(artifact.path)
    assert Counter(layer.described for layer in weighted_layers(package)) == layers
    assert set(said) <= set(CoreMLFormat().inspect(artifact).checks)
    # What a package that does not say it is taken for.
    del package.spec.description.metadata.userDefined[SCHEME_KEY]
    assert computed_precision(package) is precision


@pytest.mark.parametrize(
    ("found", "claimed", "words"),
    [
        (Precision.INT8, Precision.MIXED, "of 4 weighted layers 4 are int8, 0 are floating point and 0 are neither"),
        (Precision.FP16, Precision.MIXED, "of 4 weighted layers 0 are int8, 4 are floating point"),
        (Precision.INT8_WEIGHTS, Precision.MIXED, "0 are int8, 1 are floating point and 3 are neither"),
        (Precision.MIXED, Precision.INT8, "only 3 of 4 weighted layers have int8 weights"),
        (Precision.FP16, Precision.INT8_WEIGHTS, "only 0 of 4 .* 3 have more than 2,048 weights in floating point"),
        (Precision.INT8, Precision.INT8_WEIGHTS, "with 3 quantize operations"),
        (Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS, "only 0 of 4 weighted layers have looked-up 4-bit weights"),
        (Precision.INT4_WEIGHTS, Precision.INT8_WEIGHTS, "only 0 of 4 weighted layers have int8 weights"),
        (Precision.INT4_WEIGHTS, Precision.FP16, "there are .*constexpr_lut_to_dense"),
    ],
)
def test_one_precision_does_not_pass_for_another(
    artifacts: dict[Precision, CompiledArtifact], found: Precision, claimed: Precision, words: str
) -> None:
    artifact = artifacts[found].model_copy(update={"scheme": QuantScheme(precision=claimed)})
    with pytest.raises(EdgedistillError, match=words):
        CoreMLFormat().inspect(artifact)


def test_a_network_of_small_layers_is_told_to_have_stayed_as_it_was(tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(image.mean((2, 3)))

    path, scheme = tmp_path / "small.mlpackage", QuantScheme(precision=Precision.INT8_WEIGHTS)
    compress_coreml(to_program(Small().eval(), CONTRACT), CONTRACT, path, scheme, build_hash="b")
    checks = CoreMLFormat().inspect(CoreMLFormat().adopt(path, load_target("host"))).checks
    assert f"0 of 1 weighted layers have int8 weights; {SMALL}" in checks
