"""`import edgedistill` gives the commands as functions, before and after they are used."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import edgedistill


def test_no_submodule_bears_the_name_of_a_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(edgedistill.__path__)}
    assert len(modules) >= 12
    assert not modules & set(edgedistill.__all__)


def test_every_command_that_answers_with_a_document_is_a_function_still_after_all_modules_are_loaded() -> None:
    code = """
import importlib, json, pkgutil, edgedistill
for module in pkgutil.walk_packages(edgedistill.__path__, "edgedistill."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError:
            pass
print(json.dumps({name: str(type(getattr(edgedistill, name))) for name in edgedistill.__all__}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kinds = json.loads(done.stdout.splitlines()[-1])
    for name in ("build", "evaluate", "export", "inspect", "profile", "quantize", "run", "search", "verify"):
        assert kinds[name] == "<class 'function'>"
    assert set(edgedistill.__all__) <= set(dir(edgedistill))
