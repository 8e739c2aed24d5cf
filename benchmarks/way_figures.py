"""The section of what `benchmarks/device_ways.py` found: one file measured by several ways to one machine."""

from __future__ import annotations

from sections import RESULTS, Section, result

NAME = "device_ways"
EXPORT = (
    "edgedistill export timm:{model} --random-weights --classes 10 --resolution {side} --formats onnx,litert "
    "--precision fp32 --out F"
)


def sections() -> list[Section]:
    """One, where there are results."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    files = result(NAME)["files"]
    rows = tuple(
        (
            f"`{file['file']}`",
            str(file["rounds"]),
            row["way"],
            f"{row['p50_ms']:.3f}",
            f"{row['ratio']:.3f}",
            "-" if row["way"] == "here" else f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}",
        )
        for file in files
        for row in file["rows"]
    )
    return [
        Section(
            "One file by several ways",
            f"A file in sessions of {files[0]['seconds']:g} s, rounds of each way in an order drawn anew, all on the same "
            "processor. SSH is a real sshd, ADB a real adbd, both on the loopback interface. There "
            "the agent in Python measures, the runner in C++, or a vendor's program, which is not pinned. Beside them are "
            "plain loops around the runtime. The bound loop binds inputs and outputs once; one invokes alone. In the others "
            "that are Python a run makes its arrays; in the runner it does not, which shows in short runs of ONNX Runtime. "
            "Each file had a sitting of its own. The ratio is that of p50 to the local agent's in the same round, the "
            "geometric mean over rounds, with its 95% interval.",
            f"{EXPORT.format(model='resnet18', side=128)}\n    {EXPORT.format(model='mobilenetv4_conv_small', side=96)}\n"
            "    for f in F/*.onnx F/*.tflite; do "
            "python benchmarks/device_ways.py $f --rounds ROUNDS --json FILE; done",
            ("file", "#rounds", "way", "#p50 (ms)", "#ratio", "#95% interval"),
            rows,
        )
    ]
