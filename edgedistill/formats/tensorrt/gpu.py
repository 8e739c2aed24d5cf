"""An engine on this machine's GPU: PyTorch holds the memory and the stream, TensorRT runs on both."""

from __future__ import annotations

import itertools
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import TrialFailure
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError, SessionJob, SessionReport, Timed
from edgedistill.devices.sessions import take_session
from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Environment, OpTiming, Profile, Session
from edgedistill.formats.tensorrt.vendor import Vendor, vendor_log

_PROFILED_RUNS = 50


class Engine:
    """A loaded engine with its buffers: one image uint8 [1, 3, R, R] in, logits float32 [1, classes] out."""

    def __init__(self, path: Path, made_by: Vendor) -> None:
        """Loads. Raises NotRunnableError where TensorRT refuses the file, with what it logged."""
        trt, log = made_by.module, vendor_log(made_by.name)
        log.lines.clear()
        self._trt = trt
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            reasons = "; ".join(text for _, text in log.lines) or "no reason given"
            raise NotRunnableError(f"{made_by.name} {made_by.version} cannot load {path.name}: {reasons}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        source = next(name for name in names if modes[name] == trt.TensorIOMode.INPUT)
        result = next(name for name in names if modes[name] == trt.TensorIOMode.OUTPUT)
        self.shape = tuple(self._engine.get_tensor_shape(source))
        self._device_in = torch.empty(self.shape, dtype=torch.uint8, device="cuda")
        self._device_out = torch.empty(tuple(self._engine.get_tensor_shape(result)), device="cuda")
        self._host_in = torch.empty(self.shape, dtype=torch.uint8).pin_memory()
        self._host_out = torch.empty(self._device_out.shape).pin_memory()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._context.set_tensor_address(source, self._device_in.data_ptr())
        self._context.set_tensor_address(result, self._device_out.data_ptr())

    def infer(self, image: Images) -> Logits:
        """Host memory to host memory, as an app sees it. The array returned is reused by the next call."""
        self._host_in.numpy()[...] = image
        with torch.cuda.stream(self._stream):
            self._device_in.copy_(self._host_in, non_blocking=True)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise TrialFailure("TensorRT failed to run the engine")
            self._host_out.copy_(self._device_out, non_blocking=True)
        self._stream.synchronize()
        return self._host_out.numpy()

    def run(self, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch, one image at a time: the engine's batch is 1."""
        for batch in batches:
            yield np.stack([self.infer(image[None])[0].copy() for image in batch])

    def layer_times(self, images: Images) -> tuple[OpTiming, ...]:
        """Median time of each layer of the executed engine, from runs with TensorRT's profiler on."""
        samples: dict[str, list[float]] = defaultdict(list)

        class Profiler(self._trt.IProfiler):  # type: ignore[misc, name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                samples[layer_name].append(ms)

        self._context.profiler = Profiler()
        for index in range(_PROFILED_RUNS):
            self.infer(images[index % len(images)][None])
        return tuple(
            OpTiming(name=name, op_type="layer", median_us=statistics.median(times) * 1000)
            for name, times in samples.items()
        )

    def facts(self) -> dict[str, str]:
        """Layers of the built engine and the device memory that it works in."""
        return {
            "engine_layers": str(self._engine.num_layers),
            "workspace_bytes": str(self._engine.device_memory_size_v2),
        }


def profile_engine(
    artifact: CompiledArtifact, made_by: Vendor, inputs: Images | None, protocol: MeasurementProtocol
) -> Profile:
    """Latency at batch 1 from host memory to host memory, in this process: the GPU does the work, and the driver's start-up
    that a fresh process would add is no part of it. Seeded random images where `inputs` is None."""
    measuring = replace(protocol, execute=lambda job: _session(artifact, made_by, inputs, job, protocol))
    return take_session(artifact, protocol.job(artifact), measuring)


def _session(
    artifact: CompiledArtifact, made_by: Vendor, inputs: Images | None, job: SessionJob, protocol: MeasurementProtocol
) -> SessionReport:
    free_before = torch.cuda.mem_get_info()[0]
    began = time.perf_counter_ns()
    engine = Engine(artifact.path, made_by)
    load_ms = (time.perf_counter_ns() - began) / 1e6
    loaded_bytes = max(0, free_before - torch.cuda.mem_get_info()[0])
    images = _random_images(engine) if inputs is None else inputs
    engine.infer(images[:1])
    peak_bytes = max(loaded_bytes, free_before - torch.cuda.mem_get_info()[0])
    models = [_timed(engine, images)]
    if job.anchor is not None:
        anchor = Engine(job.anchor, made_by)
        models.append(_timed(anchor, _random_images(anchor)))
    return SessionReport(
        session=Session(
            **protocol.sample(models, job),
            load_ms=load_ms,
            peak_memory_bytes=peak_bytes,
            model_memory_bytes=loaded_bytes,
        ),
        environment=_environment(made_by, job.threads),
        op_timings=engine.layer_times(images) if job.operators else (),
    )


def _random_images(engine: Engine) -> Images:
    return np.random.default_rng(0).integers(0, 256, (8, *engine.shape[1:]), dtype=np.uint8)


def _timed(engine: Engine, images: Images) -> Timed:
    turn = itertools.cycle(range(len(images)))

    def once() -> int:
        place = next(turn)
        began = time.perf_counter_ns()
        engine.infer(images[place : place + 1])
        return time.perf_counter_ns() - began

    return once


def _environment(made_by: Vendor, threads: int) -> Environment:
    properties: Any = torch.cuda.get_device_properties(0)
    return Environment(
        device=str(properties.name),
        os=platform.platform(),
        machine=platform.machine(),
        cpu=platform.processor() or platform.machine(),
        runtime=made_by.name,
        runtime_version=made_by.version,
        provider=f"CUDA {torch.version.cuda}, compute capability {properties.major}.{properties.minor}",
        threads=threads,
        pinned_cpus=(),
        power="unknown",
    )
