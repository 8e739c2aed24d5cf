"""Keys hash the code that a stage runs: a byte changed in a format's folder makes that format's stages anew, and no
other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgedistill
from edgedistill.base import store
from edgedistill.base.source_code import code_version, reached
from edgedistill.base.store import stage_key
from edgedistill.documents.specs import Format
from edgedistill.formats import SHIPPED, format_for, tools_of
from edgedistill.pipeline import code

STAGES = """
import json
from edgedistill.base.source_code import code_version
from edgedistill.formats import SHIPPED
from edgedistill.pipeline import code
by_format = {
    f"{stage.__name__} {form}": [code_version(name) for name in stage(form)]
    for stage in (code.exporting, code.compiling, code.verifying, code.sampling, code.climbing)
    for form in SHIPPED
}
others = {name: [code_version(n) for n in getattr(code, name)] for name in ("SPACE", "TEACHER", "TRAINING", "TUNING")}
print(json.dumps(by_format | others))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(
        Path(edgedistill.__file__).parent, folder / "edgedistill", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(Path(edgedistill.__file__).parents[1] / "targets", folder / "targets")
    return folder


def keys(package: Path) -> dict[str, list[str]]:
    """The code of every stage, as a process that has the copy sees it."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-c", STAGES], capture_output=True, text=True, check=True, env=environment, cwd=package
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, list[str]]:
    """The code of every stage before anything changes."""
    return keys(package)


def changed(package: Path, before: dict[str, list[str]], file: str) -> set[str]:
    """The stages that are made anew where a byte of `file` changes."""
    path = package / "edgedistill" / file
    text = path.read_text()
    path.write_text(text + "#")
    try:
        after = keys(package)
    finally:
        path.write_text(text)
    return {stage for stage, versions in before.items() if after[stage] != versions}


ALL = ("exporting", "compiling", "verifying", "sampling", "climbing")


@pytest.mark.parametrize("form", SHIPPED)
def test_a_formats_folder_makes_its_own_stages_anew(package: Path, before: dict[str, list[str]], form: Format) -> None:
    wanted = {f"{stage} {form}" for stage in ALL}
    if format_for(form).portable is not form:
        wanted.remove(f"exporting {form}")
    # An engine is compiled from an ONNX file: what makes that makes the engine's portable file too.
    built_on = [other for other in SHIPPED if format_for(other).portable is form and other is not form]
    wanted |= {f"{stage} {other}" for other in built_on for stage in ("exporting", "climbing")}
    assert changed(package, before, f"formats/{form}/runtime.py") == wanted


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("formats/format.py", {f"{stage} {form}" for stage in ALL for form in SHIPPED}),
        ("devices/agent/agent_sampling.py", {f"sampling {form}" for form in SHIPPED}),
        ("selection/ladder.py", {f"climbing {form}" for form in SHIPPED}),
        ("distill/fit_teacher.py", {"TEACHER"}),
        ("pipeline/describe.py", set()),
        ("base/units.py", set()),
    ],
)
def test_what_several_share_makes_all_of_them_anew(
    package: Path, before: dict[str, list[str]], file: str, stages: set[str]
) -> None:
    found = changed(package, before, file)
    assert found >= stages if stages else not found


USED_BY = {
    "onnxruntime": {Format.ONNX, Format.TENSORRT},
    "onnxscript": {Format.ONNX, Format.TENSORRT},
    "tensorrt_rtx": {Format.TENSORRT},
    "coremltools": {Format.COREML},
    "ai-edge-litert": {Format.LITERT},
    "executorch": {Format.EXECUTORCH},
    "torch": set(SHIPPED),
}


@pytest.mark.parametrize("tool", USED_BY)
def test_a_new_version_of_a_package_makes_stages_of_the_formats_that_use_it_anew_and_no_other(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> dict[Format, str]:
        return {form: stage_key({}, tools=tools_of(form)) for form in SHIPPED}

    before, real = keys(), store.distribution_of
    monkeypatch.setattr(store, "distribution_of", lambda name: (name, "999") if name == tool else real(name))
    after = keys()
    assert {form for form in SHIPPED if after[form] != before[form]} == USED_BY[tool]


def test_imports_inside_functions_count() -> None:
    assert "edgedistill.formats.onnx.export" in reached("edgedistill.formats.onnx.runtime")
    assert "edgedistill.formats.litert.export" not in reached("edgedistill.formats.onnx.runtime")
    assert "edgedistill.networks.rounding.simulate" in reached("edgedistill.distill.under_rounding")
    assert not any(name.startswith("edgedistill.documents") for name in reached("edgedistill.formats"))


WRITTEN = {
    "plain": "import {0}.one\nfrom {0} import two\n",
    "in brackets": "from {0} import (\n    one,\n    two,  # the second\n)\n",
    "in a function": "def f():\n    from {0}.one import x\n    import {0}.two as y\n",
    "after a colon": "from {0} import one\nif one: import {0}.two\n",
    "after a semicolon": "import {0}.one; import {0}.two\nx = 1\n",
    "after another statement": "x = 1; import {0}.one, {0}.two\n",
    "over two lines": "from {0} import one, \\\n    two\n",
    "beside prose": '"""To use it:\n\nfrom here import what you need\n"""\nimport {0}.one, {0}.two\n',
}


@pytest.mark.parametrize("form", WRITTEN)
def test_an_import_counts_however_it_is_written(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"acme_{form.replace(' ', '_')}"
    (tmp_path / package).mkdir()
    for name, text in {
        "__init__": "",
        "one": "x = 1",
        "two": "",
        "three": "",
        "user": WRITTEN[form].format(package),
    }.items():
        (tmp_path / package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert reached(f"{package}.user") == {f"{package}.{name}" for name in ("user", "one", "two")}


def test_a_module_that_is_not_there() -> None:
    for name in ("edgedistill.no_such", "no_such_package"):
        with pytest.raises(ModuleNotFoundError):
            code_version(name)


def test_training_knows_no_format() -> None:
    for name in (*code.TRAINING, *code.TEACHER, *code.TUNING, *code.SPACE):
        assert not any(module.startswith("edgedistill.formats") for module in reached(name))
