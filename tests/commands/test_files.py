"""export, inspect, verify, evaluate and run through the command line, on a small model and real files."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.commands.examine import evaluate
from edgedistill.commands.examine import run as run_file
from edgedistill.commands.quantize import quantize
from edgedistill.documents.answers import ExportResult, InspectResult, RunResult, VerifyResult
from edgedistill.documents.build_file import ProfileConfig
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.profiled import ProfileResult
from edgedistill.documents.specs import Contract, Format
from edgedistill.formats.onnx.export import export_onnx
from edgedistill.networks.build import Normalised
from edgedistill.networks.program.program import to_program

MODEL = "timm:test_efficientnet"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    document: dict[str, Any] = json.loads(captured.out)
    return document


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 in three formats, of a network with 10 classes and random weights."""
    out = tmp_path_factory.mktemp("exported")
    arguments = ["export", MODEL, "--random-weights", "--classes", "10", "--resolution", "32", "--out", str(out)]
    assert run([*arguments, "--formats", "onnx,coreml,tensorrt"]) == 0
    return out


def file_of(exported: Path, suffix: str) -> Path:
    return exported / f"test_efficientnet.fp32{suffix}"


def test_export_tells_parity_and_leaves_only_whole_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    document = answer(
        capsys,
        *("export", MODEL, "--random-weights", "--classes", 10, "--resolution", 32, "--data", "digits"),
        *("--formats", "onnx,coreml", "--precision", "fp32,int8", "--out", out),
    )
    result = ExportResult.model_validate(document)
    assert [(f.format, f.precision) for f in result.files] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("coreml", "fp32"),
        ("coreml", "int8"),
    ]
    assert sorted(p.name for p in out.iterdir()) == sorted(f.path for f in result.files)
    assert [f.computed_by for f in result.files] == ["device", "device", "reference", "reference"]
    for file in result.files:
        assert file.parity is not None
        if file.precision == "fp32":
            assert file.parity.max_abs_error < 1e-3
    assert any("weights are random" in note for note in result.notes)


def test_what_fails_is_listed_and_costs_the_others_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(
        capsys,
        *("export", MODEL, "--random-weights", "--classes", 10, "--resolution", 32),
        *("--precision", "fp32,int8", "--out", tmp_path),
        code=2,
    )
    result = ExportResult.model_validate(document)
    assert [f.precision for f in result.files] == ["fp32"]
    (failure,) = result.failures
    assert (failure.precision, failure.fix) == ("int8", "add --data FOLDER")


@pytest.mark.slow
def test_a_terminal_hears_of_stages_and_of_nothing_that_libraries_say(tmp_path: Path) -> None:
    """In a process of its own: native code writes to the terminal past Python, once a process, when it is loaded."""
    extras = {Format.LITERT: "litert_torch", Format.EXECUTORCH: "executorch"}
    forms = [
        form
        for form in Format
        if form is not Format.NULL and (form not in extras or find_spec(extras[form]) is not None)
    ]
    command = [sys.executable, "-m", "edgedistill", "export", MODEL, "--random-weights", "--classes", "10"]
    command += ["--resolution", "32", "--formats", ",".join(forms), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    stages = ["load torch", f"load {MODEL}", f"trace {MODEL}", *(f"export {MODEL} {form} fp32" for form in forms)]
    assert re.fullmatch("".join(rf"{stage}  [\d.]+ s\n" for stage in stages), done.stderr)
    assert done.returncode == 0


@pytest.mark.parametrize("suffix", [".onnx", ".mlpackage", ".engine"])
def test_inspect_shows_signature_contract_and_operations(
    exported: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = InspectResult.model_validate(answer(capsys, "inspect", file_of(exported, suffix)))
    assert result.contract is not None
    assert (result.contract.resolution, len(result.contract.labels)) == (32, 10)
    assert result.precision == "fp32"
    assert result.checks and result.facts


def test_inspect_lists_layers_when_asked(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(file_of(exported, ".engine"))]) == 0
    short = capsys.readouterr().out
    network = timm.create_model(MODEL.partition(":")[2])
    weighted = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    assert f"{weighted} of {weighted} with weights: float32" in short and "the builder had no warnings" in short
    assert run(["inspect", str(file_of(exported, ".engine")), "--layers"]) == 0
    listed = capsys.readouterr().out[len(short) :]
    assert len([line for line in listed.splitlines() if line.split()[2:] == ["float32", "float32"]]) == weighted


def test_verify_compares_two_formats(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "verify", file_of(exported, ".mlpackage"), "--against", file_of(exported, ".onnx"))
    result = VerifyResult.model_validate(document)
    assert result.ok
    assert result.parity is not None and result.parity.max_abs_error < 1e-3
    assert result.computed_by == "reference"


def test_verify_finds_a_flipped_byte_by_the_packages_hash(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(file_of(exported, ".onnx").read_bytes())
    (tmp_path / "model.onnx").write_bytes(content)
    recorded = {"artifacts": {"model.onnx": {"sha256": hashlib.sha256(content).hexdigest()}}}
    (tmp_path / "manifest.json").write_text(json.dumps(recorded))
    assert VerifyResult.model_validate(answer(capsys, "verify", tmp_path / "model.onnx")).ok
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    result = VerifyResult.model_validate(answer(capsys, "verify", tmp_path / "model.onnx", code=2))
    assert any("manifest" in failure for failure in result.failures)


def test_run_gives_classes_and_probabilities(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "photo.png")
    answers = [
        RunResult.model_validate(answer(capsys, "run", file_of(exported, s), "--input", tmp_path / "photo.png"))
        for s in (".onnx", ".mlpackage")
    ]
    assert [g.index for g in answers[0].top] == [g.index for g in answers[1].top]
    assert len(answers[0].top) == 5
    assert all(a.probability >= b.probability for a, b in zip(answers[0].top, answers[0].top[1:], strict=False))


def test_an_engine_does_not_run_without_its_gpu(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    document = answer(capsys, "run", file_of(exported, ".engine"), "--input", tmp_path / "photo.png", code=2)
    assert "NVIDIA GPU" in document["error"]["message"]


def test_verify_says_once_why_an_engine_is_not_run(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    capsys.readouterr()
    assert run(["verify", str(file_of(exported, ".engine"))]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0].endswith(": ok as far as it can be read here")
    assert told.count("needs an NVIDIA GPU") == 1


class Brightness(nn.Module):
    """Tells digits by nothing but their ink: a model whose accuracy is known from its data."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ink = image.mean((1, 2, 3)) / 255
        return torch.stack([torch.zeros_like(ink), *[ink - 1] * 9], dim=1)


def test_evaluate_counts_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = torch.export.export(Brightness().eval(), (torch.rand(1, 3, 8, 8) * 255,))
    torch.export.save(program, tmp_path / "brightness.pt2")
    answer(capsys, "export", tmp_path / "brightness.pt2", "--out", tmp_path)
    document = answer(
        capsys, "evaluate", tmp_path / "brightness.fp32.onnx", "--data", "digits", "--split", "train", "--limit", 500
    )
    assert document["images"] == 500
    share_of_zeros = float((load_digits().target == 0).mean())
    assert document["quality"] == pytest.approx(share_of_zeros, abs=0.05)


class Brighter(nn.Module):
    """Tells what is bright from what is dark."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ink = image.mean((1, 2, 3)) / 255
        return torch.stack([ink, 1 - ink], dim=1)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0)])
def test_transparent_pictures_lie_on_the_background_of_the_files_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: tuple[int, int, int]
) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    contract = Contract(resolution=8, background=background, mean=(0,) * 3, std=(1,) * 3, labels=("bright", "dark"))
    export_onnx(to_program(Brighter().eval(), contract), contract, tmp_path / "model.onnx", build_hash="b")
    seen = "bright" if background == (255, 255, 255) else "dark"
    for label, level in (("bright", 255), ("dark", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(8):
            picture = Image.new("RGBA", (9, 11 + number), (level, level, level, 255))
            if label == seen:  # the colours that it hides are the other class's
                picture = Image.new("RGBA", (9, 11 + number), (255 - level, 255 - level, 255 - level, 0))
            picture.save(tmp_path / "photos" / label / f"{number}.png")
    assert evaluate(tmp_path / "model.onnx", data=str(tmp_path / "photos"), split="train").quality == 1.0
    found = run_file(tmp_path / "model.onnx", tmp_path / "photos" / seen / "0.png")
    assert found.top[0].label == seen


def test_images_without_a_label_judge_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    contract = Contract(resolution=8, mean=(0,) * 3, std=(1,) * 3, labels=("bright", "dark"))
    export_onnx(to_program(Brighter().eval(), contract), contract, tmp_path / "model.onnx", build_hash="b")
    (tmp_path / "photos").mkdir()
    lines = ["file,label,split"]
    for number in range(24):
        label, level = (("bright", 200 + number), ("dark", number), ("", 100 + number))[number % 3]
        Image.new("L", (8, 8), level).save(tmp_path / "photos" / f"{number}.png")
        lines.append(f"{number}.png,{label},train")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(lines))
    found = evaluate(tmp_path / "model.onnx", data=str(tmp_path / "photos"), split="train")
    assert found.quality == 1.0 and found.images == 12, "16 have a label, of which two splits take 2 each"


class Shown(nn.Module):
    """A vector of the pixels that a file is for, by fixed weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.projection = nn.Linear(64, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(image.mean(1).flatten(1) / 255 - 0.5)


def shown(path: Path, seed: int, score: str) -> Path:
    """A file of such a network, whose contract says how it is judged."""
    contract = Contract.model_validate(
        {
            "task": "embedding",
            "output_name": "embedding",
            "vector": {"dimension": 16, "score": score},
            "resolution": 8,
            "mean": (0,) * 3,
            "std": (1,) * 3,
            "labels": (),
        }
    )
    network = Normalised(Shown(seed), contract.mean, contract.std, unit=True).eval()
    export_onnx(to_program(network, contract), contract, path, build_hash="b")
    return path


def test_a_file_of_vectors_is_run_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (shown(tmp_path / f"{seed}.onnx", seed, "retrieval") for seed in (0, 1))
    Image.new("RGB", (8, 8), (10, 200, 30)).save(tmp_path / "green.png")
    found = run_file(one, tmp_path / "green.png")
    assert len(found.vector) == 16 and not found.top
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)
    assert run(["run", str(one), "--input", str(tmp_path / "green.png")]) == 0
    printed = capsys.readouterr().out
    assert "vector of 16: " in printed and f"{found.vector[0]:.4f}, {found.vector[1]:.4f}" in printed
    same = answer(capsys, "verify", one, "--against", one)["parity"]
    assert same["cosine_least"] == pytest.approx(1) and same["top1_agreement"] is None
    assert answer(capsys, "verify", two, "--against", one)["parity"]["cosine_mean"] < 0.9


def test_a_file_that_is_judged_by_neighbours_is_held_against_one_of_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    teacher, student = (shown(tmp_path / f"{seed}.onnx", seed, "neighbours") for seed in (0, 1))
    labelled = shown(tmp_path / "labelled.onnx", 2, "retrieval")
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(60):
        pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    data = str(tmp_path / "photos")
    assert evaluate(teacher, data=data, split="train", against=teacher).quality == 1
    found = evaluate(student, data=data, split="train", against=teacher)
    assert found.metric == "neighbour recall@10" and found.images == 42
    assert 10 / 41 < found.quality < 1, "another projection of the same pixels finds some of the neighbours"
    document = answer(capsys, "evaluate", student, "--data", data, "--split", "train", "--against", teacher)
    assert document["quality"] == found.quality
    with pytest.raises(InputError, match="neighbours that its teacher finds"):
        evaluate(student, data=data)
    assert evaluate(labelled, data="digits", limit=50).metric == "recall@1"
    with pytest.raises(InputError, match="judged by labels"):
        evaluate(labelled, data=data, against=teacher)
    with pytest.raises(InputError, match="quantize knows no teacher"):
        quantize(str(student), data=data, out=tmp_path / "quantized")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of each of ten classes, of which every check counts as a long one."""
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edgedistill.data.threads.SECONDS_UNTOLD", 0.0)
    generator = np.random.default_rng(0)
    for label in range(10):
        folder = tmp_path / "photos" / str(label)
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_how_far_a_long_check_of_the_data_is_stands_on_stderr(
    exported: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["export", MODEL, "--random-weights", "--classes", "10", "--resolution", "32", "--precision", "int8"]
    exporting = [*model, "--data", str(photos), "--out", str(tmp_path / "files")]
    evaluating = ["evaluate", str(file_of(exported, ".onnx")), "--data", str(photos), "--split", "train"]
    for arguments in (exporting, evaluating):
        capsys.readouterr()
        assert run([*arguments, "--json"]) == 0
        out, err = capsys.readouterr()
        assert "scan photos  " in err and isinstance(json.loads(out), dict)
    assert run([*evaluating, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "photos" not in err and isinstance(json.loads(out), dict)


def test_a_check_that_finds_problems_was_told_as_well(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0" / "broken.png").write_bytes(b"no image")
    path = tmp_path / "build.toml"
    data = '[data]\nsource = "folder"\npath = "photos"\n'
    path.write_text(f'budget = "5ms"\n[teacher]\nmodel = "timm:resnet18"\npretrained = true\n{data}')
    quantizing = ["quantize", MODEL, "--data", str(photos), "--out", str(tmp_path / "files")]
    for arguments in (quantizing, ["build", str(path), "--dry-run"]):
        capsys.readouterr()
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and "scan photos  " in err and "broken.png" in err


@pytest.mark.parametrize(
    ("asked", "told"), [({"split": "bogus"}, "unknown split 'bogus'"), ({"limit": 0}, "of 0 images")]
)
def test_evaluate_refuses_images_that_are_none(asked: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        evaluate(tmp_path / "model.onnx", data="digits", **asked)


def test_a_file_is_profiled_beside_another(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network at 128 pixels and at 32: sixteen times the work, and two sessions say how much longer that takes."""
    short = ProfileConfig.model_validate({"session": "600ms", "pause": "1ms"})
    monkeypatch.setattr("edgedistill.commands.profile.ProfileConfig", lambda: short)
    arguments = ["export", MODEL, "--random-weights", "--classes", 10, "--resolution", 128, "--out", tmp_path]
    answer(capsys, *arguments, "--formats", "onnx")
    small, large = file_of(exported, ".onnx"), file_of(tmp_path, ".onnx")
    document = answer(capsys, "profile", large, "--compare", small, "--sessions", 2)
    result = ProfileResult.model_validate(document)
    comparison = result.comparison
    assert comparison is not None and comparison.other == str(small) and isinstance(result.latency, MeasuredLatency)
    assert comparison.interval is not None and comparison.interval[0] < comparison.p50_ratio < comparison.interval[1]
    relative = result.latency.relative
    assert relative is not None and relative.p50 > 1.5
    assert result.latency.p50_ms == pytest.approx(relative.p50 * relative.anchor_ms.p50, rel=0.5)
    assert run(["profile", str(small), "--compare", str(large), "--sessions", "1"]) == 0
    shown, progress = capsys.readouterr()
    assert f"1 session of 0.6 s in turn with {large.name}, up to 2.4 s for a slow file; the first also" in progress
    told = re.search(
        r"was measured once beside .*: p50 is 0\.\d{3} times(, p95 0\.\d{3} times)? the other's",
        " ".join(shown.split()),
    )
    assert told, "p95 where a session has runs enough for it"
    error = answer(capsys, "profile", small, "--compare", file_of(exported, ".engine"), code=2)["error"]
    assert "cannot run in turn with" in error["message"]


@pytest.mark.parametrize(
    ("gate", "code", "said"),
    [
        ("10s@p95", 0, "kept by all 2 sessions"),
        ("0.0001ms", 3, "2 over it, of 2 sessions"),
        ("0%", 2, "no file takes no time"),
        ("5ms@p90", 2, "unknown percentile 'p90'"),
        ("50%", 2, "is a share of no file"),
        ("5", 2, "has no unit"),
    ],
)
def test_a_gate_has_an_exit_code_of_its_own(
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gate: str,
    code: int,
    said: str,
) -> None:
    short = ProfileConfig.model_validate({"session": "500ms", "pause": "1ms"})
    monkeypatch.setattr("edgedistill.commands.profile.ProfileConfig", lambda: short)
    assert run(["profile", str(file_of(exported, ".onnx")), "--sessions", "2", "--gate", gate]) == code
    captured = capsys.readouterr()
    assert said in " ".join((captured.out + captured.err).split())


def test_a_gate_may_be_a_share_of_another_file(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the CI of an app: the new file may take no more time than the old one."""
    short = ProfileConfig.model_validate({"session": "500ms", "pause": "1ms"})
    monkeypatch.setattr("edgedistill.commands.profile.ProfileConfig", lambda: short)
    file = file_of(exported, ".onnx")
    document = answer(capsys, "profile", file, "--compare", file, "--sessions", 2, "--gate", "1%@p50", code=3)
    gate = ProfileResult.model_validate(document).gate
    assert gate is not None and gate.over == 2 and all(0.5 < value < 2 for value in gate.values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "timm:mobilenetv9", "--out", "o"], "no model 'mobilenetv9'"),
        (["export", "resnet18", "--out", "o"], "timm:resnet18"),
        (["export", "resnet99", "--out", "o"], "timm:NAME"),
        (["export", MODEL, "--formats", "onnx,tfjs", "--out", "o"], "unknown name 'tfjs'"),
        (["export", MODEL, "--precision", "int3", "--out", "o"], "unknown name 'int3'"),
        (["export", MODEL, "--mean", "1,2", "--random-weights", "--out", "o"], "three numbers"),
        (["export", "absent.onnx", "--out", "o"], "does not exist"),
        (["export", "absent.pt2", "--out", "o"], "does not exist"),
        (["inspect", "absent.onnx"], "does not exist"),
        (["inspect", "README.md"], "no model file by its name"),
        (["run", "absent.pte", "--input", "x.png"], "does not exist"),
        (["evaluate", "absent.tflite", "--data", "nowhere"], "does not exist"),
    ],
)
def test_wrong_input_is_told_in_words(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = answer(capsys, *arguments, code=2)["error"]
    assert said in " ".join([error["message"], error["fix"], *map(str, error["problems"])])
    assert error["fix"] or error["problems"]


def test_an_onnx_file_goes_to_onnx_and_tensorrt_alone(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = file_of(exported, ".onnx")
    error = answer(capsys, "export", source, "--formats", "onnx,litert", "--out", tmp_path, code=2)["error"]
    assert "litert" in str(error["problems"])
    made = ExportResult.model_validate(answer(capsys, "export", source, "--precision", "fp32,fp16", "--out", tmp_path))
    assert [f.parity is not None for f in made.files] == [True, True]
    assert onnx.load(tmp_path / made.files[1].path).graph.input[0].name == "image"
