"""A Mac for tests where there is none: an interpreter whose coremltools finds a stand-in for Core ML beneath it.

coremltools is the real one. What it loads Core ML through, `coremltools.libcoremlpython`, is not in its wheels for Linux:
`core_ml.py` beside this file takes its place. So these tests show what is asked of coremltools and what is made of its
answers, and nothing of Core ML.
"""

from __future__ import annotations

import site
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import coremltools

STAND_IN = Path(__file__).with_name("core_ml.py")
SITE = """
import importlib.util, site, sys
for folder in {folders!r}:
    site.addsitedir(folder)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "coremltools.libcoremlpython" and {stand_in!r}:
            return importlib.util.spec_from_file_location(name, {stand_in!r})
        if name in ("torch", "sklearn"):  # coremltools takes seconds to import them, and measuring needs neither
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Finder)
"""


def mac_python(folder: Path, on_cpu: Sequence[str] = (), *, core_ml: bool = True) -> str:
    """The interpreter, in an environment that is made in `folder`. `on_cpu` are the operations that its Core ML leaves to
    the CPU. Without `core_ml` it is any other machine with coremltools."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    own = [str(Path(coremltools.__file__).parents[1]), *site.getsitepackages()]
    source = SITE.format(folders=list(dict.fromkeys(own)), stand_in=str(STAND_IN) if core_ml else None)
    (packages / "made_a_mac.py").write_text(source)
    (packages / "made_a_mac.pth").write_text("import made_a_mac\n")
    (folder / "on-cpu").write_text("\n".join(on_cpu))
    return str(folder / "bin" / "python")
