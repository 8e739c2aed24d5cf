"""`python -m edgedistill.schemas`: write every schema from the models, beside this file."""

from __future__ import annotations

from edgedistill.schemas import NAMES, generate, schema_path
from edgedistill.store import write_atomic


def main() -> None:
    for name in NAMES:
        write_atomic(schema_path(name), generate(name))


if __name__ == "__main__":
    main()
