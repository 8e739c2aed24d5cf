"""The section of what `benchmarks/device_ways.py` found: one file measured by several ways to one machine."""

from __future__ import annotations

from sections import RESULTS, Section, result

NAME = "device_ways"


def sections() -> list[Section]:
    """One, where there are results."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    files = result(NAME)["files"]
    rows = tuple(
        (
            f"`{file['file'].partition('.')[0]}`",
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
            f"A file in sessions of {files[0]['seconds']:g} s, {files[0]['rounds']} rounds of each way in an order drawn "
            "anew, all on the same processor. SSH is a real sshd, ADB a real adbd, both on the loopback interface. There "
            "the agent in Python measures, or the runner in C++. Beside them are plain loops around ONNX Runtime. The "
            "bound loop binds inputs and outputs once. In the others that are Python, a run makes its arrays; in the runner "
            "it does not, and it is the faster one where a run takes little time. The ratio is that of p50 to the local "
            "agent's in the same round, the geometric mean over rounds, with its 95% interval.",
            "edgedistill export timm:resnet18 --random-weights --classes 10 --resolution 128 --out F\n"
            "    edgedistill export timm:mobilenetv4_conv_small --random-weights --classes 10 --resolution 96 --out F\n"
            f"    for f in F/*.onnx; do python benchmarks/device_ways.py $f --rounds {files[0]['rounds']} --json FILE; done",
            ("file", "way", "#p50 (ms)", "#ratio", "#95% interval"),
            rows,
        )
    ]
