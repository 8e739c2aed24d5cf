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

PERCENTILES = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [/usr/share/oob-demo-assets/models/ssd_mobilenet_v2_coco.tflite]
INFO: Signature to run: []
INFO: Use xnnpack: [0]
INFO: Loaded model /usr/share/oob-demo-assets/models/ssd_mobilenet_v2_coco.tflite
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 p5=1238753 median=1239807 \
p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): 1.24027e+06
"""
"""github.com/TexasInstruments/processor-sdk-doc"""

COMPILED_MODEL = """========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:92] Signature name:       prefill_1024
INFO: [benchmark_litert_model.h:94] Model initialization: 23744.73 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       7441.04 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         7441.04 ms (1 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      7430.20 ms (10 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      7416.40 ms
INFO: [benchmark_litert_model.h:106] Inference (max):      7448.86 ms
INFO: [benchmark_litert_model.h:108] Inference (std):      9.92
INFO: [benchmark_litert_model.h:115] Throughput:           27.46 MB/s
"""
"""github.com/mlcommons/mobile_app_open/issues/1134"""

IN_PYTHON = """2026-12-02 10:27:12 INFO benchmark_litert_model: Model:           /data/mobilenetv4_conv_small.fp32.tflite
2026-12-02 10:27:12 INFO benchmark_litert_model: Model size:      9.50 MB
2026-12-02 10:27:12 INFO benchmark_litert_model: Accelerators:    CPU
INFO: [environment.cc:36] Creating LiteRT environment with options
2026-12-02 10:27:12 INFO benchmark_litert_model: Model loaded (23.2 ms)
2026-12-02 10:27:12 INFO benchmark_litert_model: Running 20 benchmark iterations...

========================================
 BENCHMARK RESULTS
========================================
Model initialization:  23.23 ms
Warmup (first):        0.81 ms
Warmup (avg):          1.51 ms (5 runs)
Inference (avg):       0.54 ms (20 runs)
Inference (min):       0.47 ms
Inference (max):       0.68 ms
Inference (median):    0.52 ms
Inference (std):       0.06 ms
Inference (p5):        0.47 ms
Inference (p95):       0.63 ms
Throughput:            48.70 MB/s
Fully accelerated:     False
========================================
"""
"""litert-benchmark of ai-edge-litert 2.3.0, run for this project"""

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
            PERCENTILES,
            Figures(
                program=Program.BENCHMARK_MODEL,
                file="ssd_mobilenet_v2_coco.tflite",
                p50_ms=1239.807,
                p95_ms=1247.415,
                mean_ms=1240.27,
                load_ms=5.579,
                first_run_ms=1357.602,
                runs=50,
            ),
        ),
        (
            COMPILED_MODEL,
            Figures(program=Program.BENCHMARK_MODEL, mean_ms=7430.2, load_ms=23744.73, first_run_ms=7441.04, runs=10),
        ),
        (
            IN_PYTHON,
            Figures(
                program=Program.LITERT_BENCHMARK,
                file="mobilenetv4_conv_small.fp32.tflite",
                p50_ms=0.52,
                p95_ms=0.63,
                mean_ms=0.54,
                load_ms=23.23,
                first_run_ms=0.81,
                runs=20,
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
    ids=[
        "benchmark_model",
        "earlier",
        "percentiles",
        "compiled model",
        "in Python",
        "perf_test",
        "perf_test mean",
        "trtexec",
    ],
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
