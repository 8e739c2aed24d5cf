"""The browser and the onnxruntime-web of the user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgedistill.base.errors import MissingDependencyError

BROWSER_VARIABLE = "EDGEDISTILL_BROWSER"
"""Names the browser's program, where it is none of `PROGRAMS` on the path."""
RUNTIME_VARIABLE = "EDGEDISTILL_ONNXRUNTIME_WEB"
"""Names the folder of onnxruntime-web, where it is not in node_modules of this folder or of one above."""
PACKAGE = "onnxruntime-web"
PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
SCRIPTS = {False: "dist/ort.wasm.min.mjs", True: "dist/ort.webgpu.min.mjs"}
"""What the page loads of the package, without and with the GPU: releases from 1.19 on have them under these names."""


@dataclass(frozen=True)
class Runtime:
    """An installed onnxruntime-web."""

    folder: Path
    version: str


def browser() -> Path:
    """The program of the browser. Raises MissingDependencyError."""
    named = os.environ.get(BROWSER_VARIABLE, "").strip()
    for program in (named,) if named else PROGRAMS:
        if found := shutil.which(program):
            return Path(found)
    what = f"{BROWSER_VARIABLE} names {named}, which is no program" if named else "no Chromium or Chrome is installed"
    raise MissingDependencyError(
        what, fix=f"install one, e.g. apt install chromium, or set {BROWSER_VARIABLE} to its path"
    )


@cache
def browser_version(program: Path) -> str:
    """`Chromium 156.0.8078.79`, as it calls itself; its file's name where it does not tell."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return program.name
    return (
        " ".join(word for word in done.stdout.split() if word not in ("built", "on")).partition(" Debian")[0]
        or program.name
    )


def runtime(gpu: bool = False) -> Runtime:
    """The onnxruntime-web that `$EDGEDISTILL_ONNXRUNTIME_WEB` names, else that of the nearest node_modules from this folder
    upwards. Raises MissingDependencyError for none, or one without the script that the page loads for the CPU or the
    `gpu`."""
    named = os.environ.get(RUNTIME_VARIABLE, "").strip()
    here = Path.cwd()
    places = [Path(named).expanduser()] if named else [p / "node_modules" / PACKAGE for p in (here, *here.parents)]
    folder = next((place for place in places if (place / "package.json").is_file()), None)
    fix = f"npm install {PACKAGE} in the folder of your app and run there, or set {RUNTIME_VARIABLE} to its folder"
    if folder is None:
        where = f"{named}, which {RUNTIME_VARIABLE} names, is not" if named else "no node_modules here or above has"
        raise MissingDependencyError(f"{where} {PACKAGE}", fix=fix)
    try:
        version = str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError) as error:
        raise MissingDependencyError(f"{folder / 'package.json'} cannot be read: {error}", fix=fix) from None
    if not (folder / SCRIPTS[gpu]).is_file():
        raise MissingDependencyError(
            f"{PACKAGE} {version} in {folder} has no {SCRIPTS[gpu]}",
            fix=f"npm install {PACKAGE}@latest brings a newer one",
        )
    return Runtime(folder.resolve(), version)
