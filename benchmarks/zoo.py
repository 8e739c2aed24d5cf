"""Which of timm's device models become which formats, each file run and compared with its model.

    python benchmarks/zoo.py --models benchmarks/zoo_models.txt --formats onnx,coreml,tensorrt,litert,executorch --json OUT
                             [--keep DIR] [--measure] [--again failed|all]

Each model is built with seeded random weights, and batch norms that have seen data: statistics of forward passes over
coloured noise, affine parameters away from 1 and 0. Its weights go to `edgedistill export timm:NAME --checkpoint FILE` in a
process of its own, as a user would run it. A row a model and format:

    model, format, parameters, ok, parity, seconds, bytes, p50_ms, cause

`parity` is the largest difference of any logit over eight images, the share of images with the same top class, and what
computed it: the format's runtime, or (Core ML) the reference interpreter. An engine has none without its GPU: `ok` says
there that it was built. `seconds` are conversion and compilation. `p50_ms` comes with --measure: when all files are there
(--keep has to keep them), one session of each that runs here, with one thread and random inputs (a second, at least 60
runs); times of one run are comparable on a quiet machine alone.

Rows are written after each model; a second run keeps those that are there, or makes the failed ones or all again, and
measures what was not measured yet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
from measuring import one_session
from torch import nn

from edgedistill.devices.stats import measured_latency
from edgedistill.documents.targets import load_target
from edgedistill.formats.foreign import open_file

TIMEOUT_S = 1800


def write_weights(name: str, path: Path) -> int:
    """Seeded weights of timm's model `name` to `path`; returns the number of parameters."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
            module.momentum = None  # the mean over all passes
        # Layer scale begins so small (1e-6) that a wrong branch would not show.
        for parameter in ("gamma", "layer_scale_1", "layer_scale_2"):
            value = getattr(module, parameter, None)
            if isinstance(value, nn.Parameter) and float(value.detach().abs().max()) < 1e-2:
                nn.init.uniform_(value, 0.5, 1.0, generator=generator)
    settings = timm.get_pretrained_cfg(name)
    side = settings.input_size[-1] if settings else 224
    network.train()
    with torch.no_grad():
        for _ in range(2):
            coarse = torch.randn(8, 3, 7, 7, generator=generator)
            images = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
            network(images + 0.2 * torch.randn(8, 3, side, side, generator=generator))
    torch.save(network.state_dict(), path)
    return sum(p.numel() for p in network.parameters())


def export(name: str, formats: list[str], out: Path) -> list[dict[str, Any]]:
    """A row a format."""
    weights = out / "weights.pt"
    parameters = write_weights(name, weights)
    command = [sys.executable, "-m", "edgedistill", "export", f"timm:{name}", "--checkpoint", str(weights)]
    command += ["--formats", ",".join(formats), "--out", str(out), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        answer = {"error": {"message": f"{type(error).__name__}: the command gave no answer", "problems": []}}
    if "error" in answer:
        problems = [f"{p['where']}: {p['what']}" for p in answer["error"]["problems"]]
        cause = "; ".join([answer["error"]["message"], *problems])
        return [row(name, form, parameters, ok=False, cause=cause) for form in formats]
    rows = []
    for file in answer["files"]:
        parity = file["parity"]
        rows.append(
            row(
                name,
                file["format"],
                parameters,
                ok=True,
                parity=None if parity is None else {**parity, "computed_by": file["computed_by"]},
                seconds=round(file["seconds_conversion"], 2),
                bytes=file["bytes"],
                file=file["path"],
                fallbacks=file["fallbacks"],
                remarks=file["checks"] if parity else [],
            )
        )
    for failure in answer["failures"]:
        cause = "; ".join([failure["cause"], *failure["problems"]])
        rows.append(
            row(name, failure["format"], parameters, ok=False, cause=cause, seconds=round(failure["seconds"], 2))
        )
    return rows


def row(model: str, form: str, parameters: int, *, ok: bool, **found: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "parity": None,
        "seconds": None,
        "bytes": None,
        "p50_ms": None,
        "cause": "",
        "file": None,
        "fallbacks": None,
        "remarks": [],
    }
    return {"model": model, "format": form, "parameters": parameters, "ok": ok, **empty, **found}


def measure(path: Path) -> float:
    """p50 in ms of one session of a file on this machine, with random inputs."""
    artifact = open_file(path, load_target("host")).artifact
    return measured_latency(one_session(artifact, None, None, 1.0)).p50_ms


def summary(rows: list[dict[str, Any]], formats: list[str]) -> dict[str, str]:
    total = Counter(r["format"] for r in rows)
    good = Counter(r["format"] for r in rows if r["ok"])
    return {form: f"{good[form]} of {total[form]}" for form in formats}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--formats", default="onnx,coreml,tensorrt,litert,executorch")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--again", choices=("failed", "all"))
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps the files, one of its own a model")
    arguments = parser.parse_args()
    if arguments.measure and arguments.keep is None:
        parser.error("--measure needs --keep DIR: files are measured when all of them are there")
    formats = arguments.formats.split(",")
    names = arguments.models.read_text().split()
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text())["rows"] if arguments.json.is_file() else []
    if arguments.again:
        rows = [r for r in rows if arguments.again == "failed" and r["ok"]]

    def write() -> None:
        arguments.json.write_text(json.dumps({"summary": summary(rows, formats), "rows": rows}, indent=1) + "\n")

    for name in names:
        missing = [f for f in formats if not any(r["model"] == name and r["format"] == f for r in rows)]
        if not missing:
            continue
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            folder = Path(
                arguments.keep / name if arguments.keep else stack.enter_context(tempfile.TemporaryDirectory())
            )
            folder.mkdir(parents=True, exist_ok=True)
            made = export(name, missing, folder)
        rows += made
        rows.sort(key=lambda r: (names.index(r["model"]) if r["model"] in names else -1, r["format"]))
        write()
        told = ", ".join(f"{r['format']} {'ok' if r['ok'] else 'FAILED'}" for r in made)
        print(f"{name}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
    for found in rows if arguments.measure else ():
        if found["ok"] and found["p50_ms"] is None and found["format"] in ("onnx", "litert", "executorch"):
            found["p50_ms"] = measure(arguments.keep / found["model"] / found["file"])
            print(f"{found['model']} {found['format']}: p50 {found['p50_ms']} ms", flush=True)
            write()
    for form, text in summary(rows, formats).items():
        print(f"{form}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
