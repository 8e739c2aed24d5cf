"""What is in the files that cannot run here: the TensorRT engines' records, the Core ML packages read back.

python benchmarks/inspect_package.py examples/digits/out [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for artifact in json.loads((arguments.out / "build.json").read_text())["artifacts"]:
        if artifact["verification"]["kind"] != "inspected":
            continue
        rows.append({key: artifact[key] for key in ("path", "format", "precision", "bytes", "record", "verification")})
        print(f"\n{artifact['path']}  {artifact['bytes']} bytes")
        for name, value in artifact["record"].items():
            print(f"  {name}: {value}")
        for check in artifact["verification"]["checks"]:
            print(f"  checked: {check}")
        if artifact["format"] == "coreml":
            import coremltools

            model = coremltools.models.MLModel(str(arguments.out / artifact["path"]), skip_model_load=True)
            spec = model.get_spec()
            print("  read back by coremltools:", str(spec.description.input).replace("\n", " "))
            print("  read back by coremltools:", str(spec.description.output).replace("\n", " "))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
