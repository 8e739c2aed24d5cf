"""One file measured by several ways to one machine, in turn: here, over SSH, over ADB, by the agent and by the runner.

    python benchmarks/device_ways.py FILE.onnx|FILE.tflite [--rounds 20] [--seconds 1] --json FILE

Needs sshd, adb, adbd, cmake and ONNX Runtime's headers. In each round every way takes a session of the file, in an order
that is drawn anew, all pinned to the same CPU. Beside them stand plain loops around the runtime in processes of their own.
Around ONNX Runtime one calls `session.run` as the agent does, and one binds inputs and outputs once, so that no array is
made in a run. Around LiteRT one sets, invokes and gets as the agent does, and one invokes alone; there is also the vendor's
`litert-benchmark` over SSH, which is not pinned.

A way's ratio is that of its p50 to the local agent's in the same round: the geometric mean over rounds, with its 95%
interval (Student's t of the logs).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import built_runner
from adb_phone import phone_in
from ssh_board import Board

from edgedistill.devices.attach import program_device, remote_device
from edgedistill.devices.base import Device, run_pushed
from edgedistill.devices.local import LocalDevice, pick_cpus
from edgedistill.devices.session import SessionJob
from edgedistill.devices.stats import mean_with_interval, percentile_ms
from edgedistill.documents.devices import DeviceConfig, KnownDevice
from edgedistill.documents.specs import Format
from edgedistill.formats import format_for

BEGIN = """
import json, os, sys, time
import numpy as np
path, seconds, cpu, bound = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "bound"
os.sched_setaffinity(0, [cpu])
"""
OF_ONNX = """
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
feed = {i.name: np.zeros([s if isinstance(s, int) else 1 for s in i.shape], kinds[i.type]) for i in session.get_inputs()}
binding = session.io_binding()
for name, value in feed.items():
    binding.bind_cpu_input(name, value)
for output in session.get_outputs():
    binding.bind_output(output.name)
def run():
    session.run_with_iobinding(binding) if bound else session.run(None, feed)
"""
OF_LITERT = """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=path, num_threads=1)
interpreter.allocate_tensors()
feed = [(each["index"], np.zeros(each["shape"], each["dtype"])) for each in interpreter.get_input_details()]
outputs = [each["index"] for each in interpreter.get_output_details()]
for index, value in feed:
    interpreter.set_tensor(index, value)
def run():
    if bound:
        interpreter.invoke()
        return
    for index, value in feed:
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    return [interpreter.get_tensor(index) for index in outputs]
"""
LOOP = """
end, samples = time.perf_counter() + 0.25 + seconds, []
warm = end - seconds
while time.perf_counter() < end:
    began = time.perf_counter_ns()
    run()
    took = time.perf_counter_ns() - began
    if time.perf_counter() > warm:
        samples.append(took)
print(json.dumps(samples))
"""
# As the plain loops are called that spare the arrays.
SPARED = {Format.ONNX: "plain loop, bound", Format.LITERT: "plain loop, invoke alone"}


def ways(held: ExitStack, folder: Path, form: Format) -> dict[str, Device]:
    """The local agent first. The runner opens files of `form`."""
    board = Board(_made(folder / "board"))
    held.callback(board.kill)
    phone = held.enter_context(phone_in(_made(folder / "phone")))
    runner = {"runner": built_runner.runner()}
    runner |= {"library": built_runner.library()} if form is Format.ONNX else {"litert": built_runner.litert()}
    over_ssh = {
        "address": board.address,
        "key": board.key,
        "known_hosts": board.known_hosts,
        "python": board.python,
        "folder": str(board.work),
    }
    over_adb = {"address": phone.address, "python": phone.python, "folder": str(phone.work)}
    told = {"SSH": over_ssh, "ADB": over_adb, "SSH, runner": over_ssh | runner, "ADB, runner": over_adb | runner}
    found: dict[str, Device] = {"here": LocalDevice()}
    for name, fields in told.items():
        device = remote_device(KnownDevice(name=name, config=DeviceConfig.model_validate(fields)), print)
        held.callback(device.close)
        device.connect()
        found[name] = device
    return found


def program(held: ExitStack, folder: Path) -> Callable[[Path], float]:
    """p50 in ms of a run of `litert-benchmark` over SSH."""
    board = Board(_made(folder / "vendor"))
    held.callback(board.kill)
    told = {"address": board.address, "key": board.key, "known_hosts": board.known_hosts, "folder": str(board.work)}
    told |= {"program": str(Path(sys.executable).with_name("litert-benchmark"))}
    device = program_device(KnownDevice(name="vendor", config=DeviceConfig.model_validate(told)), print)
    held.callback(device.close)

    def run(path: Path) -> float:
        found = device.run(path).p50_ms
        assert found is not None
        return found

    return run


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def session(device: Device, job: SessionJob) -> float:
    """p50 in ms of a session there."""
    return percentile_ms(run_pushed(device, job).session.samples_ns, 0.5)


def plain(path: Path, seconds: float, cpu: int, how: str) -> float:
    """p50 in ms of a loop without edgedistill; `how` is `run` or `bound`."""
    program = BEGIN + (OF_LITERT if path.suffix == ".tflite" else OF_ONNX) + LOOP
    command = [sys.executable, "-c", program, str(path), str(seconds), str(cpu), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return percentile_ms(json.loads(done.stdout), 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    (cpu,) = pick_cpus(1)
    form = Format.LITERT if arguments.path.suffix == ".tflite" else Format.ONNX
    job = SessionJob(
        model=arguments.path.absolute(),
        loader=format_for(form).on_device,
        threads=1,
        seconds=arguments.seconds,
        pinned_cpus=(cpu,),
    )
    draw = random.Random(0)
    p50_ms: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        devices = ways(held, Path(name), form)
        sessions: dict[str, Callable[[], float]] = {
            way: partial(session, device, job) for way, device in devices.items()
        }
        sessions["plain loop"] = partial(plain, job.model, arguments.seconds, cpu, "run")
        sessions[SPARED[form]] = partial(plain, job.model, arguments.seconds, cpu, "bound")
        if form is Format.LITERT:
            sessions["SSH, litert-benchmark"] = partial(program(held, Path(name)), job.model)
        for number in range(arguments.rounds):
            for way in draw.sample(list(sessions), len(sessions)):
                p50_ms.setdefault(way, []).append(sessions[way]())
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    rows: list[dict[str, Any]] = []
    for way in sessions:
        ratios = [one / here for one, here in zip(p50_ms[way], p50_ms["here"], strict=True)]
        ratio, interval = mean_with_interval(ratios)
        rows.append(
            {
                "way": way,
                "p50_ms": statistics.median(p50_ms[way]),
                "ratio": ratio,
                "interval": interval,
                "ratios": ratios,
            }
        )
        print(way, *(rows[-1][key] for key in ("p50_ms", "ratio", "interval")))
    if arguments.json:
        # One file more, beside those that were measured before.
        before = json.loads(arguments.json.read_text())["files"] if arguments.json.is_file() else []
        told = {"file": arguments.path.name, "rounds": arguments.rounds, "seconds": arguments.seconds, "rows": rows}
        others = [one for one in before if one["file"] != told["file"]]
        arguments.json.write_text(json.dumps({"files": [*others, told]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
