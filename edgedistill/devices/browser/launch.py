"""Becomes the browser, so that it ends with the process that asked for it. Standard library only; see process.py.

python -EP launch.py AGENT_MACHINE PARENT PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import importlib.util
import os
import sys


def main() -> None:
    """Ask the kernel to end this process with its parent, which outlives `exec`, and become the program."""
    path, parent, program, *arguments = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("agent_machine", path)
    assert spec is not None and spec.loader is not None
    machine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(machine)
    if sys.platform == "linux":
        machine.die_with_parent(int(parent))
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
