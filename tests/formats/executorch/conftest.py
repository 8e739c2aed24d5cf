"""One trained student and its files, made once: lowering takes seconds a file."""

from __future__ import annotations

import pytest
from executorch_students import Built, build_files, train_student
from torch import nn


@pytest.fixture(scope="session")
def student() -> nn.Module:
    return train_student()


@pytest.fixture(scope="session")
def built(student: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_files(student, tmp_path_factory.mktemp("executorch"))
