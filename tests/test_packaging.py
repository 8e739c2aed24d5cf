"""What is installed is what is needed: dependencies declared and bounded, SDKs in their adapters, data in the wheel."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgedistill.documents.specs import Format
from edgedistill.formats import SHIPPED, format_for

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRAS = {
    extra: [Requirement(text) for text in texts]
    for extra, texts in PROJECT["project"]["optional-dependencies"].items()
    if extra not in ("all", "dev")
}
OPTIONAL = [requirement for requirements in EXTRAS.values() for requirement in requirements]

# Who may import what. ruff's `banned-api` has the same modules, but allows a file all of them or none.
ADAPTERS = {
    "onnxruntime": ("formats/onnx/*.py",),
    "tensorrt": ("formats/tensorrt/*.py",),
    "tensorrt_rtx": ("formats/tensorrt/*.py",),
    "coremltools": ("formats/coreml/*.py", "formats/coreml_sdk.py"),
    "torchao": ("networks/rounding/*.py", "formats/*/*.py"),
    "ai_edge_litert": ("formats/litert/*.py",),
    "ai_edge_quantizer": ("formats/litert/*.py",),
    "litert_torch": ("formats/litert/*.py",),
    "executorch": ("formats/executorch/*.py",),
    "typer": ("cli/*.py",),
    "rich": ("cli/*.py",),
}
# Import names whose package comes with another at the very release that one needs, or has a name of its own.
COMES_WITH = {"pydantic_core": "pydantic", "google": "protobuf"}


def runs_later_or_never(node: ast.AST) -> bool:
    """Whether `node` is a function or a block for annotations alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imports() -> Iterator[tuple[str, str, bool]]:
    """(file in the package, module, whether it runs when the file is imported) of every import of another package,
    `import_module("...")` included. The programs of `kits` are no part of it: nothing here imports them."""
    kits = ROOT / "edgedistill" / "outputs" / "kits" / "python"
    for path in sorted(set((ROOT / "edgedistill").rglob("*.py")) - set(kits.rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = {id(node) for block in ast.walk(tree) if runs_later_or_never(block) for node in ast.walk(block)}
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                modules = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            for module in modules:
                root = module.partition(".")[0]
                if root != "edgedistill" and root not in sys.stdlib_module_names:
                    yield path.relative_to(ROOT / "edgedistill").as_posix(), module, id(node) not in late


def test_only_adapters_import_a_vendors_sdk_and_only_the_command_line_the_terminal() -> None:
    strays = [
        f"{file} imports {module}"
        for file, module, _ in imports()
        if (root := module.partition(".")[0]) in ADAPTERS
        and not any(fnmatch(file, pattern) for pattern in ADAPTERS[root])
    ]
    assert strays == []


def test_a_vendors_sdk_is_imported_when_it_is_used() -> None:
    """A machine without coremltools imports every module; a build without TensorRT never loads it."""
    terminal = ("typer", "rich")
    early = [
        f"{file} imports {module}"
        for file, module, at_import in imports()
        if at_import and (root := module.partition(".")[0]) in ADAPTERS and root not in terminal
    ]
    assert early == []


@pytest.mark.parametrize("form", SHIPPED)
def test_what_a_format_imports_is_among_its_tools(form: Format) -> None:
    """Else a new version of it would find the files that an old one made in the cache."""
    tools = {tool.replace("-", "_") for tool in format_for(form).tools}
    roots = {module.partition(".")[0] for file, module, _ in imports() if file.startswith(f"formats/{form}/")}
    assert roots & {*ADAPTERS, "torch", "onnx"} <= tools


def test_ruff_bans_what_only_adapters_may_import() -> None:
    banned = PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == set(ADAPTERS)


def test_every_import_is_of_a_declared_dependency() -> None:
    declared = {canonicalize_name(r.name) for r in [*DEPENDENCIES, *OPTIONAL]}
    provides = packages_distributions()
    undeclared = set()
    for file, module, _ in imports():
        root = module.partition(".")[0]
        names = {COMES_WITH[root]} if root in COMES_WITH else set(provides.get(root, [root]))
        # tqdm is silenced where another package brought it.
        if root != "tqdm" and not {canonicalize_name(name) for name in names} & declared:
            undeclared.add(f"{file} imports {module}")
    assert undeclared == set()


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *OPTIONAL], ids=str)
def test_a_dependency_is_a_range_that_admits_the_tested_release(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {">=", "<"}, "a floor and a ceiling, no pin"
    tested = dict(line.split("==") for line in (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines())
    versions = {canonicalize_name(name): version for name, version in tested.items()}
    assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_constraints_are_version_lines_and_nothing_else() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []


@pytest.mark.parametrize(
    ("system", "machine", "python", "coreml", "builder", "litert"),
    [
        ("linux", "x86_64", "3.11", True, True, True),
        ("linux", "aarch64", "3.11", False, False, False),
        ("darwin", "arm64", "3.13", True, False, True),
        ("win32", "AMD64", "3.12", False, True, False),
        ("linux", "x86_64", "3.14", False, True, True),
    ],
)
def test_a_vendor_without_a_package_for_a_machine_is_not_asked_for(
    system: str, machine: str, python: str, coreml: bool, builder: bool, litert: bool
) -> None:
    there = {"sys_platform": system, "platform_machine": machine, "python_version": python}
    environment = {key: str(value) for key, value in {**default_environment(), **there}.items()}

    def asked(requirements: list[Requirement], name: str) -> bool:
        (found,) = [r for r in requirements if r.name == name]
        return found.marker is not None and found.marker.evaluate(environment)

    assert asked(DEPENDENCIES, "coremltools") is coreml
    assert asked(EXTRAS["tensorrt"], "tensorrt-rtx-cu12") is builder
    assert asked(EXTRAS["litert"], "litert-torch") is asked(EXTRAS["litert"], "ai-edge-quantizer") is litert


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution; the wheel is made from the latter, as an index's users get it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_has_every_file_of_the_package_targets_profiles_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "edgedistill").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    targets = {f"edgedistill/_targets/{path.name}" for path in (ROOT / "targets").glob("*.toml")}
    assert len(targets) >= 8
    profiles = {f"edgedistill/_profiles/{path.name}" for path in (ROOT / "profiles").iterdir()}
    assert names == package | targets | profiles
    for needed in (
        "py.typed",
        "devices/agent/agent.py",
        "outputs/report/templates/report.js",
        "outputs/schemas/build.schema.json",
    ):
        assert f"edgedistill/{needed}" in names


def test_the_source_distribution_can_be_tested(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("Makefile", "LICENSE", "README.md", "targets/host.toml", "tests/test_packaging.py"):
        assert needed in names
    unwanted = re.compile(r"(^|/)(\.venv|out|__pycache__|\.git|\.hypothesis)/")
    assert [name for name in names if unwanted.search(name)] == []


def test_the_wheel_finds_its_own_targets_and_profiles(built: Path, tmp_path: Path) -> None:
    """Unpacked and run from another folder, with no checkout beside it."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "edgedistill", "targets"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for path in (ROOT / "targets").glob("*.toml"):
        assert path.stem in done.stdout
    code = """
from edgedistill.devices.latency.folders import shipped_folder
from edgedistill.devices.latency.profiles import list_profiles
from edgedistill.documents.targets import targets_folder
assert not list_profiles(str).problems
print(targets_folder(), shipped_folder())
"""
    folders = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split()
    assert folders == [str(tmp_path / "site/edgedistill" / name) for name in ("_targets", "_profiles")]


_COMMANDS = ["build", "calibrate", "doctor", "examine", "explain", "export", "init", "profile", "profiles", "quantize"]


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_command_loads_no_torch_before_it_trains_or_exports(command: str) -> None:
    """That takes seconds. What is asked for is checked before."""
    code = f"""
import sys
from edgedistill.formats import SHIPPED, format_for
import edgedistill.commands.{command}
[format_for(form) for form in SHIPPED]
print({{"torch", "timm", "onnx"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
