"""The metadata of a file that ships: read back by each format's own tools; what the file computes stays."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import onnx
import pytest
from small_package import ABOUT, CONTRACT, Network
from torch.export import ExportedProgram

from edgedistill.base.errors import InputError
from edgedistill.documents.package import About
from edgedistill.documents.specs import Contract, Format, Precision, Probabilities, VectorContract
from edgedistill.documents.targets import load_target
from edgedistill.formats import SHIPPED, format_for
from edgedistill.formats.carried import PROBABILITIES_KEY, carried_probabilities
from edgedistill.formats.coreml.export import export_coreml
from edgedistill.formats.coreml.reference.interpreter import run
from edgedistill.formats.foreign import open_file
from edgedistill.formats.format import ModelMetadata, Opened
from edgedistill.formats.litert.export import export_litert
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.formats.running import run_all
from edgedistill.networks.confidence import probabilities
from edgedistill.networks.program.program import to_program

TEMPERATURE = 1.7
PROBABILITIES = Probabilities(temperature=TEMPERATURE, none_below=0.4)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8)
VECTORS = Contract(
    task="embedding",
    output_name="embedding",
    resolution=16,
    mean=(128.0,) * 3,
    std=(64.0,) * 3,
    labels=(),
    vector=VectorContract(dimension=4),
)
EXPORTS: dict[Format, Callable[[Path, Contract], object]] = {
    Format.ONNX: lambda path, contract: export_onnx(program(contract), contract, path, build_hash="b"),
    Format.COREML: lambda path, contract: export_coreml(
        program(contract), contract, path, Precision.FP16, build_hash="b"
    ),
    Format.LITERT: lambda path, contract: export_litert(
        program(contract), contract, path, Precision.FP32, build_hash="b"
    ),
}


def program(contract: Contract) -> ExportedProgram:
    return to_program(Network().eval(), contract)


def opened(path: Path) -> Opened:
    return open_file(path, load_target("host"))


@pytest.fixture(scope="module", params=EXPORTS, ids=str)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / f"student{format_for(request.param).suffixes[0]}"
    EXPORTS[request.param](path, CONTRACT)
    return path


def shipped(path: Path, folder: Path, about: About = ABOUT, contract: Contract = CONTRACT) -> Path:
    artifact = opened(path).artifact
    own = PROBABILITIES if contract.vector is None else None
    found = format_for(artifact.format).with_metadata(artifact, ModelMetadata(about, contract, own), folder)
    assert found.path == folder / path.name and found.sha256 != artifact.sha256
    return found.path


def test_formats_with_a_place_for_texts_are_those_here() -> None:
    assert {form for form in SHIPPED if format_for(form).has_metadata} == set(EXPORTS)


def test_it_computes_what_it_did_says_its_temperature_and_has_the_same_bytes_again(file: Path, tmp_path: Path) -> None:
    told = shipped(file, tmp_path)
    before, after = opened(file), opened(told)
    form = format_for(before.artifact.format)
    first, second = (run_all(form, one.artifact, IMAGES, classes=4) for one in (before, after))
    np.testing.assert_array_equal(first, second)
    assert (before.probabilities, after.probabilities) == (None, PROBABILITIES)
    assert after.contract == before.contract and after.artifact.scheme == before.artifact.scheme
    form.inspect(after.artifact)
    (tmp_path / "again").mkdir()
    assert opened(shipped(file, tmp_path / "again")).artifact.sha256 == after.artifact.sha256
    # Metadata of before is gone.
    (tmp_path / "other").mkdir()
    other = opened(shipped(told, tmp_path / "other", About(name="pets")))
    assert other.artifact.bytes < after.artifact.bytes


def test_onnx_has_what_tools_read(tmp_path: Path) -> None:
    EXPORTS[Format.ONNX](tmp_path / "student.onnx", CONTRACT)
    (tmp_path / "told").mkdir()
    told = shipped(tmp_path / "student.onnx", tmp_path / "told")
    entries = {entry.key: entry.value for entry in onnx.load(told).metadata_props}
    expected = {
        "names": "{0: 'ant', 1: 'bee', 2: 'cat', 3: 'dog'}",
        "imgsz": "[16, 16]",
        "task": "classify",
        "batch": "1",
        "name": "insects",
        "description": "It tells an insect from a pet.",
        "author": "Ann Other",
        "license": "apache-2.0",
        "version": "1.2",
    }
    assert {key: entries[key] for key in expected} == expected
    assert "stride" not in entries, "this network has no map that is pooled"


def test_core_ml_is_a_classifier_with_its_author_and_preview(tmp_path: Path) -> None:
    EXPORTS[Format.COREML](tmp_path / "student.mlpackage", CONTRACT)
    (tmp_path / "told").mkdir()
    told = shipped(tmp_path / "student.mlpackage", tmp_path / "told")
    spec = ct.models.MLModel(str(told), skip_model_load=True).get_spec()
    description = spec.description
    kinds = {feature.name: feature.type.WhichOneof("Type") for feature in description.output}
    assert kinds == {"classLabel": "stringType", "classLabel_probs": "dictionaryType", "logits": "multiArrayType"}
    assert (description.predictedFeatureName, description.predictedProbabilitiesName) == (
        "classLabel",
        "classLabel_probs",
    )
    metadata = description.metadata
    assert (metadata.author, metadata.license, metadata.versionString) == ("Ann Other", "apache-2.0", "1.2")
    assert metadata.shortDescription == "It tells an insect from a pet."
    assert metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageClassifier"
    assert all(feature.shortDescription for feature in (*description.input, *description.output))
    # The probabilities are at the temperature, the logits as they were.
    found = run(told, {"image": IMAGES[:1]})
    (shares,) = probabilities(found["logits"], TEMPERATURE)
    assert found["classLabel"] == CONTRACT.labels[int(shares.argmax())]
    assert found["classLabel_probs"] == pytest.approx(dict(zip(CONTRACT.labels, shares, strict=True)), abs=1e-6)


def test_core_ml_vectors_are_no_classifier(tmp_path: Path) -> None:
    EXPORTS[Format.COREML](tmp_path / "student.mlpackage", VECTORS)
    (tmp_path / "told").mkdir()
    told = shipped(tmp_path / "student.mlpackage", tmp_path / "told", contract=VECTORS)
    description = ct.models.MLModel(str(told), skip_model_load=True).get_spec().description
    assert [feature.name for feature in description.output] == ["embedding"]
    assert not description.predictedFeatureName and description.output[0].shortDescription == "a vector of length 1"


needs_mediapipe = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs mediapipe")
_READ = """
import json, sys
import numpy as np
import mediapipe as mp
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, vision

content = open(sys.argv[1], "rb").read()
model = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(content, content.index(b"M001") - 4))
(graph,) = model.subgraphMetadata
(image,), (output,) = graph.inputTensorMetadata, graph.outputTensorMetadata
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
picture = np.ascontiguousarray(np.load(sys.argv[2]).transpose(1, 2, 0))
with vision.ImageClassifier.create_from_options(options) as classifier:
    (head,) = classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)).classifications
text = lambda value: value.decode() if value else ""
print(json.dumps({
    "model": [text(value) for value in (model.name, model.description, model.version, model.author, model.license)],
    "image": [text(image.name), image.content.contentProperties.colorSpace,
              image.content.contentProperties.defaultSize.width, image.content.contentProperties.defaultSize.height],
    "normalisation": [image.processUnits[0].options.mean.tolist(), image.processUnits[0].options.std.tolist()],
    "output": [text(output.name), text(output.associatedFiles[0].name)],
    "head": head.head_name,
    "answers": {category.category_name: category.score for category in head.categories},
}))
"""


_EMBED = """
import json, sys
import numpy as np
import mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageEmbedderOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
picture = np.ascontiguousarray(np.load(sys.argv[2]).transpose(1, 2, 0))
with vision.ImageEmbedder.create_from_options(options) as embedder:
    (head,) = embedder.embed(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)).embeddings
print(json.dumps({"head": head.head_name, "vector": head.embedding.tolist()}))
"""


def by_mediapipe(script: str, model: Path, folder: Path) -> dict[str, Any]:
    """What a script of MediaPipe prints of a model and the first image. In a process of its own: it brings a TensorFlow Lite
    besides LiteRT's."""
    np.save(folder / "image.npy", IMAGES[0])
    command = [sys.executable, "-c", script, str(model), str(folder / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot open shared object file" in done.stderr:
        pytest.skip(f"mediapipe does not load here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_mediapipe
def test_mediapipe_reads_the_litert_file_and_gives_its_logits(tmp_path: Path) -> None:
    EXPORTS[Format.LITERT](tmp_path / "student.tflite", CONTRACT)
    (tmp_path / "told").mkdir()
    told = shipped(tmp_path / "student.tflite", tmp_path / "told")
    with zipfile.ZipFile(told) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt") == b"ant\nbee\ncat\ndog\n"
    found = by_mediapipe(_READ, told, tmp_path)
    assert found["model"] == ["insects", "It tells an insect from a pet.", "1.2", "Ann Other", "apache-2.0"]
    assert found["image"] == ["image", 1, 16, 16] and found["normalisation"] == [[0.0], [1.0]]
    assert found["output"] == ["logits", "labels.txt"] and found["head"] == "logits"
    artifact = opened(told).artifact
    (logits,) = run_all(format_for(Format.LITERT), artifact, IMAGES[:1], classes=4)
    assert found["answers"] == pytest.approx(dict(zip(CONTRACT.labels, logits.tolist(), strict=True)), abs=1e-5)


@needs_mediapipe
def test_litert_vectors_have_no_labels_and_are_mediapipes(tmp_path: Path) -> None:
    path = tmp_path / "student.tflite"
    EXPORTS[Format.LITERT](path, VECTORS)
    assert not zipfile.is_zipfile(path)
    found = by_mediapipe(_EMBED, path, tmp_path)
    (vector,) = run_all(format_for(Format.LITERT), opened(path).artifact, IMAGES[:1], classes=4)
    assert found["head"] == "embedding" and found["vector"] == pytest.approx(vector.tolist(), abs=1e-5)


@pytest.mark.parametrize("value", ["0", "-1", "1e400", '"warm"', "null"])
def test_a_broken_temperature_is_told(value: str) -> None:
    with pytest.raises(InputError, match=r"the temperature in its metadata is broken: temperature: "):
        carried_probabilities({PROBABILITIES_KEY: f'{{"temperature": {value}}}'}, Path("m.onnx"))
