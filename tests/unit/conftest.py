from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def realistic() -> ModuleType:
    """Made-up builds, as they would really end."""
    import realistic

    return realistic
