"""The C++ runner: its parts, its sessions beside the Python agent's, and arm64 under an emulator."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import built_runner
import numpy as np
import pytest
from pipe_transport import PipeTransport
from small_models import save_classifier

from edgedistill.base.errors import InputError, MissingDependencyError, UnreachableError
from edgedistill.data.preprocessing import resize
from edgedistill.devices import servers
from edgedistill.devices.base import SessionFailure, run_pushed
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.remote import RemoteDevice
from edgedistill.devices.servers import RunnerServer
from edgedistill.devices.session import SessionJob
from edgedistill.documents.package import preparation
from edgedistill.documents.specs import Contract, Format
from edgedistill.formats import format_for


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "model.onnx")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "work").mkdir()
    server = RunnerServer(built_runner.runner(), built_runner.library())
    with closing(RemoteDevice(PipeTransport(), server, folder=str(tmp_path / "work"))) as found:
        yield found
    assert list((tmp_path / "work").iterdir()) == [], "nothing is left behind, the program itself neither"


def job(model: Path, **changes: Any) -> SessionJob:
    loader = format_for(Format.ONNX).on_device
    return SessionJob.model_validate({"model": model, "loader": loader, "threads": 1, "seconds": 0.2} | changes)


def inputs(folder: Path, count: int = 4) -> Path:
    path = folder / "inputs.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16), dtype=np.uint8))
    return path


def test_a_session_is_as_the_agents(device: RemoteDevice, model: Path, tmp_path: Path) -> None:
    asked = job(model, inputs=inputs(tmp_path), input_name="image", operators=True, anchor=model, min_runs=60)
    device.connect()
    there = run_pushed(device, asked)
    here = run_pushed(LocalDevice(lock_file=tmp_path / "lock"), asked)
    assert (there.environment.agent, here.environment.agent) == ("runner", "python")
    assert there.environment.model_copy(update={"agent": "python"}) == here.environment
    untimed = [[t.model_copy(update={"median_us": 0}) for t in found.op_timings] for found in (there, here)]
    assert untimed[0] == untimed[1] and all(t.bytes and t.inputs and t.outputs and t.unit for t in untimed[0])
    session = there.session
    assert len(session.samples_ns) >= 60 and min(session.samples_ns) > 1000
    assert [sum(turn[place] for turn in session.turns) for place in (0, 1)] == [
        len(session.samples_ns),
        len(session.anchor_ns),
    ]
    assert 0 < session.model_memory_bytes < session.peak_memory_bytes < 2**30
    assert session.load_ms > 0 and session.warmup_runs >= 3 and session.first_run_ms is not None
    assert session.start is not None and session.end is not None and session.start.reference_us


def test_facts_name_the_librarys_version(device: RemoteDevice) -> None:
    import onnxruntime

    assert device.facts("onnxruntime")["onnxruntime"] == onnxruntime.__version__


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"model": "broken"}, "load", "cannot load"),
        ({"inputs": "wrong", "input_name": "image"}, "", "Invalid rank for input"),
        ({"pinned_cpus": (1023,)}, "", "cannot pin to CPUs"),
        ({"input_name": "nothing", "inputs": "right"}, "", "the model has no input nothing; it has image"),
        ({"inputs": "broken", "input_name": "image"}, "", "cannot be read as an array"),
    ],
    ids=["model", "shape", "cpus", "name", "file"],
)
def test_what_is_at_fault_is_told(
    device: RemoteDevice, model: Path, tmp_path: Path, change: dict[str, Any], kind: str, said: str
) -> None:
    broken, wrong = tmp_path / "broken.onnx", tmp_path / "wrong.npy"
    broken.write_bytes(b"no model")
    np.save(wrong, np.zeros((2, 3, 8, 8, 2), np.uint8))
    paths = {"broken": broken, "wrong": wrong, "right": inputs(tmp_path)}
    changed = {name: paths.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    with pytest.raises((SessionFailure, InputError), match=said) as caught:
        run_pushed(device, job(changed.pop("model", model), **changed))
    assert caught.value.fix
    assert getattr(caught.value, "kind", "") in (kind, "run")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.pte", "the runner measures ONNX and LiteRT files, and .* is neither"),
        ("model.tflite", "the device has no library of LiteRT"),
    ],
)
def test_a_file_of_another_format(device: RemoteDevice, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"any")
    with pytest.raises(MissingDependencyError, match=said) as caught:
        run_pushed(device, job(tmp_path / name))
    assert "in your devices.toml" in caught.value.fix


def test_without_a_folder_it_takes_the_devices_temporary_one(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RunnerServer(built_runner.runner(), built_runner.library())
    for folder in (tmp_path, tmp_path / "absent"):
        monkeypatch.setenv("TMPDIR", str(folder))
        with closing(RemoteDevice(PipeTransport(), server)) as found:
            found.connect()
            assert bool(list(tmp_path.glob("edgedistill-device-*"))) == folder.exists()
    assert list(tmp_path.glob("edgedistill-*")) == []


def test_a_library_that_is_none(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "other.so").write_bytes(b"no library")
    device = RemoteDevice(PipeTransport(), RunnerServer(built_runner.runner(), tmp_path / "other.so"))
    with closing(device), pytest.raises(MissingDependencyError, match="ONNX Runtime cannot be loaded") as caught:
        run_pushed(device, job(model))
    assert "`library` in your devices.toml" in caught.value.fix


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    other = tmp_path / "runner"
    other.write_bytes(b"\x7fELF" + os.urandom(5000))
    server = RunnerServer(other, built_runner.library())
    device = RemoteDevice(PipeTransport(), server, folder=str(tmp_path))
    with closing(device), pytest.raises(UnreachableError, match="nothing of ours runs there") as caught:
        device.connect()
    assert "`edgedistill devices runner` says how" in caught.value.fix
    assert list(tmp_path.iterdir()) == [other], "it leaves nothing there"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`runner` of your devices\.toml is no file"):
        RunnerServer(tmp_path / "absent", built_runner.library())


def outputs(program: list[str], library: Path, model: Path, values: Path) -> dict[str, list[float]]:
    done = subprocess.run(
        [*program, "outputs", str(library), str(model), str(values)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def test_it_computes_what_onnxruntime_computes(model: Path, tmp_path: Path) -> None:
    import onnxruntime

    values = inputs(tmp_path)
    (wanted,) = onnxruntime.InferenceSession(model).run(None, {"image": np.load(values)[:1]})
    found = outputs([str(built_runner.runner())], built_runner.library(), model, values)
    np.testing.assert_array_equal(np.float32(found["logits"]), wanted[0])


# -- from a picture to a label ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", ["stretch", "center"])
@pytest.mark.parametrize("resize_filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(480, 640, 4), (37, 91, 3), (16, 16, 4), (5, 300, 4), (1, 1, 3)])
def test_a_picture_is_prepared_to_the_byte_as_in_training(
    tmp_path: Path, shape: tuple[int, int, int], resize_filter: str, crop: str
) -> None:
    contract = Contract.model_validate(
        {
            "resolution": 16,
            "resize_filter": resize_filter,
            "crop": crop,
            "background": (255, 250, 7),
            "mean": (0, 0, 0),
            "std": (1, 1, 1),
            "labels": ("a", "b"),
        }
    )
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rgb = picture[..., :3].astype(np.int64)
    if shape[2] == 4:
        alpha = picture[..., 3:].astype(np.int64)
        rgb = (2 * (alpha * rgb + (255 - alpha) * np.array(contract.background)) + 255) // 510
    wanted = resize(rgb.astype(np.uint8), contract).transpose(1, 2, 0)
    np.save(tmp_path / "picture.npy", picture[None])
    steps = [step.model_dump(mode="json") for step in preparation(contract)]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    command = [built_runner.runner(), "prepare", tmp_path / "steps.json", tmp_path / "picture.npy"]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.frombuffer(found, np.uint8).reshape(16, 16, 3), wanted)


def way(layout: str, side: int) -> dict[str, Any]:
    steps = [
        {"step": "orient"},
        {"step": "composite", "background": (255, 255, 255)},
        {"step": "resize", "width": side, "height": side, "filter": "bilinear", "antialias": True},
    ]
    return {"steps": steps, "layout": layout}


def test_the_way_to_a_label_takes_longer_than_the_model(device: RemoteDevice, model: Path) -> None:
    session = run_pushed(device, job(model, picture=way("NCHW", 16))).session
    assert session.picture_to_label_ms is not None
    assert session.picture_to_label_ms > np.median(session.samples_ns) / 1e6
    assert run_pushed(device, job(model)).session.picture_to_label_ms is None


def test_a_model_that_takes_no_such_picture_is_told(device: RemoteDevice, model: Path) -> None:
    with pytest.raises(InputError, match="does not take a prepared picture: 972 bytes of uint8, but 768 of uint8"):
        run_pushed(device, job(model, picture=way("NCHW", 18)))


def test_an_agent_in_python_does_not_go_that_way(model: Path, tmp_path: Path) -> None:
    report = run_pushed(LocalDevice(lock_file=tmp_path / "lock"), job(model, picture=way("NCHW", 16)))
    assert report.session.picture_to_label_ms is None


# -- LiteRT -------------------------------------------------------------------------------------------------------------


SAMPLE = format_for(Format.LITERT).sample
"""One input, `image`: uint8 [1, 32, 32, 3]."""


@pytest.fixture
def litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = RunnerServer(built_runner.runner(), litert=built_runner.litert())
    with closing(RemoteDevice(PipeTransport(), server, folder=str(tmp_path))) as found:
        yield found


def test_a_session_of_litert_is_as_the_agents(litert: RemoteDevice, tmp_path: Path) -> None:
    """The interpreter's own names and shapes; what differs is how the runtime's version is known."""
    values = tmp_path / "values.npy"
    np.save(values, np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    loader = format_for(Format.LITERT).on_device
    assert SAMPLE is not None
    asked = job(SAMPLE, loader=loader, inputs=values, input_name="image", anchor=SAMPLE, min_runs=60)
    there, here = run_pushed(litert, asked), run_pushed(LocalDevice(lock_file=tmp_path / "lock"), asked)
    differing = {"agent": "python", "runtime_version": here.environment.runtime_version}
    assert there.environment.model_copy(update=differing) == here.environment
    version = hashlib.sha256(built_runner.litert().read_bytes()).hexdigest()[:12]
    assert there.environment.runtime_version == f"library {version}" == litert.facts("ai-edge-litert")["ai-edge-litert"]
    assert len(there.session.samples_ns) >= 60 and len(there.session.anchor_ns) >= 60
    pictured = run_pushed(litert, job(SAMPLE, loader=loader, picture=way("NHWC", 32)))
    assert pictured.session.picture_to_label_ms is not None
    assert there.session.load_ms > 0 and there.session.first_run_ms is not None
    assert there.op_timings == ()


def test_it_computes_what_litert_computes(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

    assert SAMPLE is not None
    picture = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "values.npy", picture)
    interpreter = Interpreter(str(SAMPLE), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    found = outputs([str(built_runner.runner())], built_runner.litert(), SAMPLE, tmp_path / "values.npy")
    np.testing.assert_array_equal(np.float32(found[output["name"]]), interpreter.get_tensor(output["index"])[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "broken"}, "cannot load"),
        ({"inputs": "wrong", "input_name": "image"}, "does not take the values of image: it has uint8 of 3072 bytes"),
        ({"input_name": "nothing", "inputs": "wrong"}, "the model has no input nothing; it has image"),
        ({"input_shapes": {"image": (1, 16, 16, 3)}}, "does not take the shape of image|fails to run|has no memory"),
    ],
    ids=["model", "values", "name", "shape"],
)
def test_what_is_at_fault_in_litert_is_told(
    litert: RemoteDevice, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    broken, wrong = tmp_path / "broken.tflite", tmp_path / "wrong.npy"
    broken.write_bytes(b"no model")
    np.save(wrong, np.zeros((2, 8, 8, 3), np.float32))
    paths = {"broken": broken, "wrong": wrong}
    changed = {name: paths.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    loader = format_for(Format.LITERT).on_device
    with pytest.raises((SessionFailure, InputError), match=said):
        run_pushed(litert, job(changed.pop("model", SAMPLE), loader=loader, **changed))


def test_a_library_that_is_not_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    device = RemoteDevice(PipeTransport(), RunnerServer(built_runner.runner(), litert=built_runner.library()))
    assert SAMPLE is not None
    with closing(device), pytest.raises(MissingDependencyError, match="the library has no LiteRt") as caught:
        run_pushed(device, job(SAMPLE, loader=format_for(Format.LITERT).on_device))
    assert "`litert` in your devices.toml" in caught.value.fix


@pytest.mark.slow
def test_arm64_under_an_emulator(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same logits, and a whole session by the whole protocol."""
    emulator, library = shutil.which("qemu-aarch64"), built_runner.ARM64["library"]
    if emulator is None or not library.exists():
        pytest.skip("needs qemu-user and libonnxruntime1.21:arm64")
    program = built_runner.runner(str(built_runner.ARM64["compiler"]))
    values = inputs(tmp_path)
    there = outputs([emulator, str(program)], library, model, values)
    here = outputs([str(built_runner.runner())], built_runner.library(), model, values)
    np.testing.assert_allclose(there["logits"], here["logits"], rtol=1e-4, atol=1e-4)
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        pytest.skip("the kernel does not start arm64 programs: children of the server are none of the emulator's")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with closing(RemoteDevice(PipeTransport(), RunnerServer(program, library), folder=str(tmp_path))) as device:
        assert device.facts("onnxruntime")["machine"] == "aarch64"
        assert len(run_pushed(device, job(model)).session.samples_ns) > 1


# -- its parts ----------------------------------------------------------------------------------------------------------


def served(requests: list[bytes], folder: Path) -> list[dict[str, Any]]:
    """What a server answers to requests, one after the other."""
    done = subprocess.run(
        [built_runner.runner(), "serve", folder], input=b"".join(requests), capture_output=True, timeout=60, check=False
    )
    return [found for line in done.stdout.splitlines() if "alive" not in (found := json.loads(line))][1:]


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 1 << 20])
def test_hashes_are_those_of_sha256(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    right, wrong = hashlib.sha256(data).hexdigest(), hashlib.sha256(data + b"x").hexdigest()
    head = [json.dumps({"put": "a", "bytes": size, "sha256": h}).encode() + b"\n" + data for h in (right, wrong)]
    first, second = served(head, tmp_path)
    assert first == {"done": "put"}
    assert second["error"]["kind"] == "hash" and right in second["error"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "ünï ☃ 😀",
        'quote " back \\ slash / tab \t line \n null \x00 bell \x07',
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_survive(tmp_path: Path, text: str, ascii_only: bool) -> None:
    """A name that is none comes back in the error."""
    request = json.dumps({"put": text + "!", "bytes": 0, "sha256": ""}, ensure_ascii=ascii_only).encode() + b"\n"
    (answer,) = served([request], tmp_path)
    assert json.loads(answer["error"]["message"].removesuffix(" is no name of a file")) == text + "!"


@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"a"', b'{"a":}', b"[1,]", b"nul", b"1e999", b'"\\u12"', b"{}x", b"[" * 10_000, b"\xff\xfe"]
)
def test_what_is_no_json_is_refused_and_the_next_request_served(tmp_path: Path, line: bytes) -> None:
    first, second = served([line + b"\n", b'{"drop": "a"}\n'], tmp_path)
    assert first["error"]["kind"] == "request"
    assert second == {"done": "drop"}


def test_a_program_that_never_came_whole_is_removed_later(tmp_path: Path) -> None:
    old, new = tmp_path / "edgedistill-runner-1", tmp_path / "edgedistill-runner-2"
    for path in (old, new):
        path.write_bytes(b"\x7fELF")
    os.utime(old, (0, 0))
    served([], tmp_path)
    assert sorted(tmp_path.iterdir()) == [new], "another connection may be bringing it"


def test_the_sources_ship_with_the_package() -> None:
    assert {"CMakeLists.txt", "CMakePresets.json", "src"} <= {path.name for path in servers.RUNNER_SOURCES.iterdir()}
