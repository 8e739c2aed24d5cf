"""`python -m edgedistill.outputs.schemas`: write every schema from the models, beside this file."""

from __future__ import annotations

from edgedistill.base.store import write_atomic
from edgedistill.outputs.schemas import NAMES, generate, schema_path


def main() -> None:
    for name in NAMES:
        write_atomic(schema_path(name), generate(name))


if __name__ == "__main__":
    main()
