from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def realistic() -> ModuleType:
    """The made-up builds that the report's tests use too."""
    path = Path(__file__).parents[1] / "report/realistic.py"
    spec = importlib.util.spec_from_file_location("realistic", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
