"""What vendors' programs print, as people have published it."""

from __future__ import annotations

import pytest

from edgedistill.base.errors import InputError
from edgedistill.devices.programs import read_figures
from edgedistill.documents.imported import Figures, Program

BENCHMARK_MODEL = """STARTING!
Duplicate flags: num_threads
Num threads: [4]
Graph: [/data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite
The input model file size (MB): 0.004448
Initialized session in 0.855ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Peak memory footprint (MB): init=0 overall=12.8672
"""
"""github.com/tensorflow/tensorflow/issues/42507"""

EARLIER = """Graph: [/data/local/tmp/tflite/tfmodel/mobilenet_v1_1.0_224_quant.tflite]
Initialized session in 9.933ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=127425 curr=66709 min=66709 max=127425 avg=76605.9 std=20944

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=66753 curr=66800 min=66699 max=66838 avg=66767.6 std=39

Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6
"""
"""github.com/yuenshome/yuenshome.github.io/issues/77"""

PERF_TEST = """Total time cost: 58.8053
Total iterations: 1000
Average time cost: 58.8053 ms
Total run time: 58.8102 s
Min Latency is 0.0559777 sec
Max Latency is 0.0623472 sec
P50 Latency is 0.0587108 sec
P90 Latency is 0.0599845 sec
P95 Latency is 0.0605676 sec
P99 Latency is 0.0619517 sec
P999 Latency is 0.0623472 sec
"""
"""github.com/microsoft/onnxruntime/issues/17313"""

PERF_TEST_MEAN = """Session creation time cost: 0.127918 s
Total inference time cost: 1.44871 s
Total inference requests: 10
Average inference time cost: 144.871 ms
Total inference run time: 1.44916 s
Avg CPU usage: 68 %
Peak working set size: 158171136 bytes
"""
"""github.com/ARM-software/ComputeLibrary/issues/850"""

TRTEXEC = """&&&& RUNNING TensorRT.trtexec [TensorRT v100200] # C:\\bin\\trtexec.exe --loadEngine=FM_P_D_fp16.engine
[10/03/2024-10:47:59] [I] === Performance summary ===
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, \
percentile(90%) = 10.2996 ms, percentile(95%) = 10.8698 ms, percentile(99%) = 12.9675 ms
[10/03/2024-10:47:59] [I] Enqueue Time: min = 2.72876 ms, max = 15.0201 ms, mean = 7.63062 ms, median = 7.86694 ms
[10/03/2024-10:47:59] [I] GPU Compute Time: min = 5.34595 ms, max = 13.3388 ms, mean = 7.58404 ms, median = 7.14139 ms
"""
"""github.com/NVIDIA/TensorRT/issues/4177, with the first line of 4036"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            BENCHMARK_MODEL,
            Figures(
                program=Program.BENCHMARK_MODEL,
                file="espcn_harmonic_2x_slim_w_cl.tflite",
                mean_ms=33.2094,
                load_ms=0.855,
                first_run_ms=49.06,
                runs=50,
            ),
        ),
        (
            EARLIER,
            Figures(
                program=Program.BENCHMARK_MODEL,
                file="mobilenet_v1_1.0_224_quant.tflite",
                mean_ms=66.7676,
                load_ms=9.933,
                runs=15,
            ),
        ),
        (
            PERF_TEST,
            Figures(
                program=Program.PERF_TEST, mean_ms=58.8053, p50_ms=58.7108, p95_ms=60.5676, p99_ms=61.9517, runs=1000
            ),
        ),
        (PERF_TEST_MEAN, Figures(program=Program.PERF_TEST, mean_ms=144.871, load_ms=127.918, runs=10)),
        (
            TRTEXEC,
            Figures(
                program=Program.TRTEXEC,
                file="FM_P_D_fp16.engine",
                mean_ms=7.60628,
                p50_ms=7.16092,
                p95_ms=10.8698,
                p99_ms=12.9675,
            ),
        ),
    ],
    ids=["benchmark_model", "earlier", "perf_test", "perf_test mean", "trtexec"],
)
def test_recorded_outputs(text: str, expected: Figures) -> None:
    for ending in ("\n", "\r\n"):
        found = read_figures(text.replace("\n", ending), "text")
        assert found.model_dump() == pytest.approx(expected.model_dump())


def test_a_file_of_results_has_its_own_percentiles() -> None:
    rows = [f"student-int8.onnx,{0.001 * (1 + number / 100):.6f},1000" for number in range(100)]
    found = read_figures("\n".join(rows), "RESULT")
    assert (found.file, found.runs) == ("student-int8.onnx", 100)
    assert (found.p50_ms, found.p95_ms) == (pytest.approx(1.49), pytest.approx(1.94))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no output that is known here"),
        ("hello\nworld", "is no output that is known here"),
        ("a,b,c\n1,2,3", "is no output that is known here"),
        ("m,0.1,1\nm,zero,1", "is no output that is known here"),
        ("m,0.1,1\nm,-1,1", "is no output that is known here"),
        ("m,0.1,1\nm,inf,1", "is no output that is known here"),
        ("m,0.1,1\nm,nan,1", "is no output that is known here"),
        ("Running benchmark for at least 50 iterations\nSegmentation fault", "tells no latency"),
        ("[I] Latency: min = nan ms", "tells no latency"),
        ("[I] Latency: min = . ms, median = ... ms", "tells no latency"),
    ],
)
def test_what_holds_no_latency_is_told(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_figures(text, "text")


def test_what_is_known_is_named() -> None:
    with pytest.raises(InputError) as caught:
        read_figures("hello", "text")
    assert all(program in caught.value.fix for program in ("benchmark_model", "onnxruntime_perf_test", "trtexec"))
    assert "kit" not in caught.value.fix.partition(", or")[0]
