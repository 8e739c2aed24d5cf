"""How long the commands of docs/tutorials/app.md take, behind a finished build.

    python benchmarks/app_walk.py OUT --json FILE

Each command runs in a new folder in which OUT, the output folder of a finished build of the clip art example, lies where the
page has it. A command whose tool is not there is left out, and named. npm's packages are fetched once before, so that the
network is no part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorials" / "app.md"
_BLOCK = re.compile(r"<!-- test: skip, run by [^>]*-->\n```console\n(.*?)```", re.DOTALL)
_TOOLS = ("npm", "swift")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    commands = [line.removeprefix("$ ") for block in _BLOCK.findall(PAGE.read_text()) for line in block.splitlines()]
    rows, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "examples" / "clipart").mkdir(parents=True)
        shutil.copytree(arguments.out / "package", root / "examples" / "clipart" / "out" / "package")
        for command in commands:
            tool = next((name for name in _TOOLS if f" {name} " in f" {command} "), "")
            if tool and shutil.which(tool) is None:
                left_out.append(command)
                continue
            if "npm install" in command:  # once for npm's own cache
                run(command, root)
                shutil.rmtree(root / "web" / "node_modules")
            rows.append({"command": command, "seconds": round(run(command, root), 1)})
            print(f"{rows[-1]['seconds']:7.1f} s  {command}")
    document = {"rows": rows, "left_out": left_out}
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def run(command: str, root: Path) -> float:
    """Seconds of a command, in the environment of this Python."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    began = time.monotonic()
    done = subprocess.run(command, shell=True, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
