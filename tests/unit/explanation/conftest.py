from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def realistic() -> ModuleType:
    """Made-up builds, as they would really end."""
    spec = importlib.util.spec_from_file_location("realistic", Path(__file__).parents[1] / "report/realistic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
