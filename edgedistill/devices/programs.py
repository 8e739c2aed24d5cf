"""What vendors' measuring programs print, read as figures. The forms are those of public recordings, named at each reader.

They run a file alone, in one process, and not in turn with another: so they serve predictions, and prove nothing.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from edgedistill.base.errors import InputError
from edgedistill.devices.stats import percentile_ms
from edgedistill.documents.imported import Figures, Program

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


class NoLatencyError(InputError):
    """A program's whole output holds no latency: it broke off, or the file takes less time than it prints."""


def read_figures(text: str, name: str) -> Figures:
    """The figures in what a program printed; `name` is what people know the text by. Raises InputError where it is of no
    program that is known here, NoLatencyError where it holds no latency."""
    for reader in (_litert_table, _benchmark_model, _trtexec, _perf_test, _perf_test_result):
        if (found := reader(text)) is not None:
            if found.typical_ms is None:
                raise NoLatencyError(f"{name} is of {found.program}, and tells no latency", fix="give its whole output")
            return found
    raise InputError(
        f"{name} is no output that is known here",
        fix=f"give the whole output of {', '.join(program for program in Program if program is not Program.KIT)}, or the "
        "JSON that an app's kit shows",
    )


def _benchmark_model(text: str) -> Figures | None:
    """TensorFlow Lite's, and LiteRT's for its interpreter. Recorded in
    https://github.com/tensorflow/tensorflow/issues/42507; with percentiles, which releases of 2025 have, in
    https://github.com/TexasInstruments/processor-sdk-doc
    (source/linux/Foundational_Components/Machine_Learning/tflite.rst); earlier releases in
    https://github.com/yuenshome/yuenshome.github.io/issues/77."""
    found = re.search(
        rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, "
        rf"Inference \(avg\): {_NUMBER}",
        text,
    )
    earlier = re.search(
        rf"Average inference timings in us: Warmup: {_NUMBER}, Init: {_NUMBER}, no stats: {_NUMBER}", text
    )
    if not (found or earlier or "Running benchmark for at least" in text):
        return None
    # Of two such lines the first is of the warm-up.
    counted = re.findall(r"^.*?count=(\d+) first=(.*)$", text, re.MULTILINE)
    runs, rest = counted[-1] if counted else ("", "")
    percentiles = dict(re.findall(rf"(median|p95)={_NUMBER}", rest))
    graph = re.search(r"^.*?Graph: \[(.*)\]", text, re.MULTILINE)
    init, first, mean = (None, None, None)
    if found:
        init, first, mean = found[1], found[2], found[4]
    elif earlier:
        init, mean = earlier[2], earlier[3]
    return Figures(
        program=Program.BENCHMARK_MODEL,
        file=PurePosixPath(graph[1]).name if graph else "",
        p50_ms=_ms(percentiles.get("median"), 1e-3),
        p95_ms=_ms(percentiles.get("p95"), 1e-3),
        mean_ms=_ms(mean, 1e-3),
        load_ms=_ms(init, 1e-3),
        first_run_ms=_ms(first, 1e-3),
        runs=int(runs) if runs else None,
    )


def _litert_table(text: str) -> Figures | None:
    """LiteRT's for its compiled models: in C++ (`benchmark_model`), recorded in
    https://github.com/mlcommons/mobile_app_open/issues/1134, and in Python (`litert-benchmark`), as that of ai-edge-litert
    2.3.0 prints. Only the second tells percentiles."""
    if "BENCHMARK RESULTS" not in text:
        return None
    rows = dict(re.findall(rf"^(?:INFO: \[.*?\] )?([A-Z][a-z ]+(?:\(\w+\))?): +{_NUMBER} ms", text, re.MULTILINE))
    runs = re.search(r"Inference \(avg\): .*\((\d+) runs\)", text)
    model = re.search(r"benchmark_litert_model: Model: +(.+)$|Graph: \[(.*)\]", text, re.MULTILINE)
    return Figures(
        program=Program.BENCHMARK_MODEL if "[benchmark_litert_model.h:" in text else Program.LITERT_BENCHMARK,
        file=PurePosixPath((model[1] or model[2]).strip()).name if model else "",
        p50_ms=_ms(rows.get("Inference (median)")),
        p95_ms=_ms(rows.get("Inference (p95)")),
        mean_ms=_ms(rows.get("Inference (avg)")),
        load_ms=_ms(rows.get("Model initialization")),
        first_run_ms=_ms(rows.get("Warmup (first)")),
        runs=int(runs[1]) if runs else None,
    )


def _trtexec(text: str) -> Figures | None:
    """TensorRT's, from host memory to host memory. Recorded in https://github.com/NVIDIA/TensorRT/issues/4177."""
    line = re.search(r"\[I\] Latency: (min = .*)$", text, re.MULTILINE)
    if line is None:
        return None
    values = dict(re.findall(rf"(mean|median|percentile\(9[59]%\)) = {_NUMBER} ms", line[1]))
    engine = re.search(r"--(?:loadEngine|onnx)=(\S+)", text)
    return Figures(
        program=Program.TRTEXEC,
        file=PurePosixPath(engine[1].replace("\\", "/")).name if engine else "",
        p50_ms=_ms(values.get("median")),
        p95_ms=_ms(values.get("percentile(95%)")),
        p99_ms=_ms(values.get("percentile(99%)")),
        mean_ms=_ms(values.get("mean")),
    )


def _perf_test(text: str) -> Figures | None:
    """ONNX Runtime's, as it prints. Recorded in https://github.com/microsoft/onnxruntime/issues/17313 and
    https://github.com/ARM-software/ComputeLibrary/issues/850."""
    mean = re.search(rf"^Average (?:inference )?time cost: ?{_NUMBER} ms", text, re.MULTILINE)
    if mean is None:
        return None

    def seconds(title: str) -> str | None:
        found = re.search(rf"^{title} ?(?:is|:) ?{_NUMBER}", text, re.MULTILINE)
        return found[1] if found else None

    runs = re.search(r"^Total (?:inference requests|iterations): ?(\d+)", text, re.MULTILINE)
    return Figures(
        program=Program.PERF_TEST,
        p50_ms=_ms(seconds("P50 Latency"), 1e3),
        p95_ms=_ms(seconds("P95 Latency"), 1e3),
        p99_ms=_ms(seconds("P99 Latency"), 1e3),
        mean_ms=_ms(mean[1]),
        load_ms=_ms(seconds("Session creation time cost"), 1e3),
        runs=int(runs[1]) if runs else None,
    )


def _perf_test_result(text: str) -> Figures | None:
    """The file of results of ONNX Runtime's, a line a run: `MODEL,SECONDS,...`, as
    https://github.com/microsoft/onnxruntime/pull/26313 shows it being written."""
    rows = [line.split(",") for line in text.splitlines() if line.strip()]
    try:
        samples_ns = [round(float(row[1]) * 1e9) for row in rows if len(row) > 2]
    except (ValueError, OverflowError):
        return None
    if not rows or len(samples_ns) < len(rows) or min(samples_ns) <= 0:
        return None
    return Figures(
        program=Program.PERF_TEST,
        file=PurePosixPath(rows[0][0].strip()).name,
        p50_ms=percentile_ms(samples_ns, 0.5),
        p95_ms=percentile_ms(samples_ns, 0.95),
        p99_ms=percentile_ms(samples_ns, 0.99),
        mean_ms=sum(samples_ns) / len(samples_ns) / 1e6,
        runs=len(samples_ns),
    )


def _ms(number: str | None, unit_ms: float = 1.0) -> float | None:
    """A number in a unit of so many ms; None of none, and of nothing."""
    value = float(number) * unit_ms if number else 0.0
    return value or None
