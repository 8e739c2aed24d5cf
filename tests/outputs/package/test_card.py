"""The model card says what the result says, no more, and its code sample runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from factories import make_manifest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from onnx import TensorProto, helper
from PIL import Image, ImageOps

from edgedistill.data.images import read_rgb
from edgedistill.data.preprocessing import resize
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.package import About
from edgedistill.documents.results import Confidence, Confused, Mistake, PredictionsOnTest, ReliabilityBin
from edgedistill.documents.specs import ComputedBy, Format, Precision
from edgedistill.outputs.package.card import code_sample, escape_markdown, model_card
from edgedistill.outputs.package.golden import Golden, GoldenRun
from edgedistill.outputs.package.package import PackageContents, PackageFile, write_package

TRAINING = {"recipe": "distill", "temperature": "2.0"}


def render(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


@given(st.text())
def test_any_text_stays_plain_text(text: str) -> None:
    """As a paragraph, as a table cell, as a list item: the same characters, no element of their own."""
    escaped = escape_markdown(text)
    assert "\n" not in escaped
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    tags = re.findall(r"<[^>]*>", render(f"x {escaped}\n"))
    assert tags == ["<p>", "</p>"]
    cell = render(f"| a | b |\n|---|---|\n| {escaped} | end |\n")
    assert re.findall(r"<td>end</td>", cell) == ["<td>end</td>"]
    assert cell.count("<td>") == 2
    if plain:
        assert re.findall(r"<[^>]*>", render(escaped)) == ["<p>", "</p>"]


def test_hostile_labels_and_reasons_are_text(realistic: ModuleType) -> None:
    hostile = "</script><script>alert(1)</script>"
    result = realistic.make_result(notes=(hostile, "[x](javascript:alert(1))", "| a | b |"))
    html = render(model_card(result, realistic.make_contract(labels=(hostile, "# head", "1. one")), TRAINING))
    assert "<script" not in html
    assert "javascript:" not in re.sub(r">[^<]*<", "><", html), "only as text, in no attribute"
    assert html.count("<h1>") == 1


def test_the_card_states_every_artifact_and_says_unknown(realistic: ModuleType) -> None:
    result = realistic.make_result()
    card = model_card(result, realistic.make_contract(), TRAINING)
    for artifact in result.artifacts:
        assert escape_markdown(artifact.path.removeprefix("package/")) in card
    assert "97.41% (94.7% to 98.7%)" in card and "98.52% (96.3% to 99.4%)" in card
    assert "p95 0.211 ms, p99 0.226 ms; measured, 11000 runs in 22 sessions on" in card
    assert "p95 0.297 ms, p99 0.318 ms; measured, 1000 runs in 1 session on" in card
    assert card.count("| unknown | unknown | unknown |") == 2
    assert "unknown on host: no NVIDIA GPU in this machine" in card
    assert (
        "student-int8.onnx is proven: in 22 sessions of 3.0 s over 1 min 28 s p95 was 10.0% to 10.5% of "
        "the teacher's; with 95% confidence at least 80% of such sessions stay below 20.0% of the teacher's."
    ) in card
    assert "Each session ran it in turn with the teacher's fp32 file" in card
    assert "None" not in card.replace("[None]", "") and "nan" not in card.lower().split()


def test_a_proof_in_milliseconds_and_load_are_told_as_such(realistic: ModuleType) -> None:
    alone = model_card(realistic.make_proven_in_ms(), realistic.make_contract(), TRAINING)
    assert "stay below 0.412 ms." in alone and "in turn with the teacher" not in alone
    load = model_card(realistic.make_measured_again(), realistic.make_contract(), TRAINING)
    assert "Without a pause for 60 s its p95 was 0.210 ms in the first third and 0.231 ms in the last." in load


def test_an_unmeasured_build_never_reads_as_measured(realistic: ModuleType) -> None:
    card = model_card(realistic.make_unmeasured(), realistic.make_contract(), TRAINING)
    assert "**not measured**" in card
    assert "predicted for Pixel 8, not measured" in card
    assert "; measured," not in card


def test_a_build_that_ships_nothing_has_no_card(realistic: ModuleType) -> None:
    with pytest.raises(ValueError, match="ships nothing"):
        model_card(realistic.make_not_met(), realistic.make_contract(), TRAINING)


@pytest.mark.parametrize("crop", ["stretch", "center"])
def test_the_code_sample_runs_inside_the_package(tmp_path: Path, realistic: ModuleType, crop: str) -> None:
    """A model whose logits are the mean of each colour channel, and a golden image that is green."""
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["cast", "axes"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    green = np.zeros((21, 33, 3), np.uint8)
    green[..., 1] = 200
    contract = realistic.make_contract(labels=("red", "green", "blue"), crop=crop)
    result = realistic.make_result()
    signature = (TensorSignature(name="image", dtype="uint8", shape=(1, 3, 16, 16)),)
    file = PackageFile(Format.ONNX, Precision.INT8, tmp_path / "m.onnx", "student-int8.onnx", signature, signature)
    card = model_card(result, contract, TRAINING)
    run = GoldenRun(ComputedBy.DEVICE, np.zeros((1, 3), np.float32), 0.1)
    manifest = make_manifest()
    contents = PackageContents((file,), contract, Golden((green,), {file.name: run}), manifest, card)
    write_package(tmp_path / "out", contents)

    package = tmp_path / "out/package"
    match = re.search(r"```python\n(.*?)```", (package / "MODEL_CARD.md").read_text(), re.DOTALL)
    assert match is not None and match[1] == code_sample(result, contract)
    done = subprocess.run(
        [sys.executable, "-c", match[1]],
        cwd=package,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "green\n", done.stderr


@pytest.mark.parametrize("crop", ["stretch", "center"])
@pytest.mark.parametrize("resize_filter", ["bilinear", "bicubic"])
def test_the_code_sample_prepares_an_image_as_the_data_loader_does(
    tmp_path: Path, realistic: ModuleType, crop: str, resize_filter: str
) -> None:
    """Of a picture with transparency, which has to be turned."""
    contract = realistic.make_contract(crop=crop, resize_filter=resize_filter, background=(10, 200, 30))
    pixels = np.random.default_rng(0).integers(0, 256, (41, 30, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    sample = code_sample(realistic.make_result(), contract)
    lines = sample[sample.index("opened = ") : sample.index("logits =")]
    names: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    exec(lines.replace("golden/picture-000.png", str(tmp_path / "x.png")), names)
    expected = resize(read_rgb(tmp_path / "x.png", contract.background), contract)
    np.testing.assert_array_equal(names["tensor"][0], expected)


def test_what_is_done_before_the_resize_is_said(realistic: ModuleType) -> None:
    card = model_card(realistic.make_result(), realistic.make_contract(background=(240, 240, 240)), TRAINING)
    assert "turned as its EXIF orientation says, and what is transparent is put on \\#f0f0f0." in card


def answered(result: Any, classes: int, **confidence: Any) -> Any:
    """`result` with answers of its first file: of class 0 three are right and one is taken for class 1, of others two."""
    told = PredictionsOnTest(
        artifact_sha256=result.artifacts[0].sha256,
        images=4 + 2 * (classes - 1),
        classes=tuple(f"class {number}" for number in range(classes)),
        confusion=(
            Confused(label=0, predicted=0, count=3),
            Confused(label=0, predicted=1, count=1),
            *(Confused(label=number, predicted=number, count=2) for number in range(1, classes)),
        ),
        mistakes=(
            Mistake(
                label=0,
                predicted=1,
                probability=0.625,
                probability_of_label=0.25,
                image="0/a.png",
                thumbnail="mistakes/01.webp",
            ),
        ),
        confidence=Confidence(
            temperature=1.25,
            calibration_error=0.021,
            raw_calibration_error=0.084,
            bins=(
                ReliabilityBin(images=3, confidence=0.61, accuracy=0.5),
                ReliabilityBin(images=7, confidence=1.0, accuracy=1.0),
            ),
            **confidence,
        ),
    )
    return result.model_copy(update={"predictions_on_test": told})


def test_the_card_tells_answers_by_class_wrong_pictures_and_probabilities(realistic: ModuleType) -> None:
    card = model_card(answered(realistic.make_result(), 3), realistic.make_contract(), TRAINING)
    assert "| class 0 | 4 | 75.0% (30.1% to 95.4%) | class 1 (1) |" in card
    assert "| class 1 | 2 | 100.0% (34.2% to 100.0%) |  |" in card
    assert "| class 0 | 3 | 1 |  |\n| class 1 |  | 2 |  |\n| class 2 |  |  | 2 |\n" in card, "a matrix, a row a label"
    assert "| ![class 0](card/01.webp) | class 0 | class 1 | 62.5% |" in card
    assert "divides its logits by 1.250" in card
    assert "off by 2.1% in the mean" in card and "without that number it would be 8.4%" in card
    assert "| 60% to 67% | 3 | 61.0% | 50.0% |\n| 93% to 100% | 7 | 100.0% | 100.0% |" in card
    assert "none of these" not in card and "It always answers with one of its" in card
    html = render(card.partition("\n---\n")[2])
    assert html.count("<table>") == card.count("|\n|---"), "each table is one"


def test_the_card_tells_what_none_of_these_costs_and_catches(realistic: ModuleType) -> None:
    limits = {"none_below": 0.4, "right_kept": 0.95, "wrong_caught": None}
    card = model_card(answered(realistic.make_result(), 3, **limits), realistic.make_contract(), TRAINING)
    assert 'answers "none of these" where the largest probability is below 40.0%' in card
    assert "keeps 95.0% of the right answers and catches none of the wrong ones. Pictures of something else" in card
    assert "It always answers with one of its" not in card


def test_of_many_classes_the_worst_are_told_and_a_list_of_confusions(realistic: ModuleType) -> None:
    card = model_card(answered(realistic.make_result(), 50), realistic.make_contract(), TRAINING)
    assert "the 20 classes with the least right answers of 50" in card
    assert card.count("| 2 | 100.0% (") == 19 and "The most frequent confusions:" in card
    assert "| class 0 | class 1 | 1 |" in card


def test_the_head_has_what_was_said_and_measured_and_nothing_else(realistic: ModuleType) -> None:
    result, contract = answered(realistic.make_result(), 3), realistic.make_contract()
    bare = ModelCard(model_card(result, contract, TRAINING)).data.to_dict()
    assert bare.pop("tags")[0] == "edge"
    assert bare == {
        "library_name": "edgedistill",
        "metrics": ["accuracy"],
        "pipeline_tag": "image-classification",
    }
    about = About(name='a "b": #c', author="x", license="apache-2.0", dataset="me/pets", base_model="timm/resnet18")
    told = ModelCard(model_card(result, contract, TRAINING, about))
    data = told.data.to_dict()
    assert (data["license"], data["datasets"], data["base_model"]) == ("apache-2.0", ["me/pets"], "timm/resnet18")
    ((model,),) = (data["model-index"],)
    assert model["name"] == 'a "b": #c'
    (found,) = model["results"]
    assert found["dataset"] == {"name": "me/pets", "type": "me/pets", "split": "test"}
    assert found["metrics"][0]["value"] == round(result.artifacts[0].quality, 4)
    assert "By x. Licence: apache-2.0." in told.content
